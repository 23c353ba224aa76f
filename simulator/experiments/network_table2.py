"""Experiment: our extractor beside published ones, and what its EMRs are worth (table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from label_config.measured import Measured, Progress
from simulator.experiments.network_data import HPH, Site
from simulator.experiments.network_rivals import rival_names
from simulator.experiments.network_trial import Contestant, Setting, compare
from training.stages import StagesConfig

SITES = (HPH, Site(codes=100), Site("aph"), Site("aph", codes=100))
"""The paper's: two hospitals, 50 and 100 codes each."""


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
) -> Measured:
    """Three stages; without noisy, raw, both, or the graph; CAML, LAAT, JointLAAT, BERT, PLM-CA.

    The paper has micro-F1 fall by 0.134 without noisy EMRs and by 0.012 without raw ones. The
    published extractors learn from the same noisy and clean EMRs by the same features. --quick
    takes the preset `quick`, three seeds and one hospital with 50 codes: 200 raw, 400 noisy, 100
    clean and 200 unseen EMRs; else `best`, and the paper's own settings beside it. `data` is not
    used.
    """
    contestants = ablations(StagesConfig.quick() if quick else StagesConfig.best())
    contestants |= rival_names()
    if not quick:
        paper = ablations(StagesConfig.paper())
        contestants |= {f"{name}, as printed": setting for name, setting in paper.items()}
    sites = (HPH,) if quick else SITES
    return compare(contestants, quick=quick, seeds=seeds, progress=progress, sites=sites)


def ablations(config: StagesConfig) -> dict[str, Contestant]:
    """Our own rows for one preset."""
    bare = replace(config, extractor=replace(config.extractor, layers=0))
    return {
        "three stages": Setting(config),
        "without noisy": Setting(config, noisy=False),
        "without raw": Setting(config, raw=False),
        "without both": Setting(config, raw=False, noisy=False),
        "without graph": Setting(bare),
    }
