"""Selection policies by name: ours, and those that it is compared with.

Shapes: N EMRs in the pool, K codes. Nothing here loops over EMRs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sampler.bound import quick_prices
from sampler.select import (
    Picks,
    Policy,
    PoolView,
    Rows,
    entries,
    first_of_group,
    order_by_code,
    row_sums,
    scarcity_greedy,
    sum_before,
    weighted_greedy,
)

MOST_PRICED = 500_000
"""Entries of a pool for which prices are sought before each batch; larger ones take scarcity."""
SCARCITY_SHARE = 1e-3
"""Of scarcity in the weights, so that a needed code never weighs nothing."""


def priced_greedy(view: PoolView, size: int) -> Picks:
    """Maximise sum_k price_k x min(needed_k, sum of p_ik over the batch) per unit cost.

    price_k is the dual price of the linear programme over what is left (`sampler.bound`), sought
    anew for every batch: what one more EMR of the code would cost. Scarcity stands in for it.
    """
    if view.probs.nnz > MOST_PRICED:
        return scarcity_greedy(view, size)
    weight_K = quick_prices(view) + SCARCITY_SHARE * view.scarcity
    return weighted_greedy(view, weight_K, size)


def plain_greedy(view: PoolView, size: int) -> Picks:
    """Maximise the expected number of needed labels per unit cost, every code alike."""
    return weighted_greedy(view, np.ones_like(view.needed), size)


def random_emrs(view: PoolView, size: int) -> Picks:
    """EMRs at random."""
    return _in_random_order(view, np.flatnonzero(view.free), size)


def any_deficient(view: PoolView, size: int) -> Picks:
    """The paper, read loosely: EMRs at random among those listing any deficient code."""
    lists_one = row_sums(view.noisy, view.needed[view.noisy.indices] > 0) > 0
    return _in_random_order(view, np.flatnonzero(view.free & lists_one), size)


def every_deficient_twice(view: PoolView, size: int) -> Picks:
    """The paper, read strictly: one patch that lists every deficient code at least twice.

    EMRs come in random order; one is taken if a deficient code on it was listed fewer than two
    times by the EMRs before it. (An EMR passed over changes no count below two, so counting all
    EMRs before it equals counting the taken ones.)
    """
    free = np.flatnonzero(view.free)
    free = free[np.argsort(view.order[free])]
    position, code, _ = entries(view.noisy, free)
    wanted = view.needed[code] > 0
    position, code = position[wanted], code[wanted]
    by_code = order_by_code(code, view.needed.size)
    early = sum_before(code[by_code], np.ones(code.size)) < 2
    return _in_random_order(view, free[np.unique(position[by_code][early])], size)


def quota_per_code(view: PoolView, size: int) -> Picks:
    """For each code on its own, its most likely EMRs, as many as its share of the need."""
    free = np.flatnonzero(view.free)
    position, code, p = entries(view.probs, free)
    wanted = (view.needed[code] > 0) & (p >= view.min_yield)
    position, code, p = position[wanted], code[wanted], p[wanted]
    by_code = np.lexsort((view.order[free[position]], -p, code))
    rank = sum_before(code[by_code], np.ones(code.size))
    share = np.ceil(size * view.needed / max(view.needed.sum(), 1.0))
    within = rank < np.minimum(share, np.ceil(view.needed))[code[by_code]]
    best_first = np.argsort(rank[within], kind="stable")
    rows = free[position[by_code][within][best_first]]
    rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
    return _cut(view, rows, size)


POLICIES: Mapping[str, Policy] = {
    "priced greedy": priced_greedy,
    "random": random_emrs,
    "any deficient": any_deficient,
    "every deficient twice": every_deficient_twice,
    "quota per code": quota_per_code,
    "plain greedy": plain_greedy,
    "scarcity greedy": scarcity_greedy,
}


def _in_random_order(view: PoolView, rows: Rows, size: int) -> Picks:
    return _cut(view, rows[np.argsort(view.order[rows])], size)


def _cut(view: PoolView, rows: Rows, size: int) -> Picks:
    if view.group is not None:
        rows = rows[first_of_group(view.group[rows], np.ones(rows.size, np.bool_))]
    rows = rows[:size]
    return Picks(rows, np.zeros(rows.size))
