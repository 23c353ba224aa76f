"""Limits: what no rule can beat on a simulated pool, and what a run lost against it, part by part.

With lambda the dual prices of the linear programme (`sampler.bound`) and w_i = sum_k lambda_k p_ik
what EMR i is worth, the EMRs of any run are, exactly,

    D(lambda) + overshoot + low + passed_over + luck.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from sampler.bound import Programme, ascend
from sampler.confusion import present
from sampler.labels import Floats, Rows
from sampler.select import expected_labels
from sampler.synthetic import SyntheticPool

CERTAIN = 1.645
"""Standard deviations: a code is reachable where the pool holds the quota with 95 % certainty."""


@dataclass(frozen=True)
class Limits:
    """What no rule can beat on one pool."""

    clairvoyant: float
    """EMRs needed by one who sees the clean codes."""
    emrs: float
    """EMRs that any rule needs on average that knows the mapper's error rates, and no more."""
    certified: float
    """What the dual ascent proves of it."""
    relaxed: float
    """The same with the clean codes shown, at a price that no rule gains by: a higher bound."""
    price: Floats
    """(K,) lambda."""
    unlisted: Floats
    """(K,) true frequency of each code where nothing hints at it."""
    worth: Floats
    """(N,) w."""

    def row(self) -> dict[str, float]:
        """The bounds as columns."""
        names = {"clairvoyant": "clairvoyant", "limit": "emrs", "certified": "certified"}
        names["limit_relaxed"] = "relaxed"
        return {column: round(float(getattr(self, name)), 1) for column, name in names.items()}

    def split(self, clean: sp.csr_matrix, target_K: Floats, order: Rows) -> dict[str, float]:
        """Why the EMRs of `order` are more than the certified limit, as shares of it.

        overshoot: lambda x labels beyond the quota; low: 1 - w_i over chosen EMRs that are not
        worth their cost; passed_over: w_i - 1 over EMRs worth it and not chosen; luck: labels
        expected less labels found, in lambda, 0 on average.
        """
        found_K = np.asarray(clean[order].sum(axis=0)).ravel()
        chosen = np.zeros(self.worth.size, np.bool_)
        chosen[order] = True
        parts = {
            "overshoot": self.price @ np.maximum(found_K - target_K, 0.0),
            "low": np.maximum(1 - self.worth[chosen], 0.0).sum(),
            "passed_over": np.maximum(self.worth[~chosen] - 1, 0.0).sum(),
            "luck": self.worth[chosen].sum() - self.price @ found_K,
        }
        return {k: round(float(v) / max(self.certified, 1.0), 4) for k, v in parts.items()}


def reachable(pool: SyntheticPool, quota: int, min_yield: float) -> Floats:
    """The quota for codes that the pool holds with 95 % certainty, 0 for the others, (K,)."""
    probs, n_codes = pool.oracle, pool.oracle.shape[1]
    worth = probs.data * (probs.data >= min_yield)
    mean_K = np.bincount(probs.indices, worth, n_codes)
    variance_K = np.bincount(probs.indices, worth * (1 - probs.data), n_codes)
    return np.where(mean_K - CERTAIN * np.sqrt(variance_K) >= quota, float(quota), 0.0)


def limits_of(pool: SyntheticPool, target_K: Floats) -> Limits:
    """Solve for what no rule can beat; codes that coders find unhinted count at their true rate."""
    n_emrs, n_codes = pool.clean.shape
    hinted = present(pool.clean, pool.oracle)
    unhinted_K = np.bincount(pool.clean.indices[~hinted], minlength=n_codes)
    silent_K = n_emrs - np.bincount(pool.oracle.indices, minlength=n_codes)
    unlisted_K = unhinted_K / np.maximum(silent_K, 1)
    blind = _programme(pool.oracle, target_K, unlisted_K)
    codes = np.flatnonzero(target_K > 0)
    price_K = np.zeros(n_codes)
    price_K[codes] = ascend(blind, np.full(codes.size, 0.3))
    worth_N = blind.p @ price_K[codes] + unlisted_K @ price_K
    # Seeing the clean codes costs their surprise, which is 0 on average for any rule blind to them.
    surprise_N = pool.clean @ price_K - worth_N
    seen = _programme(pool.clean, target_K, np.zeros(n_codes))
    return Limits(
        clairvoyant=seen.solve(),
        emrs=blind.solve(),
        certified=blind.dual(price_K[codes]),
        relaxed=replace(seen, cost=1 + surprise_N).solve(),
        price=price_K,
        unlisted=unlisted_K,
        worth=worth_N,
    )


def _programme(probs: sp.csr_matrix, target_K: Floats, unlisted_K: Floats) -> Programme:
    codes = np.flatnonzero(target_K > 0)
    supply_K = expected_labels(probs, np.arange(probs.shape[0]))
    needed_K = np.minimum(target_K, supply_K)
    return Programme.make(
        probs[:, codes], np.ones(probs.shape[0]), needed_K[codes], unlisted_K[codes]
    )
