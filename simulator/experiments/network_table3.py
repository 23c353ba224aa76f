"""Experiment: our extractor beside published ones over the full code set (the paper's table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from label_config.measured import Measured, Progress
from simulator.experiments.chosen import EVERYTHING, Chosen
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import Site, knowledge
from simulator.experiments.network_rivals import rival_names
from simulator.experiments.network_trial import Contestant, Setting, compare
from training.rival_models import RivalName
from training.stages import StagesConfig

QUICK_RIVALS: dict[str, RivalName] = {"BERT": "BERT", "PLM-CA": "PLM-CA"}
"""The cheap ones."""


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
    chosen: Chosen = EVERYTHING,
) -> Measured:
    """Every code that the simulator's knowledge holds: ours, less a part, and published ones.

    Stage 1 is left out: the rows differ in their extractor, and in whether they learn from coders'
    highlights, which the published ones do not. --quick takes three seeds and 400
    noisy, 100 clean and 200 unseen EMRs, too few for most codes. `data` is not used.
    """
    config = StagesConfig.quick() if quick else StagesConfig.best()
    bare = replace(config, extractor=replace(config.extractor, layers=0))
    unmarked = replace(config, clean=replace(config.clean, evidence=0.0))
    contestants: dict[str, Contestant] = {
        "noisy and clean": Setting(config, raw=False),
        "without noisy": Setting(config, raw=False, noisy=False),
        "without graph": Setting(bare, raw=False),
        "without highlights": Setting(unmarked, raw=False),
        **(QUICK_RIVALS if quick else rival_names()),
    }
    site = Site(codes=len(knowledge().codes))
    return compare(
        contestants,
        quick=quick,
        seeds=seeds,
        progress=progress,
        sites=(site,),
        kept=kept,
        chosen=chosen,
    )
