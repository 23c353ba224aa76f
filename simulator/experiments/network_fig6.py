"""Experiment: ten cases of effort and of noise in the diagnosis names (the paper's fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_config.files import data_hash
from label_config.measured import Measured, Progress
from simulator.experiments.network_data import (
    NOISE,
    Site,
    feature_cache,
    hash_of_all,
    load_encoder,
    pool,
)
from simulator.experiments.network_trial import QUICK_SEEDS, Setting, judge, paired_goal, train
from simulator.quality import PRESETS, NoiseRates
from training.stages import StagesConfig


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
) -> Measured:
    """Train on the same EMRs with more or fewer clean codes, and with more or less noise.

    The text of an EMR is the same at every noise: only its diagnosis names are spoilt. The EMRs of
    a smaller effort are among those of a larger one. --quick takes three seeds and four cases: 30
    or 90 clean ones of 200 EMRs, 15 % or 45 % noise, 140 unseen EMRs. `data` is not used.
    """
    seeds = tuple(seeds)[:QUICK_SEEDS] if quick else tuple(seeds)
    grid, encoder = QUICK if quick else FULL, load_encoder()
    config = StagesConfig.quick() if quick else StagesConfig.best()
    rows: list[dict[str, Any]] = []
    hashes = []
    total = len(seeds) * len(grid.noise) * len(grid.efforts)
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(grid.pool)
        with feature_cache() as cache:
            for rate in grid.noise:
                site = Site(rates=spoilt(rate))
                drawn = pool(grid.pool, grid.unseen, encoder, seed=seed, site=site)
                hashes.append(data_hash([*drawn.emrs, *drawn.unseen]))
                for effort in grid.efforts:
                    ward = drawn.ward(np.sort(order[:effort]))
                    network = train(ward, Setting(config, raw=False), encoder, cache, seed)
                    case = {"noise": rate, "clean": effort, "seed": seed}
                    rows.append(case | judge(network, ward))
                    if progress is not None:
                        progress(len(rows), total)
    return Measured(rows, goals(rows), seeds, hash_of_all(hashes), figure=Figure(rows).draw)


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


@dataclass(frozen=True)
class Figure:
    """Micro-F1 by effort, one line per noise; the band is the range over the seeds."""

    rows: list[dict[str, Any]]

    def draw(self, path: Path) -> None:
        """Write a PNG or SVG, by the ending."""
        from matplotlib.figure import Figure as Canvas  # slow to import

        canvas = Canvas(figsize=(6, 4.2), layout="constrained")
        axis = canvas.subplots()
        efforts = sorted({row["clean"] for row in self.rows})
        for rate in sorted({row["noise"] for row in self.rows}):
            mine = [row for row in self.rows if row["noise"] == rate]
            values = [[r["micro_f1"] for r in mine if r["clean"] == effort] for effort in efforts]
            (line,) = axis.plot(
                efforts, np.median(values, axis=1), "o-", label=f"{rate:.0%} of names spoilt"
            )
            low, high = np.min(values, axis=1), np.max(values, axis=1)
            axis.fill_between(efforts, low, high, color=line.get_color(), alpha=0.12)
        axis.set(xlabel="clean EMRs", ylabel="micro-F1 on unseen EMRs")
        axis.grid(alpha=0.3)
        axis.legend()
        canvas.savefig(path, dpi=110)
