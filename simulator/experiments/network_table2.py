"""Experiment: our extractor beside published ones, and what its EMRs are worth (table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from label_config.measured import Measured, Progress
from simulator.experiments.chosen import EVERYTHING, Chosen
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import HPH, Site
from simulator.experiments.network_rivals import rival_names
from simulator.experiments.network_trial import Contestant, Setting, change_said, compare
from training.stages import StagesConfig

SITES = (HPH, Site(codes=100), Site("aph"), Site("aph", codes=100))
"""The paper's: two hospitals, 50 and 100 codes each."""
WHOLE = "three stages"
PAPER = {"without noisy": -0.134, "without raw": -0.012}
"""What leaving a stage out changes micro-F1 by in the paper."""


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
    chosen: Chosen = EVERYTHING,
) -> Measured:
    """Three stages; without one of their parts; CAML, LAAT, JointLAAT, BERT, PLM-CA.

    The paper has micro-F1 fall by 0.134 without noisy EMRs and by 0.012 without raw ones. The
    published extractors learn from the same noisy and clean EMRs by the same features, but from no
    coder's highlights, as our row "without highlights" does. --quick takes the preset `quick`,
    three seeds and one hospital with 50 codes: 200 raw, 400 noisy, 100 clean and 200 unseen EMRs;
    else `best`, and the paper's own settings, which know no highlights, beside it. `data` is not
    used.
    """
    contestants = ablations(StagesConfig.quick() if quick else StagesConfig.best())
    contestants |= rival_names()
    if not quick:
        paper = ablations(StagesConfig.paper())
        contestants |= {f"{name}, as printed": setting for name, setting in paper.items()}
    sites = (HPH,) if quick else SITES
    measured = compare(
        contestants,
        quick=quick,
        seeds=seeds,
        progress=progress,
        sites=sites,
        kept=kept,
        chosen=chosen,
    )
    return replace(measured, findings=findings(measured.rows))


def ablations(config: StagesConfig) -> dict[str, Contestant]:
    """Our own rows for one preset."""
    bare = replace(config, extractor=replace(config.extractor, layers=0))
    unmarked = replace(config, clean=replace(config.clean, evidence=0.0))
    found = {
        WHOLE: Setting(config),
        "without noisy": Setting(config, noisy=False),
        "without raw": Setting(config, raw=False),
        "without both": Setting(config, raw=False, noisy=False),
        "without graph": Setting(bare),
        "without highlights": Setting(unmarked),
    }
    return {
        name: setting for name, setting in found.items() if name == WHOLE or setting != found[WHOLE]
    }


def findings(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Whether the paper's ordering holds, and which extractor is best, per hospital."""
    said = []
    for place in dict.fromkeys(row["hospital"] for row in rows):
        mine = [row for row in rows if row["hospital"] == place]
        for name, theirs in PAPER.items():
            changes = [row["change"] for row in mine if row["setting"] == name]
            if not changes:
                continue
            ours, told = change_said(changes)
            way = "the same way" if float(np.mean(changes)) * theirs > 0 else "the other way"
            sure = way if told else f"{way}, but these seeds cannot tell it from none"
            said.append(
                f"{place}: {name} EMRs micro-F1 changes by {ours}; in the paper by {theirs:+.3f}: "
                f"{sure}."
            )
        mean: dict[str, float] = {}
        for name in dict.fromkeys(row["setting"] for row in mine):
            mean[name] = float(np.mean([r["micro_f1"] for r in mine if r["setting"] == name]))
        ranked = sorted(mean, key=lambda name: -mean[name])
        order = ", ".join(f"{name} {mean[name]:.3f}" for name in ranked)
        said.append(f"{place}: mean micro-F1, best first: {order}.")
    return tuple(said)
