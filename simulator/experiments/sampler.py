"""Experiment: EMRs and minutes that each selection policy needs, against what no rule can beat."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import DataError
from label_config.measured import Measured, Progress, goal
from sampler import CoverageSampler, ForecastConfig, Interval
from sampler.bound import Programme, ascend
from sampler.coverage import FREE
from sampler.labels import code_matrix
from sampler.posterior import present
from sampler.select import expected_labels
from sampler.synthetic import PoolConfig, SyntheticPool, make_pool, pool_from_clean

Floats = NDArray[np.float64]

N_EMRS = 10_000
MIN_YIELD = 0.2
LOW_YIELD = 0.02
"""The effort dial at the end of a run, for codes given up at MIN_YIELD."""
FEWEST_CASES = 10
"""Real codes with fewer cases are left out."""
FORECASTS = 2
"""Forecasts per run, at its start and on the way."""
OURS, OURS_MINUTES, ORACLE = "scarcity greedy", "scarcity greedy, minutes", "scarcity, oracle"
LOOSE, STRICT = "any deficient", "every deficient twice"
POLICIES = ("random", LOOSE, STRICT, "quota per code", "plain greedy", OURS)


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
    *("emrs", "minutes", "over_limit"),
)
MEANS = {50: 4.27, 100: 4.89, 600: 5.97}
QUICK = (
    Setting(50, 35, MEANS[50]),
    Setting(100, 35, MEANS[100]),
    Setting(100, 10, MEANS[100]),
    Setting(100, 35, MEANS[100], systematic=0.3),
)
FULL = tuple(
    Setting(codes, quota, mean, noise, systematic)
    for codes, mean in MEANS.items()
    for quota in (5, 10, 35)
    for noise, systematic in ((0.1, 0.0), (0.3, 0.0), (0.5, 0.0), (0.3, 0.3))
)


def run(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
) -> Measured:
    """Play every policy to the end on every pool.

    Args:
        quick: Four settings of 10,000 EMRs and at most two seeds, instead of 36 and all.
        seeds: One pool per setting and seed.
        progress: Called after each pool.
        data: JSON Lines with a list "codes" per case: their co-occurrence as a further pool.
    """
    seeds = tuple(seeds)[:2] if quick else tuple(seeds)
    settings = list(QUICK if quick else FULL)
    real = None if data is None else _read_codes(data)
    if real is not None:
        settings.append(Setting(real[0].shape[1], 5, real[0].nnz / real[0].shape[0]))
    rows: list[dict[str, Any]] = []
    digest = hashlib.sha256()
    cells = [(setting, seed) for setting in settings for seed in seeds]
    for done, (setting, seed) in enumerate(cells, start=1):
        config = PoolConfig(
            n_emrs=N_EMRS,
            n_codes=setting.codes,
            codes_per_emr=setting.codes_per_emr,
            noise=setting.noise,
            systematic=setting.systematic,
        )
        if real is not None and setting is settings[-1]:
            about, pool = {"data": "real"}, pool_from_clean(real[0], real[1], config, seed)
        else:
            about, pool = {"data": "synthetic"}, make_pool(config, seed)
        digest.update(pool.noisy.data.tobytes() + pool.clean.indices.tobytes())
        named = about | asdict(setting) | {"seed": seed}
        rows += [named | row for row in play_all(pool, setting, seed)]
        if progress is not None:
            progress(done, len(cells))
    return Measured(rows, goals(rows), seeds, digest.hexdigest()[:16], shown=SHOWN)


def play_all(pool: SyntheticPool, setting: Setting, seed: int) -> list[dict[str, Any]]:
    """Rows of every policy on one pool, each with its share of the two limits."""
    target_K = reachable(pool, setting.quota)
    limits = limits_of(pool, target_K)
    rows = []
    for name in (*POLICIES, OURS_MINUTES, ORACLE):
        started = perf_counter()
        row = play(pool, target_K, name, setting.batch, seed)
        row["seconds"] = round(perf_counter() - started, 2)
        for limit in ("limit", "limit_hinted"):
            row[f"over_{limit}"] = round(row["emrs"] / max(limits[limit], 1.0), 4)
        rows.append(row | limits)
    return rows


def reachable(pool: SyntheticPool, quota: int) -> Floats:
    """The quota for codes that the pool holds with 95 % certainty, 0 for the others, (K,)."""
    probs, n_codes = pool.oracle, pool.oracle.shape[1]
    worth = probs.data * (probs.data >= MIN_YIELD)
    mean_K = np.bincount(probs.indices, worth, n_codes)
    variance_K = np.bincount(probs.indices, worth * (1 - probs.data), n_codes)
    return np.where(mean_K - 1.645 * np.sqrt(variance_K) >= quota, float(quota), 0.0)


def limits_of(pool: SyntheticPool, target_K: Floats) -> dict[str, float]:
    """EMRs needed by one who sees the clean codes, and by one who knows only the error rates.

    `limit` counts the codes that coders find where nothing hinted at them, at their true rates;
    `limit_hinted` does not, and is therefore no true bound.
    """
    n_emrs, n_codes = pool.clean.shape
    hinted = present(pool.clean, pool.oracle)
    unhinted_K = np.bincount(pool.clean.indices[~hinted], minlength=n_codes)
    silent_K = n_emrs - np.bincount(pool.oracle.indices, minlength=n_codes)
    blind = _programme(pool.oracle, target_K, unhinted_K / np.maximum(silent_K, 1))
    prices_K = ascend(blind, np.full(blind.needed.size, 0.3))
    return {
        "clairvoyant": round(_programme(pool.clean, target_K, np.zeros(n_codes)).solve(), 1),
        "limit": round(blind.solve(), 1),
        "limit_hinted": round(_programme(pool.oracle, target_K, np.zeros(n_codes)).solve(), 1),
        "certified": round(blind.dual(prices_K), 1),
    }


def _programme(probs: sp.csr_matrix, target_K: Floats, unlisted_K: Floats) -> Programme:
    codes = np.flatnonzero(target_K > 0)
    supply_K = expected_labels(probs, np.arange(probs.shape[0]))
    needed_K = np.minimum(target_K, supply_K)
    return Programme.make(
        probs[:, codes], np.ones(probs.shape[0]), needed_K[codes], unlisted_K[codes]
    )


class _OracleSampler(CoverageSampler):
    """Knows the mapper's true error rates from the start."""

    def __init__(self, pool: SyntheticPool, target_K: Floats, seed: int) -> None:
        super().__init__(pool.noisy, target_K, seed=seed)
        self._probs = pool.oracle

    def _forget(self) -> None:
        """Nothing was learned."""


def _sampler_for(pool: SyntheticPool, target_K: Floats, name: str, seed: int) -> CoverageSampler:
    if name == ORACLE:
        return _OracleSampler(pool, target_K, seed)
    return CoverageSampler(
        pool.noisy,
        target_K,
        category=pool.category,
        minutes=pool.expected_minutes if name == OURS_MINUTES else None,
        min_yield=MIN_YIELD,
        seed=seed,
        policy=OURS if name == OURS_MINUTES else name,
    )


def play(pool: SyntheticPool, target_K: Floats, name: str, batch: int, seed: int) -> dict[str, Any]:
    """Annotate batch after batch until every reachable code is met; count to the last EMR needed.

    Where a policy gives up, the effort dial is lowered once, and then EMRs come at random.
    """
    sampler = _sampler_for(pool, target_K, name, seed)
    minutes, annotated, forecasts = 0.0, 0, list[tuple[int, Interval]]()
    while (sampler.clean.counts() < target_K).any() and (sampler.state_N == FREE).any():
        if name == OURS and len(forecasts) < FORECASTS and annotated >= 4 * batch * len(forecasts):
            outlook = sampler.forecast(config=ForecastConfig(batch_size=batch), seed=seed)
            forecasts.append((annotated, outlook.emrs))
        chosen = _next_batch(sampler, batch)
        labels = pool.labels(chosen)
        running = sampler.clean.counts() + np.cumsum(labels.toarray(), axis=0)
        met = np.flatnonzero((running >= target_K).all(axis=1))
        counted = chosen[: met[0] + 1] if met.size else chosen
        annotated += counted.size
        minutes += float(pool.minutes[counted].sum())
        sampler.update(chosen, labels)
    row = {"policy": name, "emrs": annotated, "minutes": round(minutes)}
    row |= {"gave_up": sampler.min_yield < MIN_YIELD}
    row["reached"] = bool((sampler.clean.counts() >= target_K).all())
    # A forecast speaks of whole batches: what is pushed is annotated.
    to_go = [(sampler.clean.rows.size - at, interval) for at, interval in forecasts]
    row["forecasts_held"] = [bool(f.low <= left <= f.high) for left, f in to_go]
    row["forecast_errors"] = [round(float(f.median / left - 1), 3) for left, f in to_go]
    return row


def _next_batch(sampler: CoverageSampler, size: int) -> NDArray[np.int64]:
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
    held = [held for r in ours for held in r["forecasts_held"]]
    return [
        goal("emrs_to_strict", "<= 0.5", _ratio(few, OURS, STRICT)),
        goal("emrs_to_loose", "<= 0.4", _ratio(few, OURS, LOOSE)),
        goal("minutes_to_strict", "<= 0.6", _ratio(few, OURS_MINUTES, STRICT, "minutes")),
        goal("emrs_to_limit", "<= 1.02", _median(many_wanted, OURS, "over_limit")),
        goal("emrs_to_limit_systematic", "<= 1.05", _median(astray, OURS, "over_limit")),
        goal("certified_slack", "<= 0.05", max(slack, default=float("nan"))),
        goal("forecast_cover", "0.75 to 0.85", float(np.mean(held)) if held else float("nan")),
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
        lines = path.read_text("utf-8").splitlines()
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
