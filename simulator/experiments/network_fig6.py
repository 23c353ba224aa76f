"""Experiment: ten cases of effort and of noise in the diagnosis names (the paper's fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from label_config.measured import Measured, Progress
from simulator.experiments.cells import hash_of_all
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import NOISE, Pool, Site, feature_cache
from simulator.experiments.network_places import Place, Trials
from simulator.experiments.network_plot import Lines
from simulator.experiments.network_trial import Setting, judge, paired_goal, train
from simulator.quality import PRESETS, NoiseRates


@dataclass(frozen=True, slots=True)
class Grid:
    """Every effort at every noise; an annotated EMR takes the place of a noisy one."""

    pool: int
    unseen: int
    efforts: tuple[int, ...]
    """Clean EMRs."""
    noise: tuple[float, ...]
    """Share of spoilt diagnosis names."""


QUICK = Grid(pool=200, unseen=140, efforts=(30, 90), noise=(0.15, 0.45))
FULL = Grid(pool=2_500, unseen=900, efforts=(50, 100, 200, 400, 800), noise=(0.15, 0.3))


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Train on the same EMRs with more or fewer clean codes, and with more or less noise.

    The text of an EMR is the same at every noise: only its diagnosis names are spoilt. The EMRs of
    a smaller effort are among those of a larger one. --quick takes three seeds and four cases: 30
    or 90 clean ones of 200 EMRs, 15 % or 45 % noise, 140 unseen EMRs. `data` is not used.
    """
    trials, grid = Trials(quick, seeds, progress=progress, kept=kept), QUICK if quick else FULL
    trials.total = len(trials.seeds) * len(grid.noise) * len(grid.efforts)
    setting = Setting(trials.config, raw=False)
    rows: list[dict[str, Any]] = []
    for seed in trials.seeds:
        with feature_cache() as cache:
            for rate in grid.noise:
                site = Site(rates=spoilt(rate))
                place = trials.pool(cache, (grid.pool, grid.unseen), seed=seed, site=site)
                for effort in grid.efforts:
                    figures = place.row(
                        f"{effort} clean", setting, partial(trial, place, setting, effort)
                    )
                    rows.append({"noise": rate, "clean": effort, "seed": seed} | figures)
    lines = Lines(rows, x="clean", by="noise", label=lambda rate: f"{rate:.0%} of names spoilt")
    data_hash = hash_of_all(trials.hashes)
    return Measured(rows, goals(rows), trials.seeds, data_hash, figure=lines.draw)


def trial(place: Place[Pool], setting: Setting, effort: int) -> dict[str, float]:
    """Figures on the unseen EMRs after this many are annotated."""
    order = np.random.default_rng(place.seed).permutation(len(place.data.emrs))
    ward = place.data.ward(np.sort(order[:effort]))
    network = train(ward, setting, place.trials.encoder, place.cache, place.seed)
    return judge(network, ward)


def spoilt(rate: float) -> NoiseRates:
    """The mix of errors of the paper's hospital, at another rate."""
    found = PRESETS[NOISE]
    whole = found.vague + found.wrong + found.missing
    vague, wrong, missing = (
        rate * part / whole for part in (found.vague, found.wrong, found.missing)
    )
    return NoiseRates(vague=vague, wrong=wrong, missing=missing)


def goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """More effort helps, more noise hurts: from one end of the grid to the other, per seed."""
    efforts, rates = (sorted({row[name] for row in rows}) for name in ("clean", "noise"))
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    score = {(row["clean"], row["noise"], row["seed"]): row["micro_f1"] for row in rows}
    most, least, noisy, tidy = efforts[-1], efforts[0], rates[-1], rates[0]
    effort = [
        float(np.mean([score[most, r, s] - score[least, r, s] for r in rates])) for s in seeds
    ]
    noise = [
        float(np.mean([score[e, noisy, s] - score[e, tidy, s] for e in efforts])) for s in seeds
    ]
    return [
        paired_goal(f"change from {least} to {most} clean EMRs", ">= 0", effort),
        paired_goal(f"change from {tidy:g} to {noisy:g} noise", "<= 0", noise),
    ]
