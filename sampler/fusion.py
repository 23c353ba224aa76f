"""Fusion: the model's suggestions as a second witness beside the noisy codes.

Shapes: N EMRs in the pool, M annotated ones, K codes. All matrices are CSR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sampler.confusion import present
from sampler.labels import Floats

PRIOR = (0.0, 1.0, 0.3, 0.0)
"""Before anything is learned: what the noisy codes say, moved a little by the suggestion."""
PRECISION = (4.0, 10.0, 10.0, 4.0)
LOWEST, HIGHEST = 0.005, 0.995
SILENT = 0.02
"""What a model says of a code that it does not list among its suggestions."""
WORTH_AN_ENTRY = 0.02
NEWTON_STEPS = 12


@dataclass(frozen=True)
class Fusion:
    """P(clean has k) = sigmoid(theta . z), for codes that either witness names.

    z = (1, logit p_ik, logit m_ik - logit SILENT, 1 where p names no such code), p from the noisy
    codes (`sampler.posterior`), m from the model.
    """

    theta: Floats
    """(4,) learned calibration."""

    def probabilities(
        self, probs_NK: sp.csr_matrix, suggested_NK: sp.csr_matrix, unlisted_K: Floats
    ) -> sp.csr_matrix:
        """P(clean has code | noisy codes, confidence, suggestion), (N, K)."""
        union, z = _features(probs_NK, suggested_NK, unlisted_K)
        p = np.clip(_sigmoid(z @ self.theta), LOWEST, HIGHEST)
        # The same grid as the posterior's keeps sums exact, whatever their order.
        p = np.round(p * 4096.0) / 4096.0
        union.data = np.where((z[:, 3] > 0) & (p < WORTH_AN_ENTRY), 0.0, p).astype(np.float32)
        union.eliminate_zeros()
        return union


def asked_rows(suggested_NK: sp.csr_matrix) -> NDArray[np.int64]:
    """Rows of the EMRs that the model has spoken of: those with any suggestion, however unlikely.

    Of the others the noisy codes alone tell: a model that was not asked is no model that says no.
    """
    return np.flatnonzero(np.diff(suggested_NK.indptr))


def fit_fusion(
    probs_MK: sp.csr_matrix,
    suggested_MK: sp.csr_matrix,
    clean_MK: sp.csr_matrix,
    *,
    weight_M: Floats,
    unlisted_K: Floats,
) -> Fusion:
    """Learn how far suggestions can be trusted beside the noisy codes.

    The penalised maximum-likelihood estimate by Newton's method from the prior: a function of the
    annotations and not of the way to them.

    Args:
        probs_MK: What the noisy codes say of the annotated EMRs.
        suggested_MK: What the model said of them, 0 to 1, before it had learned from them.
        clean_MK: What the coders found.
        weight_M: How much each EMR counts.
        unlisted_K: Each code's frequency where no noisy code hints at it.
    """
    union, z = _features(probs_MK, suggested_MK, unlisted_K)
    right = present(union, clean_MK).astype(np.float64)
    weight = np.repeat(weight_M, np.diff(union.indptr))
    prior, precision = np.array(PRIOR), np.array(PRECISION)
    theta: Floats = prior
    for _ in range(NEWTON_STEPS if right.size else 0):
        p = _sigmoid(z @ theta)
        hessian = (z * (weight * p * (1 - p))[:, None]).T @ z + np.diag(precision)
        slope = z.T @ (weight * (right - p)) - precision * (theta - prior)
        theta = theta + np.clip(np.linalg.solve(hessian, slope), -1.0, 1.0)
    return Fusion(theta)


def _features(
    probs_NK: sp.csr_matrix, suggested_NK: sp.csr_matrix, unlisted_K: Floats
) -> tuple[sp.csr_matrix, Floats]:
    """The places that either matrix names, and (entries, 4) z of each."""
    places = (_ones(probs_NK) + _ones(suggested_NK)).tocsr()
    places.sort_indices()
    places.data = np.ones(places.nnz)
    # Adding ones keeps every place, so that the values of both line up.
    p, m = (_lined_up(matrix, places) for matrix in (probs_NK, suggested_NK))
    silent = p == 0
    p = np.where(silent, np.clip(unlisted_K, LOWEST, HIGHEST)[places.indices], p)
    m = np.maximum(m, SILENT)
    z = np.column_stack([np.ones(p.size), _logit(p), _logit(m) - _logit(SILENT), silent])
    return places, z


def _lined_up(matrix: sp.csr_matrix, places: sp.csr_matrix) -> Floats:
    both = (matrix.astype(np.float64) + places).tocsr()
    both.sort_indices()
    values: Floats = np.maximum(both.data - 1.0, 0.0)
    return np.where(values < 1e-9, 0.0, values)


def _ones(matrix: sp.csr_matrix) -> sp.csr_matrix:
    ones = np.ones(matrix.nnz)
    return sp.csr_matrix((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


def _logit(p: Floats | float) -> Floats:
    q = np.clip(p, LOWEST, HIGHEST)
    logit: Floats = np.log(q / (1 - q))
    return logit


def _sigmoid(x: Floats) -> Floats:
    p: Floats = 0.5 * (1.0 + np.tanh(0.5 * x))
    return p
