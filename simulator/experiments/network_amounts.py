"""Experiment: what noisy EMRs are worth, by how many there are and how many clean ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from label_config.measured import Measured, Progress
from simulator.experiments.cells import hash_of_all
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import Ward, feature_cache
from simulator.experiments.network_places import Place, Trials
from simulator.experiments.network_plot import Lines
from simulator.experiments.network_trial import (
    Setting,
    change_said,
    judge,
    paired_goal,
    train,
)


@dataclass(frozen=True, slots=True)
class Amounts:
    """Every number of noisy EMRs beside every number of clean ones."""

    noisy: tuple[int, ...]
    """From 0 up."""
    clean: tuple[int, ...]
    """From few to many."""
    unseen: int


QUICK = Amounts(noisy=(0, 200, 800), clean=(40, 160), unseen=200)
FULL = Amounts(noisy=(0, 400, 1_600, 4_800), clean=(50, 200, 800), unseen=900)


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Train with more and more noisy EMRs beside few or many clean ones, and with raw ones instead.

    Fewer EMRs are always among the more. "raw" rows have the most noisy EMRs without their codes.
    The paper leaves its noisy EMRs out of one amount alone (table 2); what that costs depends on
    how many clean ones are left. --quick takes three seeds: 0, 200 or 800 noisy beside 40 or 160
    clean EMRs, judged on 200 unseen ones. `data` is not used.
    """
    trials, amounts = Trials(quick, seeds, progress=progress, kept=kept), QUICK if quick else FULL
    cases = list(product(amounts.clean, [(0, n) for n in amounts.noisy] + [(amounts.noisy[-1], 0)]))
    trials.total = len(trials.seeds) * len(cases)
    sizes = (0, amounts.noisy[-1], amounts.clean[-1], amounts.unseen)
    rows: list[dict[str, Any]] = []
    for seed in trials.seeds:
        with feature_cache() as cache:
            place = trials.ward(cache, sizes, seed=seed)
            for clean, (raw, noisy) in cases:
                numbers = {"clean": clean, "noisy": noisy, "raw": raw}
                name = ", ".join(f"{number} {kind}" for kind, number in numbers.items())
                figures = place.row(name, trials.config, partial(trial, place, numbers))
                rows.append(numbers | {"seed": seed} | figures)
    coded = [row for row in rows if not row["raw"]]
    lines = Lines(coded, x="noisy", by="clean", label=lambda clean: f"{clean} clean EMRs")
    return Measured(
        rows,
        goals(rows),
        trials.seeds,
        hash_of_all(trials.hashes),
        findings=findings(rows),
        figure=lines.draw,
    )


def trial(place: Place[Ward], numbers: Mapping[str, int]) -> dict[str, float]:
    """Figures on the unseen EMRs with so many of each kind."""
    data, noisy, clean = place.data, numbers["noisy"], numbers["clean"]
    part = replace(
        data,
        raw=data.noisy[: numbers["raw"]],
        noisy=data.noisy[:noisy],
        noisy_codings=data.noisy_codings[:noisy],
        clean=data.clean[:clean],
        clean_codings=data.clean_codings[:clean],
    )
    setting = Setting(place.trials.config, raw=bool(part.raw), noisy=bool(part.noisy))
    return judge(train(part, setting, place.trials.encoder, place.cache, place.seed), part)


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """That noisy EMRs help, and that raw ones do, beside each number of clean ones."""
    most = max(row["noisy"] for row in rows)
    return [
        paired_goal(f"{most} {kind} EMRs beside {clean} clean", ">= 0", gained)
        for clean in sorted({row["clean"] for row in rows})
        for kind, gained in (
            ("noisy", gains(rows, clean, noisy=most)),
            ("raw", gains(rows, clean, raw=most)),
        )
    ]


def findings(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What noisy EMRs, and raw ones instead, add beside each number of clean ones."""
    some = sorted({row["noisy"] for row in rows} - {0})
    said = []
    for clean in sorted({row["clean"] for row in rows}):
        by_number = [f"{n} add {change_said(gains(rows, clean, noisy=n))[0]}" for n in some]
        raw, _ = change_said(gains(rows, clean, raw=some[-1]))
        said.append(
            f"Beside {clean} clean EMRs, of noisy ones {', '.join(by_number)} micro-F1; "
            f"{some[-1]} without their codes (stage 1) {raw}."
        )
    return tuple(said)


def gains(
    rows: Sequence[Mapping[str, Any]], clean: int, *, noisy: int = 0, raw: int = 0
) -> list[float]:
    """Per seed, micro-F1 less that of the clean EMRs alone."""
    score = {
        (row["noisy"], row["raw"], row["seed"]): row["micro_f1"]
        for row in rows
        if row["clean"] == clean
    }
    seeds = [seed for n, r, seed in score if (n, r) == (noisy, raw)]
    return [round(score[noisy, raw, seed] - score[0, 0, seed], 4) for seed in seeds]
