"""Certified lower bound on the EMRs (or minutes) still needed, and how far a plan is from it.

Any rule that does not see the clean codes of an EMR before it chooses it needs, in expectation,
at least the value of the linear programme

    min  sum_i cost_i x_i   with   sum_i max(p_ik, b_k) x_i >= needed_k,  0 <= x_i <= 1,

where b_k is the share of EMRs in which a coder finds the code though no entry of p hinted at it.
By weak duality every price vector lambda >= 0 gives a valid bound on that value,

    D(lambda) = sum_k lambda_k needed_k - sum_i max(0, sum_k lambda_k max(p_ik, b_k) - cost_i),

so the ascent may stop anywhere: what it returns is certified, only not always tight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog, minimize

from label_config.errors import ConfigError
from sampler.select import Floats, PoolView, scarcity_greedy

SMOOTHING = (0.3, 0.1, 0.03, 0.01)
"""Widths of the softened max, wide to narrow; the last decides how near the optimum it ends."""
STEPS = 60
QUICK_SMOOTHING, QUICK_STEPS = (0.1, 0.03), 20
ROUNDS = 2
HIGHEST_PRICE = 100.0


@dataclass(frozen=True)
class Bound:
    """A lower bound on the cost of finishing, in EMRs, or in average EMRs where minutes count."""

    cost: float
    """No rule blind to the clean codes can be expected to need less; 0 when nothing is needed."""
    prices: Floats
    """(K,) What one more EMR of each code is worth, in the same unit: the LP's dual prices."""
    planned: float | None = None
    """What the scarcity greedy plan is expected to need; None if it was not asked for."""

    @property
    def distance(self) -> float:
        """How much the plan may be above the best, as a share: 0.02 is at most 2 % above."""
        if self.planned is None:
            raise ConfigError("distance needs a bound made with plan=True")
        return self.planned / self.cost - 1.0 if self.cost > 0 else 0.0


@dataclass(frozen=True)
class Programme:
    """The linear programme over N EMRs and the K codes that need any."""

    p: sp.csr_matrix
    """(N, K) what P(clean has code) is above b_k."""
    cost: Floats
    """(N,) above 0."""
    needed: Floats
    """(K,) above 0, and not above what the whole pool is expected to hold."""
    unlisted: Floats
    """(K,) b_k."""

    @classmethod
    def of(cls, view: PoolView, unlisted_K: Floats | None = None) -> Programme:
        """Keep the free EMRs and the needed codes; a code's need is cut to its whole supply."""
        codes = np.flatnonzero(view.needed > 0)
        rows = np.flatnonzero(view.free)
        # In the fixed order, rounding does not depend on the order of the rows.
        rows = rows[np.argsort(view.order[rows])]
        p_NK = view.probs[rows][:, codes]
        supply_K = np.bincount(p_NK.indices, p_NK.data, codes.size)
        unlisted_K = np.zeros(view.needed.size) if unlisted_K is None else unlisted_K
        needed_K = np.minimum(view.needed[codes], supply_K)
        return cls.make(p_NK, view.cost[rows], needed_K, unlisted_K[codes])

    @classmethod
    def make(
        cls, p_NK: sp.csr_matrix, cost_N: Floats, needed_K: Floats, unlisted_K: Floats
    ) -> Programme:
        """Split p into b and what is above it, so that a hinted code counts p and no more."""
        above = p_NK.astype(np.float64)
        above.data = np.maximum(above.data - unlisted_K[above.indices], 0.0)
        return cls(above, cost_N, needed_K, unlisted_K)

    def dual(self, price_K: Floats) -> float:
        """D(lambda): a valid lower bound for any prices >= 0."""
        profit_N = self.p @ price_K + self.unlisted @ price_K - self.cost
        return float(price_K @ self.needed - np.maximum(profit_N, 0.0).sum())

    def softened(self, price_K: Floats, width: float) -> tuple[float, Floats]:
        """-D and its gradient, with max(0, y) softened to width x log(1 + exp(y / width))."""
        scaled_N = (self.p @ price_K + self.unlisted @ price_K - self.cost) / width
        value = width * np.logaddexp(0.0, scaled_N).sum() - price_K @ self.needed
        chosen_N = 0.5 * (1.0 + np.tanh(0.5 * scaled_N))
        return value, self.p.T @ chosen_N + self.unlisted * chosen_N.sum() - self.needed

    def solve(self) -> float:
        """The exact value, by HiGHS; for small pools."""
        n_emrs, n_codes = self.p.shape
        if not n_codes:
            return 0.0
        # One more variable, the number of EMRs chosen, keeps the constraints sparse.
        held = sp.hstack([self.p.T, self.unlisted[:, None]], format="csr")
        counted = np.concatenate([np.ones(n_emrs), [-1.0]])[None, :]
        solved = linprog(
            np.concatenate([self.cost, [0.0]]),
            A_ub=-held,
            b_ub=-self.needed * (1 - 1e-7),
            A_eq=sp.csr_matrix(counted),
            b_eq=[0.0],
            bounds=[(0, 1)] * n_emrs + [(0, None)],
            method="highs",
        )
        if solved.status != 0:
            raise ConfigError(f"the linear programme has no solution: {solved.message}")
        return float(solved.fun)


def lower_bound(
    view: PoolView, *, unlisted_K: Floats | None = None, steps: int = STEPS, plan: bool = False
) -> Bound:
    """Climb the dual by L-BFGS on a softened max that is narrowed in stages.

    Args:
        view: The free part of the pool and what is needed; groups and min_yield are not used.
        unlisted_K: b_k, each 0 to 1; None takes 0, as if coders never found an unhinted code.
        steps: L-BFGS iterations per stage; more give a tighter bound.
        plan: Also run the greedy to the end, for `Bound.distance`.
    """
    programme = Programme.of(view, unlisted_K)
    codes = np.flatnonzero(view.needed > 0)
    prices_K = np.zeros(view.needed.size)
    prices_K[codes] = ascend(programme, view.scarcity[codes], steps)
    planned = _planned(view, unlisted_K) if plan else None
    return Bound(programme.dual(prices_K[codes]), prices_K, planned)


def quick_prices(view: PoolView) -> Floats:
    """(K,) Dual prices near the best ones, in a few steps from scarcity; for choosing a batch."""
    programme = Programme.of(view, view.unlisted)
    codes = np.flatnonzero(view.needed > 0)
    prices_K = np.zeros(view.needed.size)
    found = ascend(programme, view.scarcity[codes], QUICK_STEPS, widths=QUICK_SMOOTHING)
    # No label is worth more EMRs than the effort dial allows.
    prices_K[codes] = np.minimum(found, 1 / view.min_yield)
    return prices_K


def _planned(view: PoolView, unlisted_K: Floats | None) -> float:
    """Cost of the greedy plan, once the unhinted codes that it brings are taken off the needs."""
    rows = scarcity_greedy(view, int(view.free.sum())).rows
    if unlisted_K is not None:
        for _ in range(ROUNDS):
            needed_K = np.maximum(view.needed - unlisted_K * rows.size, 0.0)
            rows = scarcity_greedy(replace(view, needed=needed_K), int(view.free.sum())).rows
    return float(view.cost[rows].sum())


def ascend(
    programme: Programme,
    start_K: Floats,
    steps: int = STEPS,
    *,
    widths: Sequence[float] = SMOOTHING,
) -> Floats:
    """Prices with the best D(lambda) found; zeros, and so a bound of 0, if none is above 0."""
    price_K, best_K, best = start_K, np.zeros_like(start_K), 0.0
    for width in widths if start_K.size else ():
        found = minimize(
            programme.softened,
            price_K,
            args=(width,),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, HIGHEST_PRICE)] * start_K.size,
            options={"maxiter": steps},
        )
        price_K = found.x
        if programme.dual(price_K) > best:
            best_K, best = price_K, programme.dual(price_K)
    return best_K
