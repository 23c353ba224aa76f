"""Agreement of coders on shared EMRs: Krippendorff's alpha per code and overall, disagreements.

Shapes: A annotations, U shared EMRs (units), K codes. Every code of every unit is a yes-or-no
decision by each of its coders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import DataError
from sampler.labels import Floats, Rows, code_matrix


@dataclass(frozen=True)
class Agreement:
    """How far coders agree on the EMRs that two or more of them coded."""

    alpha: float
    """Over all codes, 1 is perfect, 0 is chance; nan where no code was ever disputed or absent."""
    alpha_per_code: Floats
    """(K,) nan for a code that all gave everywhere or nowhere: chance agreement is then certain."""
    agreement_per_code: Floats
    """(K,) share of coder pairs that agree, among pairs in which either gave the code; or nan."""
    uses_per_code: Floats
    """(K,) annotations of shared EMRs that give the code."""
    shared: Rows
    """(U,) row numbers of the EMRs with two or more coders, ascending."""


class Disagreement(NamedTuple):
    """A code that some coders of one EMR gave and others did not."""

    row: int
    code: int
    given_by: tuple[Any, ...]
    not_given_by: tuple[Any, ...]


def agreement(
    rows: Sequence[int] | NDArray[Any],
    coders: Sequence[Any] | NDArray[Any],
    labels: Sequence[Sequence[int]] | sp.csr_matrix,
    *,
    n_codes: int,
) -> Agreement:
    """Measure agreement code by code.

    For a code, with n_u1 of a unit's m_u coders giving it, n = sum m_u, N1 = sum n_u1, N0 = n - N1:
    alpha = 1 - D_o / D_e, D_o = sum_u 2 n_u1 (m_u - n_u1) / (m_u - 1), D_e = 2 N1 N0 / (n - 1)
    (nominal alpha, Krippendorff 2011). Overall, D_o and D_e are each summed over codes first.

    Args:
        rows: (A,) row number of the EMR of each annotation.
        coders: (A,) who made it; one coder annotates an EMR once.
        labels: Code numbers of each annotation, as lists or an (A, K) CSR.
        n_codes: K.

    Raises:
        DataError: Arrays of different lengths, or two annotations of one EMR by one coder.
    """
    units = _Units.of(rows, coders, labels, n_codes)
    given, size_U = units.given, units.size
    n = float(size_U.sum())
    m = size_U[np.repeat(np.arange(size_U.size), np.diff(given.indptr))]
    apart = given.data * (m - given.data)
    observed_K = np.bincount(given.indices, 2 * apart / (m - 1), n_codes)
    uses_K = np.bincount(given.indices, given.data, n_codes).astype(np.float64)
    expected_K = 2 * uses_K * (n - uses_K) / max(n - 1, 1.0)
    together_K = np.bincount(given.indices, given.data * (given.data - 1) / 2, n_codes)
    pairs_K = together_K + np.bincount(given.indices, apart, n_codes)
    return Agreement(
        alpha=float(1 - _ratio(observed_K.sum(), expected_K.sum())),
        alpha_per_code=1 - _ratio(observed_K, expected_K),
        agreement_per_code=_ratio(together_K, pairs_K),
        uses_per_code=uses_K,
        shared=units.rows,
    )


def disagreements(
    rows: Sequence[int] | NDArray[Any],
    coders: Sequence[Any] | NDArray[Any],
    labels: Sequence[Sequence[int]] | sp.csr_matrix,
    *,
    n_codes: int,
) -> list[Disagreement]:
    """Codes to settle, by row and then code: given by some coders of an EMR and not by others."""
    units = _Units.of(rows, coders, labels, n_codes)
    given = units.given.tocoo()
    disputed = np.flatnonzero(given.data < units.size[given.row])
    start_U = np.concatenate([[0], np.cumsum(units.size)]).astype(np.int64)
    found = []
    for unit, code in zip(given.row[disputed].tolist(), given.col[disputed].tolist(), strict=True):
        mine = slice(start_U[unit], start_U[unit + 1])
        gave = units.codes[mine][:, [code]].toarray().ravel() > 0
        gave_it, others = units.coders[mine][gave], units.coders[mine][~gave]
        row = int(units.rows[unit])
        found.append(Disagreement(row, code, tuple(gave_it.tolist()), tuple(others.tolist())))
    return found


@dataclass(frozen=True, slots=True)
class _Units:
    """The shared EMRs and their annotations, those of one EMR side by side."""

    rows: Rows
    """(U,)"""
    size: Floats
    """(U,) annotations of each."""
    given: sp.csr_matrix
    """(U, K) how many of them give each code."""
    coders: NDArray[Any]
    """(A,) by EMR, then by coder."""
    codes: sp.csr_matrix
    """(A, K) in the same order."""

    @classmethod
    def of(cls, rows: Any, coders: Any, labels: Any, n_codes: int) -> _Units:
        """Group annotations by EMR and leave out the EMRs with one coder."""
        rows_A, coders_A = np.asarray(rows, np.int64), np.asarray(coders)
        codes_AK = code_matrix(labels, n_codes)
        if not rows_A.size == coders_A.size == codes_AK.shape[0]:
            raise DataError(
                "needed one EMR, one coder and one list of codes per annotation, "
                f"got {rows_A.size}, {coders_A.size} and {codes_AK.shape[0]}"
            )
        _, coder_A = np.unique(coders_A, return_inverse=True)
        order = np.lexsort((coder_A, rows_A))
        rows_A, coder_A = rows_A[order], coder_A[order]
        twice = (rows_A[1:] == rows_A[:-1]) & (coder_A[1:] == coder_A[:-1])
        if twice.any():
            raise DataError(f"row {rows_A[1:][twice][0]} has two annotations by one coder")
        _, unit, size = np.unique(rows_A, return_inverse=True, return_counts=True)
        shared = size[unit] > 1
        rows_U, unit_A, size_U = np.unique(rows_A[shared], return_inverse=True, return_counts=True)
        codes_AK = codes_AK[order[shared]]
        members = sp.csr_matrix(
            (np.ones(unit_A.size), (unit_A, np.arange(unit_A.size))),
            shape=(rows_U.size, unit_A.size),
        )
        given_UK = (members @ codes_AK).tocsr().astype(np.float64)
        given_UK.sort_indices()
        size_U = size_U.astype(np.float64)
        return cls(rows_U, size_U, given_UK, coders_A[order[shared]], codes_AK)


def _ratio(above: Any, below: Any) -> Any:
    """Quotient, nan where `below` is 0."""
    below = np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
