"""Logistic: how likely a listing is sound, by its features and an intercept per code.

Shapes: L listings (noisy codes of EMRs), K codes, F = 5 features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sampler.confusion import Listings

if TYPE_CHECKING:
    from sampler.posterior import PosteriorConfig

Floats = NDArray[np.float64]

PRIOR_CODES = 5.0
"""Codes that the prior of the intercepts' variance counts like."""
NEWTON_STEPS, NEWTON_STEPS_AGAIN, SETTLED = 20, 6, 1e-3
MOST_LISTINGS, LAST_STEPS = 60_000, 3
"""Listings that theta and the spread are learned from at most; then so many steps fit the
intercepts to all."""


@dataclass(frozen=True)
class Fit:
    """The estimates; see `sampler.posterior.Posterior` for the model."""

    theta: Floats
    """(F,) coefficients of the features."""
    covariance: Floats
    """(F, F) of theta, by the Laplace approximation."""
    shift: Floats
    """(K,) the intercepts."""
    shift_variance: Floats
    """(K,) of each."""
    spread: float
    """Variance of the intercepts over the codes."""


def fit_logistic(
    listings: Listings,
    sound: Floats,
    n_codes: int,
    config: PosteriorConfig,
    *,
    start: Fit | None = None,
) -> Fit:
    """Logistic regression with a random intercept per code, by alternating Newton steps.

    Maximises log-likelihood - sum precision/2 (theta - prior)^2 - sum shift_k^2 / (2 spread), and
    sets the spread to the mean of shift_k^2 + its variance over the codes seen (the EM step),
    with PRIOR_CODES codes of the prior's spread added. `sound` is each listing's chance, 0 to 1,
    of being no chance error.

    Of more than MOST_LISTINGS listings the first so many tell theta and the spread as well as all
    would; only the intercepts are then fitted to all of them.
    """
    few = slice(MOST_LISTINGS)
    x, codes, weight, sound_few = (
        listings.x[few],
        listings.code[few],
        listings.weight[few],
        sound[few],
    )
    prior: Floats = np.array(config.prior)
    precision: Floats = np.array(config.prior_precision)
    theta, hessian = prior, np.diag(precision)
    spread = config.code_spread
    shift_K: Floats = np.zeros(n_codes)
    if start is not None:
        theta, shift_K, spread = start.theta, start.shift, start.spread
    variance_K: Floats = np.full(n_codes, spread)
    seen = np.bincount(codes, minlength=n_codes) > 0
    for _ in range(NEWTON_STEPS if start is None else NEWTON_STEPS_AGAIN):
        p = sigmoid(x @ theta + shift_K[codes])
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(precision)
        slope = x.T @ (weight * (sound_few - p)) - precision * (theta - prior)
        step = np.linalg.solve(hessian, slope)
        theta = theta + np.clip(step, -1.0, 1.0)
        shift_K, variance_K = _intercepts(codes, weight, sound_few, x @ theta, shift_K, spread)
        found = float((shift_K**2 + variance_K)[seen].sum())
        last = spread
        spread = (found + PRIOR_CODES * config.code_spread) / (seen.sum() + PRIOR_CODES)
        if np.abs(step).max() < SETTLED and abs(spread - last) < SETTLED:
            break
    if listings.code.size > MOST_LISTINGS:
        said = listings.x @ theta
        for _ in range(LAST_STEPS):
            shift_K, variance_K = _intercepts(
                listings.code, listings.weight, sound, said, shift_K, spread
            )
        seen = np.bincount(listings.code, minlength=n_codes) > 0
    return Fit(
        theta=theta,
        covariance=np.linalg.inv(hessian).astype(np.float64),
        shift=shift_K,
        shift_variance=np.where(seen, variance_K, spread),
        spread=spread,
    )


def _intercepts(
    codes: NDArray[np.int32],
    weight: Floats,
    sound: Floats,
    said: Floats,
    shift_K: Floats,
    spread: float,
) -> tuple[Floats, Floats]:
    """One Newton step of every intercept, and its variance; `said` is theta . x, (L,)."""
    n_codes, p = shift_K.size, sigmoid(said + shift_K[codes])
    variance_K: Floats = 1 / (np.bincount(codes, weight * p * (1 - p), n_codes) + 1 / spread)
    slope_K = np.bincount(codes, weight * (sound - p), n_codes) - shift_K / spread
    return shift_K + np.clip(slope_K * variance_K, -1.0, 1.0), variance_K


def features(listed_MK: sp.csr_matrix, frequency_K: Floats) -> Floats:
    """The features of every listing, (L, F); see `Posterior`."""
    logit, log = confidence_features(listed_MK.data.astype(np.float64))
    crowding_L = np.repeat(crowding(np.diff(listed_MK.indptr)), np.diff(listed_MK.indptr))
    return np.column_stack(
        [np.ones(logit.size), logit, frequency_K[listed_MK.indices], log, crowding_L]
    )


def confidence_features(confidence: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """logit(q) - 1 and log(q / 0.73), q kept within 0.01 to 0.99: any ratio of two Betas."""
    q = np.clip(confidence, 0.01, 0.99)
    log = np.log(q)
    return log - np.log1p(-q) - 1, log - np.log(0.73)


def crowding(listed_N: NDArray[Any]) -> Floats:
    """log(listed codes / 5): an EMR that lists many more often has one too many."""
    log: Floats = np.log(np.maximum(listed_N, 1) / 5.0)
    return log


def log_frequency(listed_K: NDArray[Any]) -> Floats:
    """Log of how often each code is listed, standardised over the codes."""
    log = np.log1p(listed_K)
    standardised: Floats = (log - log.mean()) / (log.std() + 1e-9)
    return standardised


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-x)), safe for large x."""
    p: NDArray[Any] = 0.5 * (1.0 + np.tanh(0.5 * x))
    return p
