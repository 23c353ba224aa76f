"""Greedy selection: which EMRs a batch takes, given what each is expected to add.

Shapes: N EMRs in the pool, K codes, C candidates of one pass. Matrices are CSR; nothing here loops
over EMRs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

SLACK = 0.1
"""A pick may be worth at most this share less than the best one at that moment."""
CANDIDATES_PER_PICK = 4
FEWEST_CANDIDATES, MOST_CANDIDATES = 256, 200_000
SHORTLISTED, FEWEST_SHORTLISTED = 12, 50_000
"""EMRs of a shortlist per candidate of its first pass, and at least."""
TIE = 1e-6
"""Relative size of the nudge that decides between equal gains."""
NO_GAIN = 1e-9


@dataclass(frozen=True)
class PoolView:
    """What a policy sees of the pool."""

    probs: sp.csr_matrix
    """(N, K) P(clean has code), entries in (0, 1]."""
    noisy: sp.csr_matrix
    """(N, K) confidence of each noisy code, entries in (0, 1]."""
    free: NDArray[np.bool_]
    """(N,) true where an EMR may be chosen."""
    needed: Floats
    """(K,) clean EMRs that each code still lacks, pending ones discounted."""
    scarcity: Floats
    """(K,) needed over expected supply, 0 to 1."""
    order: Floats
    """(N,) a fixed random order in [0, 1): breaks ties, and is the draw of the random policies."""
    cost: Floats
    """(N,) cost of an EMR, in units of the average one."""
    min_yield: float = 0.2
    """An EMR expected to add fewer needed labels than this is not worth a coder's time."""
    suggested: sp.csr_matrix | None = None
    """(N, K) the model's probabilities; None without a model."""
    unlisted: Floats | None = None
    """(K,) share of EMRs with the code where nothing hints at it; None counts as 0."""
    group: NDArray[np.int64] | None = None
    """(N,) copies share a number; a batch takes at most one EMR of a group."""

    def only(self, rows: Rows) -> PoolView:
        """The same over some EMRs alone, in the order of `rows`."""
        return replace(
            self,
            probs=self.probs[rows],
            noisy=self.noisy[rows],
            suggested=None if self.suggested is None else self.suggested[rows],
            free=self.free[rows],
            order=self.order[rows],
            cost=self.cost[rows],
            group=None if self.group is None else self.group[rows],
        )


class Picks(NamedTuple):
    """Rows in the order chosen, and what each was expected to add per unit cost."""

    rows: Rows
    gain: Floats


Policy = Callable[[PoolView, int], Picks]


# -- greedy ---------------------------------------------------------------------------------------


def scarcity_greedy(view: PoolView, size: int) -> Picks:
    """Maximise sum_k scarcity_k x min(needed_k, sum of p_ik over the batch) per unit cost."""
    return weighted_greedy(view, view.scarcity, size)


def weighted_greedy(view: PoolView, weight_K: Floats, size: int) -> Picks:
    """Maximise sum_k weight_k x min(needed_k, sum of p_ik over the batch) per unit cost, in passes.

    A pass ranks the EMRs by fresh gain and walks the best of them in order. A candidate is taken
    if, after all better-ranked ones are counted, its gain is within SLACK of what it was ranked
    by, and no candidate passed over is now worth more; so each pick is within about SLACK of the
    true greedy one, in a handful of passes instead of one per pick.

    Gains only fall as a batch grows, so a pass looks at a shortlist, and the whole pool is ranked
    anew only once too few of it are worth more than the best EMR that was left out.
    """
    remaining_K, free_N = np.where(weight_K > 0, view.needed, 0.0), view.free.copy()
    short: _Shortlist | None = None
    rows, gains, left = [], [], size
    while left > 0:
        count = _candidates(left)
        short = short or _shortlist(view, remaining_K, weight_K, free_N, SHORTLISTED * count)
        gain = _gains(short.view, remaining_K, weight_K, free_N[short.rows])
        candidates = _best(gain, short.view.order, count)
        candidates = candidates[gain[candidates] >= (1 - TIE) * short.left_out]
        if short.left_out and candidates.size < min(left, FEWEST_CANDIDATES):
            short = None
            continue
        if not candidates.size:
            break
        fresh, holds = _walk(short.view, candidates, gain[candidates], remaining_K, weight_K)
        taken = np.flatnonzero(holds)[:left]
        picked = short.rows[candidates[taken]]
        rows.append(picked)
        gains.append(fresh[taken])
        left -= picked.size
        remaining_K = np.maximum(remaining_K - expected_labels(view.probs, picked), 0.0)
        free_N[picked] = False
        if view.group is not None:
            free_N &= ~np.isin(view.group, view.group[picked])
    return _picks(rows, gains)


class _Shortlist(NamedTuple):
    """The EMRs worth most."""

    rows: Rows
    """Of the pool."""
    view: PoolView
    """Over these alone."""
    left_out: float
    """No other EMR adds more than this; 0 where none adds anything."""


def _shortlist(
    view: PoolView, remaining_K: Floats, weight_K: Floats, free_N: NDArray[np.bool_], count: int
) -> _Shortlist:
    count = max(count, FEWEST_SHORTLISTED)
    if count >= free_N.size:
        return _Shortlist(np.arange(free_N.size), view, 0.0)
    gain_N = _gains(view, remaining_K, weight_K, free_N)
    rows, left_out = np.flatnonzero(gain_N > NO_GAIN), 0.0
    if count < rows.size:
        ranked = rows[np.argpartition(-gain_N[rows], count)]
        rows, left_out = np.sort(ranked[:count]), float(gain_N[ranked[count]])
    return _Shortlist(rows, view.only(rows), left_out)


def _gains(
    view: PoolView, remaining_K: Floats, weight_K: Floats, free_N: NDArray[np.bool_]
) -> Floats:
    """Weighted needed labels per unit cost that each EMR would add now, (N,); 0 to bar it."""
    probs = view.probs
    adds = np.minimum(probs.data, remaining_K.astype(np.float32)[probs.indices])
    worth_it = row_sums(probs, adds) >= view.min_yield
    adds *= weight_K.astype(np.float32)[probs.indices]
    gain_N = row_sums(probs, adds) / view.cost * (1 + TIE * view.order)
    return np.where(free_N & worth_it, gain_N, 0.0)


def _candidates(left: int) -> int:
    """How many EMRs are worth a closer look."""
    return int(np.clip(CANDIDATES_PER_PICK * left, FEWEST_CANDIDATES, MOST_CANDIDATES))


def _best(gain_N: Floats, order_N: Floats, count: int) -> Rows:
    """The EMRs worth a closer look, most gain first."""
    rows: Rows = np.arange(gain_N.size)
    if count < gain_N.size:
        rows = np.argpartition(-gain_N, count - 1)[:count]
    rows = rows[gain_N[rows] > NO_GAIN]
    ranked: Rows = rows[np.lexsort((order_N[rows], -gain_N[rows]))]
    return ranked


def _walk(
    view: PoolView, candidates: Rows, ranked_by: Floats, remaining_K: Floats, weight_K: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Gain of each candidate once the better-ranked ones are counted; whether it holds, (C,)."""
    position, code, p = entries(view.probs, candidates)
    by_code = order_by_code(code, weight_K.size)
    position, code, p = position[by_code], code[by_code], p[by_code]
    adds = np.clip(remaining_K[code] - sum_before(code, p), 0.0, p)
    yields = np.bincount(position, adds, candidates.size)
    fresh = np.bincount(position, adds * weight_K[code], candidates.size) / view.cost[candidates]
    holds = (fresh >= (1 - SLACK) * ranked_by) & (yields >= view.min_yield)
    passed_over = np.where(holds | (yields < view.min_yield), 0.0, fresh)
    holds &= ranked_by >= (1 - SLACK) * np.maximum.accumulate(passed_over)
    holds[0] = True
    if view.group is not None:
        holds &= first_of_group(view.group[candidates], holds)
    return fresh, holds


# -- shared steps ---------------------------------------------------------------------------------


def entries(matrix: sp.csr_matrix, rows: Rows) -> tuple[Rows, NDArray[np.int32], Floats]:
    """The stored entries of `rows`, in that order: position in `rows`, column, value."""
    start = matrix.indptr[rows].astype(np.int64)
    length = matrix.indptr[rows + 1] - start
    ends = np.cumsum(length)
    total = int(ends[-1]) if ends.size else 0
    at = np.arange(total) + np.repeat(start - ends + length, length)
    position = np.repeat(np.arange(rows.size), length)
    return position, matrix.indices[at], matrix.data[at].astype(np.float64)


def order_by_code(code: NDArray[np.int32], n_codes: int) -> Rows:
    """Positions that sort the entries by code, ties left in place."""
    # 16-bit keys get numpy's radix sort, several times as fast as the sort of wider ones.
    narrow = code.astype(np.uint16) if n_codes <= 2**16 else code
    return np.argsort(narrow, kind="stable")


def sum_before(key: NDArray[np.int32], value: Floats) -> Floats:
    """Sum of the values before each entry within its run of equal keys; `key` must be sorted."""
    if not key.size:
        return np.zeros(0)
    before = np.cumsum(value) - value
    starts = np.concatenate([[True], key[1:] != key[:-1]])
    at_start: Floats = np.maximum.accumulate(np.where(starts, before, -np.inf))
    return before - at_start


def expected_labels(probs_NK: sp.csr_matrix, rows: Rows) -> Floats:
    """Expected clean EMRs per code among `rows`, (K,)."""
    _, code, p = entries(probs_NK, rows)
    return np.bincount(code, p, probs_NK.shape[1]).astype(np.float64)


def row_sums(matrix: sp.csr_matrix, values: NDArray[np.generic]) -> Floats:
    """Sum per row of values laid out like `matrix.data`, (N,)."""
    sums = np.zeros(matrix.shape[0])
    filled = np.flatnonzero(np.diff(matrix.indptr))
    if filled.size:
        sums[filled] = np.add.reduceat(values, matrix.indptr[filled], dtype=np.float32)
    return sums


def first_of_group(group: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the rows that are allowed, the first of each group, (C,)."""
    first = np.zeros(group.size, np.bool_)
    at = np.flatnonzero(allowed)
    first[at[np.unique(group[at], return_index=True)[1]]] = True
    return first


def _picks(rows: list[Rows], gains: list[Floats]) -> Picks:
    if not rows:
        return Picks(np.zeros(0, np.int64), np.zeros(0))
    return Picks(np.concatenate(rows), np.concatenate(gains))
