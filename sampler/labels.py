"""Clean labels per annotated EMR: re-annotation replaces, deletion removes, counts stay true."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import DataError

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


class CleanLabels:
    """The clean codes of every annotated EMR, M of them.

    Attributes:
        rows: (M,) row numbers in the pool, ascending.
        codes_MK: CSR of ones, the clean codes of each row.
        n_codes: K.
        weights: (M,) how much each EMR counts when error rates are learned; 1 unless told.
    """

    def __init__(self, n_codes: int) -> None:
        self.n_codes = n_codes
        self.rows: Rows = np.zeros(0, np.int64)
        self.codes_MK = sp.csr_matrix((0, n_codes), dtype=np.float32)
        self.weights: Floats = np.zeros(0)

    def replace(self, rows: Rows, codes: sp.csr_matrix, weights: Floats) -> None:
        """Record the codes of `rows` in place of earlier ones; of a repeated row the last."""
        last = rows.size - 1 - np.unique(rows[::-1], return_index=True)[1]
        rows, codes, weights = rows[last], codes[last], weights[last]
        self.remove(rows)
        order = np.argsort(np.concatenate([self.rows, rows]), kind="stable")
        self.rows = np.concatenate([self.rows, rows])[order]
        self.weights = np.concatenate([self.weights, weights])[order]
        self.codes_MK = sp.vstack([self.codes_MK, codes], format="csr", dtype=np.float32)[order]

    def remove(self, rows: Rows) -> None:
        """Forget the labels of `rows`; rows without labels are left as they are."""
        keep = np.flatnonzero(~np.isin(self.rows, rows))
        if keep.size < self.rows.size:
            self.rows, self.weights = self.rows[keep], self.weights[keep]
            self.codes_MK = self.codes_MK[keep]

    def counts(self) -> Floats:
        """Clean EMRs per code, (K,)."""
        found = np.bincount(self.codes_MK.indices, minlength=self.codes_MK.shape[1])
        return found.astype(np.float64)


def code_matrix(labels: Sequence[Sequence[int]] | sp.csr_matrix, n_codes: int) -> sp.csr_matrix:
    """Turn lists of code numbers into a CSR of ones, (B, n_codes); a repeated code counts once.

    Raises DataError for a code number outside 0 to n_codes - 1.
    """
    if sp.issparse(labels):
        matrix = sp.csr_matrix(labels, dtype=np.float32, copy=True)
        matrix.eliminate_zeros()
        if matrix.shape[1] != n_codes:
            raise DataError(f"labels need {n_codes} columns, got {matrix.shape[1]}")
    else:
        matrix = _from_lists(labels, n_codes)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _from_lists(labels: Sequence[Sequence[int]], n_codes: int) -> sp.csr_matrix:
    ends = np.cumsum(np.fromiter(map(len, labels), np.int64, len(labels)))
    starts = np.concatenate([[0], ends])
    codes = np.fromiter(chain.from_iterable(labels), np.int64, int(starts[-1]))
    if codes.size and not (codes.min() >= 0 and codes.max() < n_codes):
        wrong = codes[(codes < 0) | (codes >= n_codes)][0]
        raise DataError(f"a code number must lie in 0 to {n_codes - 1}, got {wrong}")
    ones = np.ones(codes.size, np.float32)
    return sp.csr_matrix((ones, codes, starts), shape=(len(labels), n_codes))


def row_numbers(rows: Any, n_emrs: int) -> Rows:
    """Check row numbers against the pool's size; raises DataError for one outside it."""
    numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < n_emrs):
        wrong = numbers[(numbers < 0) | (numbers >= n_emrs)][0]
        raise DataError(f"a row number must lie in 0 to {n_emrs - 1}, got {wrong}")
    return numbers
