"""From probabilities to ticked codes: a threshold of a high F1, or one that keeps a promise.

Shapes: N EMRs, K codes. A code is ticked where its probability is at or above the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from label_config.errors import ConfigError, DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
DEFAULT = 0.5
"""Where there is nothing to tune on."""


def best_threshold(probs: Floats, targets: Bools) -> tuple[float, float]:
    """The threshold of the highest F1 over all cells, and that F1.

    Half way between the probabilities that it parts; DEFAULT and 0 without a positive.
    """
    flat, target = np.asarray(probs, float).ravel(), np.asarray(targets, bool).ravel()
    positives = int(target.sum())
    if not positives:
        return DEFAULT, 0.0
    order = np.argsort(-flat, kind="stable")
    ranked, hits = flat[order], np.cumsum(target[order])
    f1 = 2 * hits / (np.arange(1, len(flat) + 1) + positives)
    ends_tie = np.append(ranked[:-1] > ranked[1:], True)  # equal probabilities are ticked together
    best = int(np.where(ends_tie, f1, -1.0).argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2), float(f1[best])


def steady_threshold(probs: Floats, targets: Bools, *, shrinkage: float = 1000.0) -> float:
    """The threshold of the highest F1, pulled towards half that F1 where positives are few.

    Of calibrated probabilities the best threshold is half the best F1 (Lipton, Elkan and
    Naryanaswamy 2014, theorem 1); the one that looks best on a few EMRs may lie far from it.
    `shrinkage` is how many positives it takes for what looks best to count half.
    """
    if shrinkage < 0:
        raise ConfigError(f"shrinkage needed 0 or more, got {shrinkage}")
    own, f1 = best_threshold(probs, targets)
    positives = int(np.asarray(targets, bool).sum())
    if not positives:
        return DEFAULT
    share = positives / (positives + shrinkage)
    return float(share * own + (1 - share) * f1 / 2)


@dataclass(frozen=True, slots=True)
class Promise:
    """A threshold that misses no more than the promised share of true codes."""

    threshold: float
    missed: float
    """Mean share of an EMR's true codes that were missed on the EMRs it was set on."""
    candidates: float
    """Mean number of ticked codes per EMR."""
    precision: float
    """Share of the ticked codes that were true: what to expect from the promise."""
    kept: bool
    """False if there are too few EMRs for the promise; every code is ticked then."""


def promised_threshold(
    probs_NK: Floats,
    targets_NK: Bools,
    *,
    miss: float = 0.05,
    sure: float | None = None,
    coming: int | None = None,
) -> Promise:
    """The highest threshold at which the share of missed codes stays within `miss`.

    On average (`sure` None): conformal risk control (Angelopoulos et al. 2024); with n EMRs that
    are exchangeable with the ones to come, n / (n + 1) * R(t) + 1 / (n + 1) <= miss.

    With certainty `sure`: R(t) + z * s(t) * sqrt(1 / n + 1 / coming) <= miss, where s is the spread
    of the EMRs' own shares and z the one-sided normal quantile. That is a bound for the mean over
    the next `coming` EMRs, or over all to come without it.

    EMRs without a code cannot miss one. Raises DataError without EMRs and ConfigError for a share
    outside 0 to 1.
    """
    for share in (miss, 0.5 if sure is None else sure):
        if not 0 < share < 1:
            raise ConfigError(f"a promise needed shares inside 0 to 1, got {share}")
    n = len(probs_NK)
    if n == 0:
        raise DataError("a promise needs at least one EMR to be set on, got none")
    candidates, mean, spread = _risks(probs_NK, targets_NK)
    if sure is None:
        bound = n / (n + 1) * mean + 1 / (n + 1)
    else:
        noise = np.sqrt(1 / n + (1 / coming if coming else 0.0))
        # a spread of 0 on few EMRs proves nothing: one EMR that misses all its codes is added
        mean, spread = (n * mean + 1) / (n + 1), np.maximum(spread, 1 / np.sqrt(n))
        bound = mean + norm.ppf(sure) * spread * noise
    allowed = candidates[bound <= miss]
    threshold = float(allowed.max()) if len(allowed) else 0.0
    ticked_NK = probs_NK >= threshold
    true = int((ticked_NK & targets_NK).sum())
    lost_N = (targets_NK & ~ticked_NK).sum(axis=1) / np.maximum(targets_NK.sum(axis=1), 1)
    return Promise(
        threshold=threshold,
        missed=float(lost_N.mean()),
        candidates=float(ticked_NK.sum(axis=1).mean()),
        precision=true / max(1, int(ticked_NK.sum())),
        kept=bool(len(allowed)),
    )


def _risks(probs_NK: Floats, targets_NK: Bools) -> tuple[Floats, Floats, Floats]:
    """Every threshold at which something changes, with the mean and spread of missed shares."""
    n = len(probs_NK)
    counts_N = np.maximum(targets_NK.sum(axis=1), 1)
    rows, columns = np.nonzero(targets_NK)
    values = probs_NK[rows, columns]
    order = np.argsort(values, kind="stable")
    rows, values = rows[order], values[order]
    own_N = np.zeros(n)
    total, squares = [0.0], [0.0]
    for row in rows.tolist():  # the codes are missed one after another as the threshold rises
        before = own_N[row]
        own_N[row] += 1.0 / counts_N[row]
        total.append(total[-1] + own_N[row] - before)
        squares.append(squares[-1] + own_N[row] ** 2 - before**2)
    candidates = np.unique(values)
    first = np.searchsorted(values, candidates)  # everything below a threshold is missed
    mean = np.array(total)[first] / n
    spread = np.sqrt(np.maximum(np.array(squares)[first] / n - mean**2, 0.0))
    return candidates, mean, spread
