"""Reported: which EMRs are free, with a coder, annotated or excluded, and the clean labels so far.

Shapes: N EMRs, K codes, B reported rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import ConfigError, DataError
from sampler.labels import CleanLabels, Rows, code_matrix, row_numbers

FREE, PENDING, CLEAN, EXCLUDED = range(4)


class Reported:
    """What was told of a pool; a function of the last word on each EMR, in whatever order it came.

    Attributes:
        state_N: (N,) FREE, PENDING, CLEAN or EXCLUDED.
        clean: The clean codes of the annotated EMRs.
        target_K: (K,) clean EMRs wanted per code.
    """

    def __init__(
        self, n_emrs: int, n_codes: int, target: int | Sequence[int] | NDArray[Any]
    ) -> None:
        self.state_N = np.full(n_emrs, FREE, np.int8)
        self.clean = CleanLabels(n_codes)
        self.set_target(target)

    def update(
        self,
        rows: Sequence[int] | NDArray[Any],
        labels: Sequence[Sequence[int]] | sp.csr_matrix,
        *,
        weight: float = 1.0,
    ) -> None:
        """Record clean labels, in place of earlier ones of the same EMR.

        Args:
            rows: (B,) row numbers, whatever their state; of a repeated one the last counts.
            labels: The code numbers of each row, as lists or as a (B, K) CSR.
            weight: How much these EMRs count when error rates are learned, above 0.
        """
        numbers = row_numbers(rows, self.state_N.size)
        codes = code_matrix(labels, self.clean.n_codes)
        if codes.shape[0] != numbers.size:
            raise DataError(f"needed labels of {numbers.size} rows, got {codes.shape[0]}")
        if weight <= 0:
            raise ConfigError(f"weight must be above 0, got {weight:g}")
        self.clean.replace(numbers, codes, np.full(numbers.size, weight))
        self.state_N[numbers] = CLEAN
        self._forget()

    def remove(self, rows: Sequence[int] | NDArray[Any], *, pending: bool = False) -> None:
        """Take annotations back: counts fall, the EMRs are free again (or pending with a coder).

        Raises DataError for an EMR without clean labels.
        """
        numbers = self._in_state(rows, (CLEAN,), "has no clean labels to remove")
        self.clean.remove(numbers)
        self.state_N[numbers] = PENDING if pending else FREE
        self._forget()

    def release(self, rows: Sequence[int] | NDArray[Any], *, exclude: bool = False) -> None:
        """Give pending (or excluded) EMRs back to the pool, or keep them out of it for good.

        Raises DataError for an EMR that is free or annotated.
        """
        numbers = self._in_state(rows, (PENDING, EXCLUDED), "is not pending")
        self.state_N[numbers] = EXCLUDED if exclude else FREE

    def hold(self, rows: Sequence[int] | NDArray[Any]) -> None:
        """Mark free EMRs as pending: they are with coders already, as after a restart."""
        numbers = self._in_state(rows, (FREE, PENDING), "is annotated or excluded")
        self.state_N[numbers] = PENDING

    def set_target(self, target: int | Sequence[int] | NDArray[Any]) -> None:
        """Change the quota, one number or (K,); counts stay as they are."""
        n_codes, wanted = self.clean.n_codes, np.asarray(target, dtype=np.float64)
        if wanted.ndim and wanted.shape != (n_codes,):
            raise DataError(f"target needs {n_codes} values, got {wanted.shape}")
        if (wanted < 0).any():
            raise ConfigError(f"target must not be negative, got {wanted.min():g}")
        self.target_K = np.broadcast_to(wanted, (n_codes,)).copy()

    @property
    def pending(self) -> Rows:
        """Row numbers of the EMRs that are with coders, ascending."""
        return np.flatnonzero(self.state_N == PENDING)

    def _forget(self) -> None:
        """Called once labels have changed, so that nothing learned from them before is kept."""

    def _in_state(self, rows: Any, states: tuple[int, ...], problem: str) -> Rows:
        numbers = row_numbers(rows, self.state_N.size)
        wrong = numbers[~np.isin(self.state_N[numbers], states)]
        if wrong.size:
            raise DataError(f"row {wrong[0]} {problem}")
        return numbers
