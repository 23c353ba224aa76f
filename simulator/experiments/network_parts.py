"""Experiment: what each part of the feature extractor is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from label_config.measured import Measured, Progress
from simulator.experiments.chosen import EVERYTHING, Chosen
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_trial import Setting, change_said, compare
from training.stages import StagesConfig


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
    chosen: Chosen = EVERYTHING,
) -> Measured:
    """The whole network, then with one part left out or as the paper has it, or one more teacher.

    The rows but for those "with stage 1" leave it out: of raw EMRs only the sparse model speaks,
    where it teaches. Labels that read the graph alone have no queries that could start from names:
    "queries from nothing" is the row to hold theirs against. `data` is not used.
    """
    settings = parts(StagesConfig.quick() if quick else StagesConfig.best())
    measured = compare(
        settings, quick=quick, seeds=seeds, progress=progress, kept=kept, chosen=chosen
    )
    return replace(measured, findings=findings(measured.rows))


def parts(config: StagesConfig) -> dict[str, Setting]:
    """One setting per part."""

    def without(**changed: Any) -> Setting:
        return Setting(replace(config, **changed), raw=False)

    def shaped(**changed: Any) -> Setting:
        extractor = replace(config.extractor, **changed)
        named = config.start_from_names and extractor.attend != "graph"
        share = config.hierarchy if named else 0.0
        return without(extractor=extractor, start_from_names=named, hierarchy=share)

    graph = shaped(attend="graph")
    return {
        "whole": without(),
        "whole, with stage 1": replace(without(), raw=True, adds=True),
        "no graph": shaped(layers=0),
        "labels read the graph, queries from nothing": graph,
        "labels read the graph, queries from nothing, with stage 1": replace(graph, raw=True),
        "labels read both": shaped(attend="both"),
        "graph without residual": shaped(residual=False, normalise_edges=False),
        "no static embeddings": shaped(static=False),
        "queries from nothing": without(start_from_names=False, hierarchy=0.0),
        "no evidence": without(clean=replace(config.clean, evidence=0.0)),
        "no contrast": without(
            noisy=replace(config.noisy, contrastive=0.0), clean=replace(config.clean, gamma=0.0)
        ),
        "taught by the sparse model": replace(
            without(noisy=replace(config.noisy, taught=1.0)), adds=True
        ),
    }


def findings(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Which changes these seeds can tell from none, and which they cannot."""
    told: list[str] = []
    untold: list[str] = []
    for name in list(dict.fromkeys(row["setting"] for row in rows))[1:]:
        said, is_told = change_said([row["change"] for row in rows if row["setting"] == name])
        (told if is_told else untold).append(f"{name} {said}")
    return tuple(
        f"{what}: {'; '.join(names)}."
        for what, names in (
            ("Changes micro-F1", told),
            ("These seeds cannot tell from none", untold),
        )
        if names
    )
