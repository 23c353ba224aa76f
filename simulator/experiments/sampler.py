"""Experiment: EMRs and minutes that each selection policy needs, against what no rule can beat.

Where a policy goes beyond the limit, `sampler.limits` splits by how much and why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import DataError
from label_config.measured import Measured, Progress, goal
from sampler import POLICIES, CoverageSampler
from sampler.keys import random_order
from sampler.labels import Floats, Rows, code_matrix
from sampler.limits import Limits, limits_of, reachable
from sampler.reported import FREE
from sampler.select import PoolView
from sampler.synthetic import PoolConfig, SyntheticPool, make_pool, pool_from_clean
from simulator.experiments.cells import Cell, finished, first_seeds, hash_of, hash_of_pool
from simulator.experiments.kept import NOTHING, Kept

N_EMRS = 10_000
MIN_YIELD = 0.2
LOW_YIELD = 0.02
"""The effort dial at the end of a run, for codes given up at MIN_YIELD."""
FEWEST_CASES = 10
"""Real codes with fewer cases are left out."""
SHARE_LEFT = 0.25
"""Our batches shrink to this share of what is still needed."""
LOOSE, STRICT = "any deficient", "every deficient twice"
RULES = ("random", LOOSE, STRICT)
"""Policies that learn nothing of the mapper's errors."""
OURS, OURS_FIXED = "ours", "ours, fixed batches"
OURS_MINUTES, ORACLE, ORACLE_FIXED = "ours, minutes", "oracle", "oracle, scarcity, fixed batches"


@dataclass(frozen=True)
class Learner:
    """A policy that runs on the coverage sampler."""

    policy: str = "priced greedy"
    share_left: float = 1.0
    by_minutes: bool = False
    oracle: bool = False


LEARNERS = {
    "quota per code": Learner("quota per code"),
    "plain greedy": Learner("plain greedy"),
    "scarcity greedy": Learner("scarcity greedy"),
    OURS_FIXED: Learner(),
    OURS: Learner(share_left=SHARE_LEFT),
    OURS_MINUTES: Learner(share_left=SHARE_LEFT, by_minutes=True),
    ORACLE_FIXED: Learner("scarcity greedy", oracle=True),
    ORACLE: Learner(share_left=SHARE_LEFT, oracle=True),
}


@dataclass(frozen=True)
class Setting:
    """One kind of pool and quota."""

    codes: int
    quota: int
    codes_per_emr: float
    noise: float = 0.3
    systematic: float = 0.0

    @property
    def batch(self) -> int:
        """EMRs per batch: larger where thousands are needed."""
        return 100 if self.codes > 100 else 50


SHOWN = (
    *("data", "codes", "quota", "noise", "systematic", "policy"),
    *("emrs", "minutes", "over_limit", "overshoot", "low", "passed_over", "luck"),
)
MEANS = {50: 4.27, 100: 4.89, 600: 5.97}
QUICK = (
    Setting(50, 35, MEANS[50]),
    Setting(100, 35, MEANS[100]),
    Setting(100, 10, MEANS[100]),
    Setting(100, 35, MEANS[100], systematic=0.3),
)
FULL = (
    *(Setting(codes, quota, MEANS[codes]) for codes in (50, 100) for quota in (5, 10, 35)),
    *(Setting(600, quota, MEANS[600]) for quota in (10, 35)),
    *(Setting(100, 35, MEANS[100], noise) for noise in (0.1, 0.5)),
    *(Setting(codes, 35, mean, systematic=0.3) for codes, mean in MEANS.items()),
)
"""Codes and quotas at 30 % noise; other noise, and habits of the mapper, at a quota of 35."""
WORKERS = 2
"""Pools played at a time."""
FEW_SEEDS = 3
"""Seeds at most for synthetic pools of more than 100 codes, which take longest."""


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
    kept: Kept = NOTHING,
) -> Measured:
    """Play every policy to the end on every pool.

    Args:
        quick: Four settings of 10,000 EMRs and at most two seeds, instead of all.
        seeds: One pool per setting and seed; of pools of more than 100 codes at most FEW_SEEDS.
        progress: Called after each pool.
        data: JSON Lines with a list "codes" per case: their co-occurrence as a further pool.
        kept: Where finished pools are.
    """
    seeds = first_seeds(seeds, quick=quick, most=2)
    real = None if data is None else _read_codes(data)
    trials = [
        Trial(setting, seed, N_EMRS)
        for setting in (QUICK if quick else FULL)
        for seed in (seeds if setting.codes <= 100 else seeds[:FEW_SEEDS])
    ]
    if real is not None:
        setting = Setting(real[0].shape[1], 5, real[0].nnz / real[0].shape[0])
        trials += [Trial(setting, seed, N_EMRS, real) for seed in seeds]
    with ProcessPoolExecutor(WORKERS) as workers:
        played = workers.map(_play, [trial for trial in trials if trial.key() not in kept])
        cells = [Cell(trial.key(), lambda: next(played)) for trial in trials]
        try:
            rows, digest = finished(cells, len(cells), kept=kept, progress=progress)
        finally:
            workers.shutdown(cancel_futures=True)
    return Measured(rows, goals(rows), seeds, digest, shown=SHOWN)


@dataclass(frozen=True)
class Trial:
    """One pool to play every policy on."""

    setting: Setting
    seed: int
    n_emrs: int
    real: tuple[sp.csr_matrix, NDArray[np.int64]] | None = None
    """Clean codes and categories to take instead of synthetic ones."""

    def key(self) -> dict[str, Any]:
        """All that its rows depend on."""
        real = None
        if self.real is not None:
            codes, categories = self.real
            arrays = codes.indices, codes.indptr, categories
            real = hash_of(*(array.tobytes() for array in arrays))
        return asdict(self.setting) | {"seed": self.seed, "emrs": self.n_emrs, "real": real}

    def pool(self) -> SyntheticPool:
        """Draw it."""
        config = PoolConfig(
            n_emrs=self.n_emrs,
            n_codes=self.setting.codes,
            codes_per_emr=self.setting.codes_per_emr,
            noise=self.setting.noise,
            systematic=self.setting.systematic,
        )
        if self.real is None:
            return make_pool(config, self.seed)
        return pool_from_clean(*self.real, config, self.seed)


def _play(trial: Trial) -> tuple[str, list[dict[str, Any]]]:
    """The hash of a trial's pool, and its rows."""
    pool = trial.pool()
    about = {"data": "synthetic" if trial.real is None else "real"}
    about |= asdict(trial.setting) | {"seed": trial.seed}
    rows = [about | row for row in play_all(pool, trial.setting, trial.seed)]
    return hash_of_pool(pool), rows


def play_all(pool: SyntheticPool, setting: Setting, seed: int) -> list[dict[str, Any]]:
    """Rows of every policy on one pool, each with its distance to the limit and why."""
    target_K = reachable(pool, setting.quota, MIN_YIELD)
    limits = limits_of(pool, target_K)
    rows = []
    for name in (*RULES, *LEARNERS):
        started = perf_counter()
        if name in RULES:
            order, gave_up = play_rule(pool, target_K, name, setting.batch, seed), False
        else:
            learner = LEARNERS[name]
            order, gave_up = play(pool, target_K, learner, setting.batch, seed, limits)
        row = {"policy": name, "emrs": order.size, "gave_up": gave_up}
        row |= {"minutes": round(float(pool.minutes[order].sum()))}
        row |= {"over_limit": round(order.size / max(limits.emrs, 1.0), 4)}
        row |= limits.split(pool.clean, target_K, order)
        row |= {"seconds": round(perf_counter() - started, 2)}
        rows.append(row | limits.row())
    return rows


class _OracleSampler(CoverageSampler):
    """Knows the mapper's true error rates from the start."""

    def know(self, pool: SyntheticPool, limits: Limits) -> None:
        self._posterior = replace(self.posterior(), unlisted=limits.unlisted)
        self._probs = pool.oracle

    def _forget(self) -> None:
        """Nothing was learned."""


def play(
    pool: SyntheticPool,
    target_K: Floats,
    learner: Learner,
    batch: int,
    seed: int,
    limits: Limits,
) -> tuple[Rows, bool]:
    """Annotate batch after batch until every reachable code is met; up to the last EMR needed.

    Where a policy gives up, the effort dial is lowered once, and then EMRs come at random; the
    second value says whether it was.
    """
    make = _OracleSampler if learner.oracle else CoverageSampler
    sampler = make(
        pool.noisy,
        target_K,
        category=pool.category,
        minutes=pool.expected_minutes if learner.by_minutes else None,
        min_yield=MIN_YIELD,
        seed=seed,
        policy=learner.policy,
        share_left=learner.share_left,
    )
    if isinstance(sampler, _OracleSampler):
        sampler.know(pool, limits)
    batches: list[Rows] = []
    while (sampler.clean.counts() < target_K).any() and (sampler.state_N == FREE).any():
        batches.append(_next_batch(sampler, batch))
        sampler.update(batches[-1], pool.labels(batches[-1]))
    return _until_met(pool, target_K, batches), sampler.min_yield < MIN_YIELD


def play_rule(pool: SyntheticPool, target_K: Floats, name: str, batch: int, seed: int) -> Rows:
    """The same for a rule that learns nothing; EMRs come at random once it finds none."""
    n_emrs = pool.noisy.shape[0]
    free, count_K = np.ones(n_emrs, np.bool_), np.zeros(target_K.size)
    order_N = random_order(np.arange(n_emrs), seed)
    batches: list[Rows] = []
    while (count_K < target_K).any() and free.any():
        needed_K = np.maximum(target_K - count_K, 0.0)
        view = PoolView(
            probs=pool.noisy,
            noisy=pool.noisy,
            free=free,
            needed=needed_K,
            scarcity=needed_K,
            order=order_N,
            cost=np.ones(n_emrs),
        )
        rows = POLICIES[name](view, batch).rows
        rows = rows if rows.size else POLICIES["random"](view, batch).rows
        free[rows] = False
        count_K += np.asarray(pool.clean[rows].sum(axis=0)).ravel()
        batches.append(rows)
    return _until_met(pool, target_K, batches)


def _until_met(pool: SyntheticPool, target_K: Floats, batches: list[Rows]) -> Rows:
    order = np.concatenate(batches) if batches else np.zeros(0, np.int64)
    last = 0
    for code in np.flatnonzero(target_K > 0):
        has = np.cumsum(pool.clean[order, code].toarray().ravel())
        last = max(last, int(np.searchsorted(has, target_K[code])) + 1)
    return order[:last]


def _next_batch(sampler: CoverageSampler, size: int) -> Rows:
    rows = sampler.query(size).rows
    if not rows.size and sampler.min_yield > LOW_YIELD:
        sampler.min_yield = LOW_YIELD
        rows = sampler.query(size).rows
    if not rows.size:
        free = np.flatnonzero(sampler.state_N == FREE)
        rows = free[np.argsort(sampler.draw_N[free])][:size]
    return rows


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over pools against the goals; a goal without pools of its kind has value nan."""
    plain = [r for r in rows if r["systematic"] == 0 and r["noise"] == 0.3]
    few = [r for r in plain if r["codes"] in (50, 100) and r["data"] == "synthetic"]
    many_wanted = [r for r in plain if r["quota"] == 35]
    astray = [r for r in rows if r["systematic"] > 0 and r["quota"] == 35]
    ours = [r for r in rows if r["policy"] == OURS]
    slack = [1 - r["certified"] / r["limit"] for r in ours if r["limit"]]
    return [
        goal("emrs_to_strict", "<= 0.5", _ratio(few, OURS, STRICT)),
        goal("emrs_to_loose", "<= 0.4", _ratio(few, OURS, LOOSE)),
        goal("minutes_to_strict", "<= 0.6", _ratio(few, OURS_MINUTES, STRICT, "minutes")),
        goal("emrs_to_limit", "<= 1.02", _median(many_wanted, OURS, "over_limit")),
        goal("emrs_to_limit_systematic", "<= 1.05", _median(astray, OURS, "over_limit")),
        goal("certified_slack", "<= 0.05", max(slack, default=float("nan"))),
    ]


def _median(rows: list[dict[str, Any]], policy: str, column: str) -> float:
    values = [row[column] for row in rows if row["policy"] == policy]
    return float(np.median(values)) if values else float("nan")


def _ratio(rows: list[dict[str, Any]], ours: str, theirs: str, column: str = "emrs") -> float:
    """Median over pools of our column over theirs; rows of one pool stand side by side."""
    values = [row[column] for row in rows if row["policy"] == ours]
    others = [row[column] for row in rows if row["policy"] == theirs]
    return float(np.median(np.divide(values, others))) if values else float("nan")


def _read_codes(path: Path) -> tuple[sp.csr_matrix, NDArray[np.int64]]:
    """Cases x codes of a JSON Lines file with a list "codes" each, and the codes' categories."""
    try:
        with path.open(encoding="utf-8") as lines:  # a text may hold other ends of lines
            cases = [json.loads(line)["codes"] for line in lines if line.strip()]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f'{path} must hold one JSON object with a list "codes" a line') from None
    seen = Counter(code for case in cases for code in set(case))
    names = sorted(code for code, count in seen.items() if count >= FEWEST_CASES)
    number = {code: i for i, code in enumerate(names)}
    numbered = [[number[code] for code in case if code in number] for case in cases]
    _, category = np.unique([name.split(".")[0] for name in names], return_inverse=True)
    return code_matrix(numbered, len(names)), category
