"""Batch: the EMRs chosen by one query, what each is expected to serve, and patches for coders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import ConfigError
from sampler.select import entries, order_by_code, sum_before
from sampler.status import CodeStatus

LIKELY = 0.5
"""An EMR is said to serve a needed code that it has with at least this probability."""
RANDOM_REASON = "drawn at random, to check the rest"
FEWEST = 5
"""EMRs that a batch is not cut below."""


class Serves(NamedTuple):
    """One code that a chosen EMR is expected to serve: "3rd of 5 for I63.9"."""

    code: int
    nth: int
    """The clean count that this EMR should bring the code to, pending EMRs counted."""
    target: int
    probability: float
    """P(clean has the code), 0 to 1."""


Reason = tuple[Serves, ...]
"""The codes that one EMR is expected to serve, scarcest first; empty for a random EMR."""


@dataclass(frozen=True)
class Batch:
    """EMRs chosen by one query, best first; random ones last."""

    rows: NDArray[np.int64]
    """(B,) row numbers in the pool."""
    gain: NDArray[np.float64]
    """(B,) weighted needed labels per unit cost that each should add; 0 for random ones."""
    minutes: NDArray[np.float64]
    """(B,) expected minutes of a coder; 1 each where the sampler was given none."""
    reasons: tuple[Reason, ...]
    random: NDArray[np.bool_]
    """(B,) True for the share drawn at random."""

    def __len__(self) -> int:
        return len(self.rows)

    def split(self, coders: int, *, overlap: float = 0.0) -> list[NDArray[np.int64]]:
        """Deal the batch into one patch per coder, of near-equal minutes, each in batch order.

        Longest EMR first to the coder with the least work so far. A share `overlap` of the batch,
        spread evenly over it, goes to two coders each, so that their agreement can be measured.

        Raises:
            ConfigError: No coders, a share outside 0 to 1, or an overlap with one coder only.
        """
        if coders < 1:
            raise ConfigError(f"a split needs at least 1 coder, got {coders}")
        if not 0.0 <= overlap <= 1.0:
            raise ConfigError(f"overlap must lie in 0 to 1, got {overlap:g}")
        if overlap and coders < 2:
            raise ConfigError("an overlap needs at least 2 coders, got 1")
        positions = np.concatenate([np.arange(len(self)), self._shared(overlap)])
        load, patches = np.zeros(coders), [set[int]() for _ in range(coders)]
        for at in positions[np.argsort(-self.minutes[positions], kind="stable")].tolist():
            open_to = np.array([np.inf if at in patch else 0.0 for patch in patches])
            coder = int(np.argmin(load + open_to))
            patches[coder].add(at)
            load[coder] += self.minutes[at]
        return [self.rows[sorted(patch)] for patch in patches]

    def _shared(self, overlap: float) -> NDArray[np.int64]:
        count = round(overlap * len(self))
        return np.floor(np.arange(count) * len(self) / max(count, 1)).astype(np.int64)


def plan_size(batch_size: int, share_left: float) -> int:
    """EMRs to plan ahead, so that `shrunk` can tell whether the batch is to be cut."""
    return math.ceil(batch_size / share_left)


def shrunk(batch_size: int, planned: int, share_left: float) -> int:
    """The batch, cut to its share of the EMRs planned, but not below FEWEST."""
    return min(batch_size, max(FEWEST, math.ceil(share_left * planned)))


def reasons(
    probs_NK: sp.csr_matrix, rows: NDArray[np.int64], status: CodeStatus
) -> tuple[Reason, ...]:
    """For each chosen row, in order, the needed codes that it is expected to serve.

    An EMR serves a code that it is LIKELY to have and that the EMRs before it are not expected to
    fill; one with no such code is said to serve the single code it is worth most to.
    """
    position, code, p = entries(probs_NK, rows)
    by_code = order_by_code(code, status.goal.size)
    position, code, p = position[by_code], code[by_code], p[by_code]
    in_hand = (status.clean + status.pending)[code]
    nth = np.floor(in_hand + sum_before(code, p)) + 1
    serves = np.flatnonzero((status.needed[code] > 0) & (nth <= status.goal[code]))
    worth = p * status.scarcity[code]
    serves = serves[np.lexsort((-worth[serves], position[serves]))]
    first = np.diff(position[serves], prepend=-1) > 0
    serves = serves[first | (p[serves] >= LIKELY)]
    served: list[list[Serves]] = [[] for _ in range(rows.size)]
    for at in serves.tolist():
        serve = Serves(int(code[at]), int(nth[at]), int(status.goal[code[at]]), float(p[at]))
        served[position[at]].append(serve)
    return tuple(map(tuple, served))


def reason_text(reason: Reason, codes: Sequence[str]) -> str:
    """Word a reason: "3rd of 5 for I63.9; 2nd of 5 for E11.9"; `codes` names the code numbers."""
    if not reason:
        return RANDOM_REASON
    return "; ".join(f"{ordinal(s.nth)} of {s.target} for {codes[s.code]}" for s in reason)


def ordinal(number: int) -> str:
    """1 -> "1st", 12 -> "12th", 23 -> "23rd"."""
    teens = 10 <= number % 100 <= 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
