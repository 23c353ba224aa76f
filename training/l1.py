"""L1 logistic regression for many codes at once, on few of the many columns at a time.

For each code liblinear solves a small problem on the columns that may matter; the gradient over all
columns, computed for many codes in one product, then shows which were missing, until none is:

    |dL/dw_g| <= 1 for every column g outside the active set        (optimality of the L1 problem)

Shapes: N texts, G columns, K codes, A active columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_CODES_AT_ONCE = 64
_FIRST, _MORE = 150, 150
"""Columns to start from, and to add at most per round."""
_ROUNDS = 8
_SLACK = 0.02
"""How far a gradient may pass 1 before its column is called missing."""


@dataclass(frozen=True, slots=True)
class L1Problem:
    """What all codes share. The minimised loss is |w|_1 + |b| + C * sum of weighted log-losses."""

    present_NG: csr_matrix
    weights_N: Floats
    C: float
    tolerance: float
    max_iter: int
    min_positives: int
    """Codes with fewer texts get their share of texts as a constant."""


def fit_codes(
    problem: L1Problem,
    targets_NK: Bools,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[csr_matrix, Floats]:
    """Return weights (K, G) and biases (K,)."""
    K, G = targets_NK.shape[1], problem.present_NG.shape[1]
    columns = csc_matrix(problem.present_NG)
    bias_K = np.zeros(K)
    rows: list[tuple[Ints, Floats]] = [(np.zeros(0, np.int64), np.zeros(0))] * K
    for first in range(0, K, _CODES_AT_ONCE):
        part = np.arange(first, min(K, first + _CODES_AT_ONCE))
        learnable = []
        for k in part.tolist():
            positives, n = int(targets_NK[:, k].sum()), len(targets_NK)
            bias_K[k] = np.log((positives + 0.5) / (n - positives + 0.5))
            if max(1, problem.min_positives) <= positives < n:
                learnable.append(k)
        solved = _fit_together(problem, columns, targets_NK[:, learnable])
        for k, (active, weights, bias) in zip(learnable, solved, strict=True):
            rows[k], bias_K[k] = (active, weights), bias
        if progress is not None:
            progress(int(part[-1]) + 1, K)
    ends = np.cumsum([0, *(len(active) for active, _ in rows)])
    indices = np.concatenate([active for active, _ in rows]) if rows else np.zeros(0)
    data = np.concatenate([weights for _, weights in rows]) if rows else np.zeros(0)
    return csr_matrix((data, indices, ends), shape=(K, G)), bias_K


def _fit_together(
    problem: L1Problem, columns: csc_matrix, targets: Bools
) -> list[tuple[Ints, Floats, float]]:
    """Active-set rounds for some codes, which share each round's gradient."""
    n, K = targets.shape
    if not K:
        return []
    positives = targets.sum(axis=0)
    balance = np.where(targets, n / (2 * positives), n / (2 * (n - positives)))
    pull = problem.C * problem.weights_N[:, None] * balance
    slope = np.abs(columns.T @ (pull * (targets - 0.5)))
    steepest = np.argsort(-slope, axis=0, kind="stable")[:_FIRST]
    active = [np.sort(steepest[:, k]) for k in range(K)]
    solved: list[tuple[Ints, Floats, float]] = [(a, np.zeros(len(a)), 0.0) for a in active]
    open_codes = list(range(K))
    for _ in range(_ROUNDS):
        logits = np.zeros((n, len(open_codes)))
        for i, k in enumerate(open_codes):
            small = columns[:, active[k]].tocsr()
            weights, bias = _liblinear(small, targets[:, k], pull[:, k], problem)
            kept = weights != 0
            solved[k] = (active[k][kept], weights[kept], bias)
            logits[:, i] = small @ weights + bias
        error = targets[:, open_codes] - 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        slope = np.abs(columns.T @ (pull[:, open_codes] * error))
        still_open = []
        for i, k in enumerate(open_codes):
            slope[active[k], i] = 0.0
            missing = np.flatnonzero(slope[:, i] > 1 + _SLACK)
            if len(missing):
                worst = missing[np.argsort(-slope[missing, i], kind="stable")[:_MORE]]
                active[k] = np.sort(np.concatenate([solved[k][0], worst]))
                still_open.append(k)
        open_codes = still_open
        if not open_codes:
            break
    return solved


def _liblinear(
    x: csr_matrix, target: Bools, pull: Floats, problem: L1Problem
) -> tuple[Floats, float]:
    model = LogisticRegression(
        l1_ratio=1.0,
        solver="liblinear",
        C=1.0,
        max_iter=problem.max_iter,
        tol=problem.tolerance,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a vote
        model.fit(x, target, sample_weight=pull)
    return model.coef_[0], float(model.intercept_[0])
