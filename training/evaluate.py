"""Every figure by which suggestions are judged: pure functions of probabilities and true codes.

Shapes: N EMRs, K codes; `probs_NK` 0 to 1, `targets_NK` true where the EMR has the code. A mean
over EMRs or codes of which there are none is NaN; micro figures are 0 then, as scikit-learn's are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from label_config.errors import DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Metric = Callable[[Floats, Bools], float]

RECALL_AT = (5, 7, 9)
PRECISION_AT = (5, 8, 15)
BANDS = ((1, 1), (2, 5), (6, 20), (21, None))
"""Training EMRs per code, from rare to frequent."""
BINS = 10


def evaluate(
    probs_NK: npt.ArrayLike, targets_NK: npt.ArrayLike, *, threshold: float | Floats = 0.5
) -> dict[str, float]:
    """All figures that need neither a code set nor text.

    `threshold` is one number or one per code (K,). Raises DataError when the shapes differ, there
    is no EMR, or a probability lies outside 0 to 1.
    """
    probs, targets = check(probs_NK, targets_NK)
    ticked = probs >= threshold
    return {
        **counts_figures(ticked, targets),
        **{f"recall@{k}": recall_at(probs, targets, k) for k in RECALL_AT},
        **{f"precision@{k}": precision_at(probs, targets, k) for k in PRECISION_AT},
        "r_precision": r_precision(probs, targets),
        "map": mean_average_precision(probs, targets),
        "exact_match": float((ticked == targets).all(axis=1).mean()),
        "jaccard": jaccard(ticked, targets),
        **ranking_figures(probs, targets),
        "coverage_error": coverage_error(probs, targets),
        "ece": calibration_error(probs, targets),
    }


def counts_figures(ticked_NK: Bools, targets_NK: Bools) -> dict[str, float]:
    """Micro and macro precision, recall and F1.

    `macro_*` is the mean over codes that some EMR has or was given; `macro_f1_all_codes` is the
    legacy mean over all K, in which an absent code counts 0.
    """
    hit_K = (ticked_NK & targets_NK).sum(axis=0).astype(float)
    given_K, true_K = ticked_NK.sum(axis=0), targets_NK.sum(axis=0)
    precision_K = _ratio(hit_K, given_K)
    recall_K = _ratio(hit_K, true_K)
    f1_K = _ratio(2 * hit_K, given_K + true_K)
    seen_K = (given_K + true_K) > 0
    hits, given, true = hit_K.sum(), given_K.sum(), true_K.sum()
    return {
        "micro_f1": _share(2 * hits, given + true),
        "micro_precision": _share(hits, given),
        "micro_recall": _share(hits, true),
        "macro_f1": _mean(f1_K[seen_K]),
        "macro_precision": _mean(precision_K[seen_K]),
        "macro_recall": _mean(recall_K[seen_K]),
        "macro_f1_all_codes": _mean(f1_K),
        "codes_present": float((true_K > 0).sum()),
        "codes_per_emr": float(given / len(targets_NK)),
    }


def recall_at(probs_NK: Floats, targets_NK: Bools, k: int) -> float:
    """Mean share of an EMR's codes among its k most probable; EMRs without codes left out."""
    hits_N = _top_hits(probs_NK, targets_NK, k)
    true_N = targets_NK.sum(axis=1)
    return _mean(hits_N[true_N > 0] / true_N[true_N > 0])


def precision_at(probs_NK: Floats, targets_NK: Bools, k: int) -> float:
    """Mean share of true codes among the k most probable (of k, even where K is less)."""
    return float(_top_hits(probs_NK, targets_NK, k).mean() / k)


def r_precision(probs_NK: Floats, targets_NK: Bools) -> float:
    """Precision at each EMR's own number of codes, mean over EMRs with codes."""
    order_NK = np.argsort(-probs_NK, axis=1, kind="stable")
    hits_NK = np.take_along_axis(targets_NK, order_NK, axis=1).cumsum(axis=1)
    true_N = targets_NK.sum(axis=1)
    rows = np.flatnonzero(true_N)
    return _mean(hits_NK[rows, true_N[rows] - 1] / true_N[rows])


def mean_average_precision(probs_NK: Floats, targets_NK: Bools) -> float:
    """Average precision of each EMR's ranking, mean over EMRs with codes."""
    rows = np.flatnonzero(targets_NK.any(axis=1))
    return _mean(
        np.array([average_precision_score(targets_NK[n], probs_NK[n]) for n in rows], dtype=float)
    )


def micro_average_precision(probs_NK: npt.ArrayLike, targets_NK: npt.ArrayLike) -> float:
    """Of all (EMR, code) pairs in one ranking, 0 to 1, so that it needs no threshold; 0 without a
    true one.
    """
    truth = np.asarray(targets_NK, dtype=bool).ravel()
    probs = np.asarray(probs_NK).ravel()
    return float(average_precision_score(truth, probs)) if truth.any() else 0.0


def coverage_error(probs_NK: Floats, targets_NK: Bools) -> float:
    """How many codes must be read, on average, to meet all true ones; EMRs without codes left out.

    Of equally probable codes all are read.
    """
    rows = targets_NK.any(axis=1)
    least_N = np.where(targets_NK, probs_NK, np.inf).min(axis=1)
    return _mean((probs_NK >= least_N[:, None]).sum(axis=1)[rows])


def jaccard(ticked_NK: Bools, targets_NK: Bools) -> float:
    """Mean overlap of given and true codes per EMR; 1 where there are neither."""
    both_N = (ticked_NK & targets_NK).sum(axis=1)
    either_N = (ticked_NK | targets_NK).sum(axis=1)
    return float(np.where(either_N > 0, both_N / np.maximum(either_N, 1), 1.0).mean())


def ranking_figures(probs_NK: Floats, targets_NK: Bools) -> dict[str, float]:
    """Area under the ROC curve, and average precision per code; codes that cannot have one are
    left out and counted.
    """
    true_K = targets_NK.sum(axis=0)
    able = np.flatnonzero((true_K > 0) & (true_K < len(targets_NK)))
    areas = [roc_auc_score(targets_NK[:, k], probs_NK[:, k]) for k in able]
    precisions = [average_precision_score(targets_NK[:, k], probs_NK[:, k]) for k in able]
    mixed = 0 < true_K.sum() < targets_NK.size
    return {
        "micro_auc": float(roc_auc_score(targets_NK.ravel(), probs_NK.ravel()))
        if mixed
        else np.nan,
        "macro_auc": _mean(np.array(areas, dtype=float)),
        "macro_ap": _mean(np.array(precisions, dtype=float)),
        "codes_without_auc": float(targets_NK.shape[1] - len(able)),
    }


def calibration_error(probs_NK: Floats, targets_NK: Bools, *, bins: int = BINS) -> float:
    """Expected calibration error over all cells, in bins of equal width."""
    flat, target = probs_NK.ravel(), targets_NK.ravel()
    index = np.minimum((flat * bins).astype(int), bins - 1)
    size = np.bincount(index, minlength=bins)
    gap = np.bincount(index, flat - target, minlength=bins)
    return float(np.abs(gap).sum() / max(1, size.sum()))


def calibration_floor(
    probs_NK: Floats, *, bins: int = BINS, draws: int = 200, seed: int = 0
) -> float:
    """The error that perfectly calibrated probabilities would show on as many cells, by chance.

    The mean of `calibration_error` over targets that are drawn from the probabilities themselves.
    """
    rng = np.random.default_rng(seed)
    errors = [
        calibration_error(probs_NK, rng.random(probs_NK.shape) < probs_NK, bins=bins)
        for _ in range(draws)
    ]
    return float(np.mean(errors))


def bands(
    probs_NK: Floats,
    targets_NK: Bools,
    train_counts_K: npt.NDArray[np.int64],
    *,
    threshold: float | Floats = 0.5,
    at: int = 15,
) -> list[dict[str, Any]]:
    """One row per band of training frequency: codes, positives, micro-F1, recall@`at`.

    Recall@`at` ranks all codes and counts the band's own.
    """
    ticked_NK = probs_NK >= threshold
    order_NK = np.argsort(-probs_NK, axis=1, kind="stable")[:, :at]
    top_NK = np.zeros_like(targets_NK)
    np.put_along_axis(top_NK, order_NK, True, axis=1)
    rows = []
    for low, high in BANDS:
        own = (train_counts_K >= low) & (train_counts_K <= (high or np.inf))
        true = int(targets_NK[:, own].sum())
        rows.append(
            {
                "band": f"{low}+" if high is None else f"{low}-{high}",
                "codes": int(own.sum()),
                "positives": true,
                "micro_f1": counts_figures(ticked_NK[:, own], targets_NK[:, own])["micro_f1"],
                f"recall@{at}": _share(float((top_NK & targets_NK)[:, own].sum()), true),
            }
        )
    return rows


def interval(
    metric: Metric,
    probs_NK: Floats,
    targets_NK: Bools,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of a figure: EMRs drawn with replacement."""
    rng = np.random.default_rng(seed)
    n = len(probs_NK)
    values = []
    for _ in range(draws):
        rows = rng.integers(n, size=n)
        values.append(metric(probs_NK[rows], targets_NK[rows]))
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def micro_f1(threshold: float | Floats) -> Metric:
    """The micro-F1 at a threshold, for `interval`."""

    def metric(probs_NK: Floats, targets_NK: Bools) -> float:
        ticked = probs_NK >= threshold
        hits = float((ticked & targets_NK).sum())
        return _share(2 * hits, float(ticked.sum() + targets_NK.sum()))

    return metric


def check(probs_NK: npt.ArrayLike, targets_NK: npt.ArrayLike) -> tuple[Floats, Bools]:
    """The arrays as float and bool. Raises DataError when they cannot be judged."""
    probs, targets = np.asarray(probs_NK, dtype=float), np.asarray(targets_NK, dtype=bool)
    if probs.ndim != 2 or probs.shape != targets.shape or not probs.size:
        raise DataError(
            "evaluation needed probabilities and targets of one shape (N, K), "
            f"got {probs.shape} and {targets.shape}"
        )
    if not ((probs >= 0) & (probs <= 1)).all():
        raise DataError("evaluation needed probabilities in 0 to 1, got some outside")
    return probs, targets


def _top_hits(probs_NK: Floats, targets_NK: Bools, k: int) -> npt.NDArray[np.int64]:
    order_NK = np.argsort(-probs_NK, axis=1, kind="stable")[:, :k]
    hits: npt.NDArray[np.int64] = np.take_along_axis(targets_NK, order_NK, axis=1).sum(axis=1)
    return hits


def _ratio(top: Floats, bottom: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.where(bottom > 0, top / np.maximum(bottom, 1), 0.0))


def _share(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom else 0.0


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
