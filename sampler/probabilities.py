"""Probabilities of a pool: what its listed codes say, and the siblings that they may hide.

Shapes: N EMRs, K codes, L listings of one part of the pool, P pairs of siblings (j listed, k
hidden). A pool is gone through part by part, so that what is needed on the way stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

ENTRIES_AT_ONCE = 500_000
GRID = 4096.0
"""Probabilities are multiples of 1/GRID: sums over EMRs are then exact, whatever their order."""
LOWEST, HIGHEST = 20 / GRID, 4055 / GRID
WORTH_AN_ENTRY, WORTH_IN_A_LARGE_POOL = 0.02, 0.08
"""A sibling less likely than this gets no entry, in a pool of up to MOST_LISTED listings and in a
larger one, where such entries would outnumber the others."""
MOST_LISTED = 1_000_000
WORTH_ADDING = 0.5
"""What one listing says of a sibling is dropped below this share of the least entry."""


@dataclass(frozen=True)
class Siblings:
    """What may stand behind a listing of j: k by habit, and k by chance error; by j and then k."""

    start: NDArray[np.int32]
    """(K + 1,) where the pairs of each j begin."""
    hidden: NDArray[np.int32]
    """(P,) k."""
    habit: Singles
    """(P,) share of the sound listings of j that stand for k."""
    confusion: Singles
    """(P,) share of its chance errors that do."""
    most: Singles
    """(2, K) the highest habit and the highest confusion of each j."""
    least: float
    """A sibling less likely than this gets no entry."""

    @classmethod
    def of(
        cls, habit_KK: sp.csr_matrix, confusion_KK: sp.csr_matrix, least: float = WORTH_AN_ENTRY
    ) -> Siblings:
        """Take two matrices with entries at the same places; pairs of no weight are dropped."""
        habit, confusion = habit_KK.data, confusion_KK.data
        kept = np.maximum(habit, confusion) >= WORTH_ADDING * least
        start = np.concatenate([[0], np.cumsum(kept)])[habit_KK.indptr]
        most = np.zeros((2, habit_KK.shape[0]), np.float32)
        listed = np.repeat(np.arange(habit_KK.shape[0]), np.diff(start))
        np.maximum.at(most[0], listed, habit[kept])
        np.maximum.at(most[1], listed, confusion[kept])
        return cls(
            start=start.astype(np.int32),
            hidden=habit_KK.indices[kept],
            habit=habit[kept].astype(np.float32),
            confusion=confusion[kept].astype(np.float32),
            most=most,
            least=least,
        )

    def behind(self, listed: sp.csr_matrix, sound: Singles) -> sp.csr_matrix:
        """Chance that each sibling hides behind the listings of its EMR, like `listed`.

        Args:
            listed: (N, K) the listings.
            sound: (L,) chance that each is no chance error.
        """
        code, worth = listed.indices, WORTH_ADDING * self.least
        habit_K, confusion_K = self.most
        most = sound * habit_K[code] + (1 - sound) * confusion_K[code]
        at = np.flatnonzero(most >= worth)
        begin = self.start[code[at]]
        count = self.start[code[at] + 1] - begin
        which = np.repeat(np.arange(at.size, dtype=np.int32), count)
        before = np.cumsum(count, dtype=np.int32) - count
        pair = np.arange(which.size, dtype=np.int32) + np.repeat(begin - before, count)
        g = sound[at][which]
        chance = g * self.habit[pair] + (1 - g) * self.confusion[pair]
        kept = np.flatnonzero(chance >= worth)
        per_listing = np.bincount(at[which[kept]], minlength=code.size)
        ends = np.concatenate([[0], np.cumsum(per_listing)])[listed.indptr]
        places = (self.hidden[pair[kept]], ends.astype(listed.indptr.dtype))
        hidden = sp.csr_matrix((chance[kept], *places), shape=listed.shape)
        hidden.sum_duplicates()
        return hidden


def parts(matrix: sp.csr_matrix) -> Iterator[sp.csr_matrix]:
    """The rows of a matrix by the ENTRIES_AT_ONCE, without copying; at least one part."""
    ends, row, n_rows = matrix.indptr, 0, matrix.shape[0]
    while True:
        last = int(np.searchsorted(ends, int(ends[row]) + ENTRIES_AT_ONCE, side="right")) - 1
        last = min(max(last, row + 1), n_rows)
        at = slice(int(ends[row]), int(ends[last]))
        arrays = (matrix.data[at], matrix.indices[at], ends[row : last + 1] - ends[row])
        yield sp.csr_matrix(arrays, shape=(last - row, matrix.shape[1]))
        row = last
        if row >= n_rows:
            return


def with_hidden(
    probs_NK: sp.csr_matrix,
    hidden_NK: sp.csr_matrix,
    unlisted_K: Floats,
    *,
    least: float = WORTH_AN_ENTRY,
) -> sp.csr_matrix:
    """Add an entry for each code that is not listed but may hide behind a sibling, if likely."""
    chance = hidden_NK.data + unlisted_K.astype(np.float32)[hidden_NK.indices]
    hidden = with_data(hidden_NK, np.where(chance < least, 0, on_grid(chance)))
    hidden.eliminate_zeros()
    # One merge for both: what is listed is real, what is hidden imaginary.
    both = (probs_NK.astype(np.complex64) + hidden * np.complex64(1j)).tocsr()
    return with_data(both, np.where(both.data.real > 0, both.data.real, both.data.imag))


def on_grid(p: NDArray[Any]) -> Singles:
    """The nearest multiples of 1/GRID from LOWEST to HIGHEST."""
    rounded = np.round(np.clip(p, LOWEST, HIGHEST) * np.float32(GRID)) / np.float32(GRID)
    return rounded.astype(np.float32)


def with_data(matrix: sp.csr_matrix, data: NDArray[Any]) -> sp.csr_matrix:
    """The same places with other values."""
    values = data.astype(np.float32, copy=False)
    return sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)
