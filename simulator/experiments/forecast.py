"""Experiment: how often the forecast's 80 % interval holds what a project then needs.

Projects differ in codes, quota, noise and habits of the mapper. Each is asked for a forecast when
none, a third and two thirds of the wanted labels are clean, and is then played to its end. Batches
are those of a workspace, and coders give back one EMR after another: a forecast may come while some
are with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from label_config.measured import Measured, Progress, goal
from sampler import CoverageSampler, Forecast, ForecastConfig
from sampler.synthetic import PoolConfig, SyntheticPool, make_pool
from simulator.experiments.cells import Cell, finished, hash_of_pool
from simulator.experiments.kept import NOTHING, Kept

BATCH, SHARE_LEFT = 25, 0.5
"""EMRs per batch, and at most this share of those still needed, as workspaces have it."""
MOMENTS = {"start": 0.0, "a third": 1 / 3, "two thirds": 2 / 3}
"""Share of the wanted labels that are clean when the forecast is made."""
PER_SEED, PER_SEED_QUICK = 21, 4
"""Projects per seed: five seeds make 105."""
DRAWS = 30
"""Futures per forecast."""
SHOWN = ("moment", "projects", "share", "to_go", "cover", "relative_width", "log_error")


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Play projects and judge their forecasts.

    Args:
        quick: Few projects per seed.
        seeds: Each draws its own projects.
        progress: Called after each project.
        data: Not used: projects are simulated.
        kept: Where finished projects are.
    """
    count = PER_SEED_QUICK if quick else PER_SEED
    cells = [
        Cell({"seed": seed, "project": number}, partial(_project, seed, number))
        for seed in seeds
        for number in range(count)
    ]
    judged, digest = finished(cells, len(cells), kept=kept, progress=progress)
    rows = [row for moment in MOMENTS for seed in seeds for row in _summary(judged, moment, seed)]
    return Measured(rows, goals(rows), tuple(seeds), digest, shown=SHOWN)


def _project(seed: int, number: int) -> tuple[str, list[dict[str, Any]]]:
    """The hash of one project's pool, and its forecasts."""
    about, pool = draw_project(1000 * seed + number)
    return hash_of_pool(pool), [{"seed": seed} | row for row in play(pool, about["quota"], seed)]


def draw_project(seed: int) -> tuple[dict[str, Any], SyntheticPool]:
    """One project of the population that forecasts are judged on: its settings and its pool."""
    rng = np.random.default_rng(seed)
    config = PoolConfig(
        n_codes=int(rng.choice([40, 80, 120])),
        noise=round(float(rng.uniform(0.1, 0.5)), 2),
        systematic=float(rng.choice([0.0, 0.0, 0.3])),
        codes_per_emr=round(float(rng.uniform(3.0, 6.0)), 1),
        n_emrs=int(rng.choice([1500, 3000])),
    )
    quota = int(rng.choice([5, 10, 20]))
    about = {"codes": config.n_codes, "noise": config.noise, "systematic": config.systematic}
    return about | {"pool": config.n_emrs, "quota": quota}, make_pool(config, seed)


def play(pool: SyntheticPool, quota: int, seed: int) -> list[dict[str, Any]]:
    """Annotate until the sampler is done; one row per moment."""
    sampler = CoverageSampler(
        pool.noisy, quota, category=pool.category, seed=seed, share_left=SHARE_LEFT
    )
    wanted = np.minimum(sampler.probabilities().sum(axis=0), quota).sum()
    waiting, made = list(MOMENTS.items()), list[tuple[str, float, int, Forecast]]()
    for annotated in _annotations(sampler, pool):
        share = float(np.minimum(sampler.clean.counts(), quota).sum() / wanted)
        if waiting and share >= waiting[0][1]:
            forecast = sampler.forecast(config=ForecastConfig(draws=DRAWS), seed=seed)
            made.append((waiting.pop(0)[0], share, annotated, forecast))
    judged = []
    for moment, share, annotated, forecast in made:
        to_go = sampler.clean.rows.size - annotated
        interval = forecast.emrs
        low, median, high = (float(x) for x in (interval.low, interval.median, interval.high))
        row: dict[str, Any] = {"moment": moment, "share": round(share, 3), "emrs": to_go}
        row |= {"low": round(low, 1), "median": round(median, 1), "high": round(high, 1)}
        row["held"] = low <= to_go <= high
        row["relative_width"] = round((high - low) / max(median, 1.0), 3)
        row["log_error"] = round(float(np.log(max(median, 1.0) / max(to_go, 1))), 3)
        judged.append(row)
    return judged


def _annotations(sampler: CoverageSampler, pool: SyntheticPool) -> Iterator[int]:
    """Annotate until the sampler is done; 0, and after each EMR how many are annotated."""
    yield 0
    while (rows := sampler.query(BATCH).rows).size:
        for row in rows:
            sampler.update([row], pool.labels(np.array([row])))
            yield sampler.clean.rows.size


def _summary(judged: list[dict[str, Any]], moment: str, seed: int) -> list[dict[str, Any]]:
    """One row of the forecasts of one seed's projects at one moment; none where there are none."""
    mine = [row for row in judged if row["moment"] == moment and row["seed"] == seed]
    if not mine:
        return []
    held = sum(row["held"] for row in mine)
    middle = {
        name: float(np.median([row[name] for row in mine]))
        for name in ("share", "emrs", "relative_width")
    }
    error = float(np.mean([row["log_error"] for row in mine]))
    return [
        {
            "moment": moment,
            "seed": seed,
            "projects": len(mine),
            "share": round(middle["share"], 3),
            "to_go": middle["emrs"],
            "held": held,
            "cover": round(held / len(mine), 3),
            "relative_width": round(middle["relative_width"], 3),
            "log_error": round(error, 3),
        }
    ]


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cover over all forecasts and at each moment; relative widths are in the rows."""
    start = sum(row["projects"] for row in rows if row["moment"] == "start")
    judged = [goal("projects", ">= 100", start)]
    for moment in ("all", *MOMENTS):
        mine = [row for row in rows if moment in ("all", row["moment"])]
        projects, held = (sum(row[key] for row in mine) for key in ("projects", "held"))
        cover = held / projects if projects else float("nan")
        judged.append(goal(f"cover, {moment}", "0.75 to 0.85", cover))
    return judged
