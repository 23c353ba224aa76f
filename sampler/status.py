"""Where each code stands: clean, pending, needed, supply, scarcity; met, open or unreachable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sampler.labels import Floats, Rows
from sampler.select import entries, expected_labels, row_sums

UPPER_95 = 1.645


@dataclass(frozen=True)
class CodeStatus:
    """Where each code stands; every array is (K,)."""

    target: Floats
    clean: Floats
    """Clean EMRs with the code."""
    pending: Floats
    """Expected among the EMRs that are with coders."""
    goal: Floats
    """What is aimed at: the target, or for an unreachable code the floor if that is less."""
    needed: Floats
    """goal - clean - pending, not below 0."""
    supply: Floats
    """Expected among the EMRs that may still be chosen."""
    scarcity: Floats
    """needed / supply, at most 1; 0 where nothing is needed."""
    missing: Floats
    """EMRs that the pool is expected to lack for an unreachable code, 0 for the others."""
    state: NDArray[np.str_]
    """"met", "open", or "unreachable": even the 95 % upper bound of the pool falls short."""


class Contribution(NamedTuple):
    """What one EMR is worth to one needed code."""

    code: int
    probability: float
    needed: float
    supply: float
    scarcity: float


def code_status(
    probs_NK: sp.csr_matrix,
    *,
    free_N: NDArray[np.bool_],
    pending: Rows,
    clean_K: Floats,
    target_K: Floats,
    floor: float,
    min_yield: float,
    habit_variance: sp.csr_matrix | None = None,
) -> CodeStatus:
    """Count what is there and what may still come.

    `supply` sums every probability; whether a code can be reached is judged by those of at least
    `min_yield` alone, since no EMR below it would be chosen for that code. Its upper bound
    also counts that all of a sibling's listings may stand for it, or none: `habit_variance`,
    (K, K) by listed sibling and hidden code.
    """
    p, code, n_codes = probs_NK.data, probs_NK.indices, target_K.size
    free = np.repeat(free_N, np.diff(probs_NK.indptr))
    supply_K: Floats = probs_NK.T @ free_N.astype(np.float64)
    unlikely = np.flatnonzero(free & (p < min_yield))
    likely_K: Floats = supply_K - np.bincount(code[unlikely], p[unlikely], n_codes)
    pending_K = expected_labels(probs_NK, pending)
    in_hand_K = clean_K + pending_K
    # Only where the mean falls short does the spread decide.
    at = np.flatnonzero(free & (p >= min_yield) & (in_hand_K + likely_K < target_K)[code])
    variance_K: Floats = np.bincount(code[at], p[at] * (1 - p[at]), n_codes).astype(np.float64)
    unreachable = in_hand_K + likely_K + UPPER_95 * np.sqrt(variance_K) < target_K
    if habit_variance is not None and unreachable.any():
        doubt_K = variance_K + habit_variance.T @ supply_K**2
        hopeless = unreachable & (in_hand_K + likely_K + UPPER_95 * np.sqrt(doubt_K) < target_K)
        # Hope ends where no EMR is worth choosing for what is still needed.
        hoped_K = np.where(hopeless, 0.0, np.maximum(target_K - in_hand_K, 0.0))
        adds = np.minimum(p, hoped_K.astype(np.float32)[probs_NK.indices])
        if (row_sums(probs_NK, adds)[free_N] >= min_yield).any():
            unreachable = hopeless
    goal_K = np.where(unreachable, np.minimum(floor, target_K), target_K)
    needed_K = np.maximum(goal_K - in_hand_K, 0.0)
    short = np.where(unreachable, "unreachable", "open")
    return CodeStatus(
        target=target_K.copy(),
        clean=clean_K,
        pending=pending_K,
        goal=goal_K,
        needed=needed_K,
        supply=supply_K,
        scarcity=np.minimum(needed_K / np.maximum(supply_K, 1e-6), 1.0),
        missing=np.where(unreachable, target_K - in_hand_K - likely_K, 0.0),
        state=np.where(clean_K >= target_K, "met", short),
    )


def contributions(probs_NK: sp.csr_matrix, row: int, status: CodeStatus) -> list[Contribution]:
    """What an EMR is worth to each code that still needs EMRs, weightiest first."""
    _, codes, p = entries(probs_NK, np.array([row], np.int64))
    order = np.argsort(-p * status.scarcity[codes], kind="stable")
    order = order[status.needed[codes[order]] > 0]
    return [
        Contribution(
            code=int(code),
            probability=float(probability),
            needed=float(status.needed[code]),
            supply=float(status.supply[code]),
            scarcity=float(status.scarcity[code]),
        )
        for code, probability in zip(codes[order], p[order], strict=True)
    ]
