"""Forecast: EMRs and minutes to go, over all codes and for each, by Monte Carlo.

Each future takes error rates from what is known of them and clean codes from those rates, and then
plays the project to its end: choose a batch as the sampler would, count what it brought, go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from label_config.errors import ConfigError
from sampler.batch import plan_size, shrunk
from sampler.posterior import Posterior
from sampler.select import (
    Floats,
    PoolView,
    Rows,
    entries,
    expected_labels,
    order_by_code,
    scarcity_greedy,
    sum_before,
)
from sampler.status import UPPER_95, CodeStatus

STAGES = (1.0, 1.5, 2.5)
"""Multiples of the need that the shortlist is laid out for, one after another."""
MOST_ROUNDS = 12
"""A future is played in about so many batches at most, before they shrink."""


@dataclass(frozen=True)
class ForecastConfig:
    """How many futures are drawn, and how their spread becomes an interval."""

    draws: int = 50
    # Futures played.
    batch_size: int = 25
    # EMRs of a batch, before it shrinks: smaller ones adapt sooner and end a little earlier.
    shorten: float = 1.5
    widen: float = 0.8
    # The lower and the upper half-width of the raw interval are multiplied by these: futures end a
    # little too late on average, for they draw habits of the mapper that few projects have, and
    # choose by scarcity, not by prices. Measured on simulated projects that are played in shrinking
    # batches, seeds below 100.
    least_spread: float = 0.15
    # Half-width of the interval at least, as a share of the median: projects differ from what the
    # posterior can say by about so much, however surely it says it.

    def __post_init__(self) -> None:
        if self.draws < 10:
            raise ConfigError(f"draws must be at least 10, got {self.draws}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        if min(self.shorten, self.widen) <= 0 or self.least_spread < 0:
            raise ConfigError("shorten and widen must be above 0 and least_spread not below 0")


@dataclass(frozen=True)
class Interval:
    """Median and 80 % interval; each a number, or an array (K,) for the codes."""

    median: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Forecast:
    """What is still to come before every reachable code is met."""

    emrs: Interval
    """EMRs to annotate, pending ones included."""
    minutes: Interval
    """Minutes of coders; equal to `emrs` where the sampler was given no minutes."""
    emrs_per_code: Interval
    """EMRs to annotate, over all codes, until each code is met, arrays (K,); 0 once it is."""


def forecast(
    view: PoolView,
    posterior: Posterior,
    status: CodeStatus,
    *,
    minutes_N: Floats | None = None,
    pending: Rows,
    share_left: float = 1.0,
    config: ForecastConfig | None = None,
    seed: int = 0,
) -> Forecast:
    """Draw futures and summarise them.

    Args:
        view: The free pool, with what is needed beyond the pending EMRs.
        posterior: What is known of the error rates, and how surely.
        status: The codes' counts and goals.
        minutes_N: Expected minutes per EMR; None counts each as 1.
        pending: Rows that are with coders: they come first and are always annotated.
        share_left: A batch takes at most this share of what is still needed, as in
            `CoverageSampler`; above 0, at most 1.
        config: Draws and calibration; None takes the defaults.
        seed: The same seed gives the same forecast.
    """
    config = config or ForecastConfig()
    rng = np.random.default_rng(seed)
    rows, project = _shortlist(view, posterior, status, pending)
    minutes = np.ones(rows.size) if minutes_N is None else minutes_N[rows]
    batch_size = max(config.batch_size, project.n_expected // MOST_ROUNDS)
    futures = [project.play(rng, batch_size, share_left) for _ in range(config.draws)]
    return Forecast(
        emrs=_interval([future.rows.size for future in futures], config),
        minutes=_interval([minutes[future.rows].sum() for future in futures], config),
        emrs_per_code=_interval([future.until_met for future in futures], config),
    )


@dataclass(frozen=True)
class _Future:
    rows: Rows
    """Places in the shortlist, in the order annotated."""
    until_met: Floats
    """(K,) EMRs annotated until each code is met; all of them where it never is."""


@dataclass(frozen=True)
class _Project:
    """The rest of a project, cut down to the R EMRs that it may come to: the shortlist."""

    view: PoolView
    """Over the shortlist."""
    posterior: Posterior
    lacking: Floats
    """(K,) clean EMRs short of the goal."""
    supply: Floats
    """(K,) expected in the whole pool."""
    likely: Floats
    """(K,) expected among the EMRs that are likely enough to be chosen for the code."""
    variance: Floats
    """(K,) of that number."""
    n_pending: int
    """The first so many of the shortlist are with coders already."""
    n_expected: int
    """EMRs that the expected need asks for."""

    def play(self, rng: np.random.Generator, batch_size: int, share_left: float) -> _Future:
        """One future: draw error rates, then clean codes, then annotate batch after batch."""
        truth = self.posterior.draw(rng)
        true_RK = truth.probabilities(self.view.noisy, self.view.suggested)
        has_RK = true_RK.copy()
        has_RK.data = (rng.random(has_RK.nnz) < has_RK.data).astype(np.float32)
        # The project will learn its error rates bit by bit: it chooses by halfway on average.
        probs = ((true_RK + self.view.probs) * np.float32(0.5)).tocsr()
        unlisted_K = rng.poisson(truth.unlisted * self.n_expected)
        lacking_K = np.maximum(self.lacking - unlisted_K, 0.0)
        free = self.view.free.copy()
        now_K, then_K = (np.asarray(p.sum(axis=0)).ravel() for p in (self.view.probs, probs))
        change_K = then_K / np.maximum(now_K, 1e-6)
        supply_K, likely_K = self.supply * change_K, self.likely * change_K
        variance_K = self.variance
        needed_K = lacking_K
        enough = plan_size(batch_size, share_left)
        rows: list[Rows] = [np.arange(self.n_pending)]
        while rows[-1].size or len(rows) == 1:
            needed_K = np.maximum(needed_K - expected_labels(has_RK, rows[-1]), 0.0)
            # A code that has become unreachable is given up, as the sampler would.
            reachable = likely_K + UPPER_95 * np.sqrt(np.maximum(variance_K, 0.0)) >= needed_K
            needed_K = np.where(reachable, needed_K, 0.0)
            scarcity_K = np.minimum(needed_K / np.maximum(supply_K, 1e-6), 1.0)
            view = replace(self.view, probs=probs, free=free, needed=needed_K, scarcity=scarcity_K)
            planned = scarcity_greedy(view, enough).rows
            picked = planned[: shrunk(batch_size, planned.size, share_left)]
            free[picked] = False
            supply_K = supply_K - expected_labels(view.probs, picked)
            mean_K, spread_K = _likely(view.probs, picked, view.min_yield)
            likely_K, variance_K = likely_K - mean_K, variance_K - spread_K
            rows.append(picked)
        order = np.concatenate(rows)
        return _Future(order, _until_met(has_RK, order, lacking_K))


def _shortlist(
    view: PoolView, posterior: Posterior, status: CodeStatus, pending: Rows
) -> tuple[Rows, _Project]:
    """Pending EMRs, then those that the greedy would take as needs grow by STAGES."""
    free, planned_K = view.free.copy(), np.zeros(view.needed.size)
    stages: list[Rows] = [pending]
    for times in STAGES:
        lacking_K = np.maximum(times * (view.needed + 1) * (view.needed > 0) - planned_K, 0.0)
        stage = replace(view, free=free.copy(), needed=lacking_K)
        rows = scarcity_greedy(stage, int(free.sum())).rows
        planned_K += expected_labels(view.probs, rows)
        free[rows] = False
        stages.append(rows)
    rows = np.concatenate(stages)
    shortlisted = replace(view.only(rows), free=np.arange(rows.size) >= pending.size)
    likely_K, variance_K = _likely(view.probs, np.flatnonzero(view.free), view.min_yield)
    return rows, _Project(
        view=shortlisted,
        posterior=posterior,
        lacking=np.maximum(status.goal - status.clean, 0.0),
        supply=status.supply,
        likely=likely_K,
        variance=variance_K,
        n_pending=pending.size,
        n_expected=pending.size + stages[1].size,
    )


def _likely(probs: sp.csr_matrix, rows: Rows, least: float) -> tuple[Floats, Floats]:
    """Mean and variance of the labels of `rows` per code, of probability `least` or more, (K,)."""
    _, code, p = entries(probs, rows)
    p = np.where(p >= least, p, 0.0)
    mean_K: Floats = np.bincount(code, p, probs.shape[1]).astype(np.float64)
    variance_K: Floats = np.bincount(code, p * (1 - p), probs.shape[1]).astype(np.float64)
    return mean_K, variance_K


def _until_met(has_RK: sp.csr_matrix, order: Rows, lacking_K: Floats) -> Floats:
    """EMRs of `order` annotated when each code reaches its goal, (K,); all where it never does."""
    place, code, has = entries(has_RK, order)
    by_code = order_by_code(code, lacking_K.size)
    place, code, has = place[by_code], code[by_code], has[by_code]
    before = sum_before(code, has)
    last = (has > 0) & (before < lacking_K[code]) & (before + 1 >= lacking_K[code])
    until_K = np.where(lacking_K > 0, float(order.size), 0.0)
    until_K[code[last]] = place[last] + 1.0
    return until_K


def _interval(values: Sequence[Any], config: ForecastConfig) -> Interval:
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
    least = config.least_spread * median
    return Interval(
        median=median,
        low=np.maximum(median - np.maximum(config.shorten * (median - low), least), 0.0),
        high=median + np.maximum(config.widen * (high - median), least),
    )
