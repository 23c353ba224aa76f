"""Posterior: P(clean has code | noisy codes, confidence), learned from the EMRs annotated so far.

Shapes: N EMRs in the pool, M annotated ones, K codes, F = 3 features. All matrices are CSR.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import ConfigError
from sampler.labels import CleanLabels

Floats = NDArray[np.float64]

ENTRIES_AT_ONCE = 2_000_000
GRID = 4096.0
"""Probabilities are multiples of 1/GRID: sums over EMRs are then exact, whatever their order."""
LOWEST, HIGHEST = 20 / GRID, 4055 / GRID
PRIOR_CODES = 5.0
"""Codes that the prior of the intercepts' variance counts like."""
WORTH_AN_ENTRY = 0.02
"""A sibling less likely than this gets no entry."""
NEWTON_STEPS, SETTLED = 30, 1e-4


@dataclass(frozen=True)
class PosteriorConfig:
    """What is believed before the first annotation, and how fast annotations change it."""

    prior: tuple[float, float, float] = (0.85, 0.6, 0.0)
    # Coefficients of (1, logit(confidence) - 1, standardised log frequency).
    prior_precision: tuple[float, float, float] = (10.0, 5.0, 5.0)
    # Inverse variance of each: how sure the prior is.
    code_spread: float = 0.1
    # Variance of the codes' own intercepts, in logits, until the annotations tell it.
    sibling_strength: float = 5.0
    # EMRs listing a code, as pseudo-counts against its confusion with a sibling.
    sibling_after: int = 20
    # Annotated EMRs before siblings are believed at all.
    unlisted_prior: float = 0.2
    # A code's frequency where nothing hints at it, as a share of the frequency of its listings.
    unlisted_strength: float = 50.0
    # EMRs that this prior counts like.

    def __post_init__(self) -> None:
        if len(self.prior) != 3 or len(self.prior_precision) != 3:
            raise ConfigError("prior and prior_precision need 3 values each")
        strengths = (self.sibling_strength, self.unlisted_strength)
        if min(*self.prior_precision, self.code_spread, *strengths) <= 0 or self.unlisted_prior < 0:
            raise ConfigError("prior_precision, code_spread and the strengths must be above 0")


@dataclass(frozen=True)
class Posterior:
    """p_ik = sigmoid(theta . x_ik + shift_k) for a listed code, confusion_jk for its siblings.

    x_ik = (1, logit(confidence_ik) - 1, log frequency of k, standardised over codes).
    """

    theta: Floats
    """(F,) coefficients of the features."""
    covariance: Floats
    """(F, F) of theta, by the Laplace approximation."""
    shift: Floats
    """(K,) how much more (or less) than other codes' its listings are right, in logits."""
    shift_variance: Floats
    """(K,) how surely that is known."""
    confusion: sp.csr_matrix
    """(K, K), [j, k]: P(clean has k | j listed, k not), k a sibling of j."""
    unlisted: Floats
    """(K,) share of EMRs with the code where neither it nor a sibling is listed."""
    frequency: Floats
    """(K,) the third feature."""
    known: float
    """EMRs, by weight and with the prior's, that `unlisted` was learned from."""

    def probabilities(self, noisy_NK: sp.csr_matrix) -> sp.csr_matrix:
        """P(clean has code), (N, K): an entry per listed code and per sibling it may hide."""
        p = np.empty(noisy_NK.nnz, np.float32)
        for at in range(0, p.size, ENTRIES_AT_ONCE):
            part = slice(at, at + ENTRIES_AT_ONCE)
            codes = noisy_NK.indices[part]
            per_code = self.theta[2] * self.frequency + self.shift + self.theta[0]
            logits = self.theta[1] * _confidence(noisy_NK.data[part]) + per_code[codes]
            p[part] = _on_grid(sigmoid(logits))
        probs = sp.csr_matrix((p, noisy_NK.indices, noisy_NK.indptr), shape=noisy_NK.shape)
        return with_siblings(probs, self.confusion) if self.confusion.nnz else probs

    def draw(self, rng: np.random.Generator) -> Posterior:
        """Error rates that the annotations allow: one draw around the estimates."""
        theta_F = rng.multivariate_normal(self.theta, self.covariance)
        shift_K = rng.normal(self.shift, np.sqrt(self.shift_variance))
        unlisted_K = rng.gamma(self.unlisted * self.known) / self.known
        return replace(self, theta=theta_F, shift=shift_K, unlisted=unlisted_K)


def fit_posterior(
    noisy_NK: sp.csr_matrix,
    clean: CleanLabels,
    *,
    category: NDArray[np.int64] | None = None,
    order: NDArray[np.int64] | None = None,
    config: PosteriorConfig | None = None,
) -> Posterior:
    """Learn how far noisy codes can be trusted.

    theta is the penalised maximum-likelihood estimate (Newton from the prior, so that the result
    is a function of the annotations and not of the way to them); the rest are shrunken counts.

    Args:
        noisy_NK: Confidence of each noisy code, 0 to 1; also gives the codes' frequencies.
        clean: The annotated EMRs and their weights; none gives the prior.
        category: (K,) parent category of each code; None learns no siblings.
        order: (M,) the order in which annotated EMRs are summed; None keeps that of `clean`.
        config: Priors; None takes the defaults.
    """
    config = config or PosteriorConfig()
    order = np.arange(clean.rows.size) if order is None else order
    listed_MK, clean_MK = noisy_NK[clean.rows[order]], clean.codes_MK[order]
    weight_M = clean.weights[order]
    frequency_K = _log_frequency(noisy_NK)
    x = _features(listed_MK.data, frequency_K[listed_MK.indices])
    right = present(listed_MK, clean_MK).astype(np.float64)
    weight = np.repeat(weight_M, np.diff(listed_MK.indptr))
    n_codes = noisy_NK.shape[1]
    fit = _logistic(x, listed_MK.indices, right, weight, n_codes, config)
    confusion_KK, missed_K = _missed(listed_MK, clean_MK, weight_M, category, config)
    known = config.unlisted_strength + weight_M.sum()
    listed_K = np.bincount(noisy_NK.indices, minlength=n_codes) / max(noisy_NK.shape[0], 1)
    unlisted_K = missed_K + config.unlisted_strength * config.unlisted_prior * listed_K
    return Posterior(
        theta=fit.theta,
        covariance=fit.covariance,
        shift=fit.shift,
        shift_variance=fit.shift_variance,
        confusion=confusion_KK,
        unlisted=unlisted_K / known,
        frequency=frequency_K,
        known=float(known),
    )


@dataclass(frozen=True)
class _Fit:
    theta: Floats
    covariance: Floats
    shift: Floats
    shift_variance: Floats


def _logistic(
    x: Floats,
    codes: NDArray[np.int32],
    right: Floats,
    weight: Floats,
    n_codes: int,
    config: PosteriorConfig,
) -> _Fit:
    """Logistic regression with a random intercept per code, by alternating Newton steps.

    Maximises log-likelihood - sum precision/2 (theta - prior)^2 - sum shift_k^2 / (2 spread), and
    sets the spread to the mean of shift_k^2 + its variance over the codes seen (the EM step),
    with PRIOR_CODES codes of the prior's spread added.
    """
    prior: Floats = np.array(config.prior)
    precision: Floats = np.array(config.prior_precision)
    theta, hessian, spread = prior, np.diag(precision), config.code_spread
    shift_K: Floats = np.zeros(n_codes)
    variance_K: Floats = np.full(n_codes, spread)
    seen = np.bincount(codes, minlength=n_codes) > 0
    for _ in range(NEWTON_STEPS):
        p = sigmoid(x @ theta + shift_K[codes])
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(precision)
        slope = x.T @ (weight * (right - p)) - precision * (theta - prior)
        step = np.linalg.solve(hessian, slope)
        theta = theta + np.clip(step, -1.0, 1.0)
        p = sigmoid(x @ theta + shift_K[codes])
        variance_K = 1 / (np.bincount(codes, weight * p * (1 - p), n_codes) + 1 / spread)
        slope_K = np.bincount(codes, weight * (right - p), n_codes) - shift_K / spread
        shift_K = shift_K + np.clip(slope_K * variance_K, -1.0, 1.0)
        found = float((shift_K**2 + variance_K)[seen].sum())
        last = spread
        spread = (found + PRIOR_CODES * config.code_spread) / (seen.sum() + PRIOR_CODES)
        if np.abs(step).max() < SETTLED and abs(spread - last) < SETTLED:
            break
    return _Fit(
        theta=theta,
        covariance=np.linalg.inv(hessian).astype(np.float64),
        shift=shift_K,
        shift_variance=np.where(seen, variance_K, spread),
    )


def _missed(
    listed_MK: sp.csr_matrix,
    clean_MK: sp.csr_matrix,
    weight_M: Floats,
    category: NDArray[np.int64] | None,
    config: PosteriorConfig,
) -> tuple[sp.csr_matrix, Floats]:
    """Clean codes that were not listed: P(behind a listed sibling), (K, K); behind none, (K,)."""
    n_emrs, n_codes = clean_MK.shape
    missed_MK = clean_MK.copy()
    missed_MK.data = np.where(present(clean_MK, listed_MK), 0.0, 1.0)
    missed_MK.eliminate_zeros()
    missed_K = missed_MK.T @ weight_M
    if category is None or n_emrs < config.sibling_after:
        return sp.csr_matrix((n_codes, n_codes), dtype=np.float32), missed_K
    ones_MK = _ones_like(listed_MK)
    behind = (ones_MK.T @ sp.diags_array(weight_M) @ missed_MK).tocoo()
    siblings = category[behind.row] == category[behind.col]
    row, col, count = behind.row[siblings], behind.col[siblings], behind.data[siblings]
    shrunk = count / ((ones_MK.T @ weight_M)[row] + config.sibling_strength)
    confusion_KK = sp.csr_matrix((shrunk.astype(np.float32), (row, col)), shape=(n_codes,) * 2)
    explained_K = np.bincount(col, count, n_codes)
    return confusion_KK, np.maximum(missed_K - explained_K, 0.0)


def with_siblings(probs_NK: sp.csr_matrix, confusion_KK: sp.csr_matrix) -> sp.csr_matrix:
    """Add an entry for each code that is not listed but may hide behind a listed sibling."""
    listed_NK = _ones_like(probs_NK)
    hidden_NK = listed_NK @ confusion_KK
    hidden_NK = hidden_NK - hidden_NK.multiply(listed_NK)
    hidden_NK.data = np.where(hidden_NK.data < WORTH_AN_ENTRY, 0, _on_grid(hidden_NK.data))
    hidden_NK.eliminate_zeros()
    both = probs_NK + hidden_NK
    both.sort_indices()
    return both


def present(places: sp.csr_matrix, matrix: sp.csr_matrix) -> NDArray[np.bool_]:
    """Whether `matrix` has an entry where `places` has one, in the order of `places.data`."""
    numbered = _ones_like(places)
    numbered.data = np.arange(1.0, places.nnz + 1)
    found = np.zeros(places.nnz, np.bool_)
    found[numbered.multiply(_ones_like(matrix)).tocsr().data.astype(np.int64) - 1] = True
    return found


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), safe for large x."""
    p: Floats = 0.5 * (1.0 + np.tanh(0.5 * x))
    return p


def _features(confidence: NDArray[np.float32], frequency: Floats) -> Floats:
    return np.column_stack([np.ones(confidence.size), _confidence(confidence), frequency])


def _confidence(confidence: NDArray[np.float32]) -> Floats:
    """Feature logit(confidence) - 1, confidence kept within 0.01 to 0.99."""
    q = np.clip(confidence.astype(np.float64), 0.01, 0.99)
    feature: Floats = np.log(q / (1 - q)) - 1
    return feature


def _log_frequency(noisy_NK: sp.csr_matrix) -> Floats:
    log = np.log1p(np.bincount(noisy_NK.indices, minlength=noisy_NK.shape[1]))
    standardised: Floats = (log - log.mean()) / (log.std() + 1e-9)
    return standardised


def _on_grid(p: Floats) -> NDArray[np.float32]:
    rounded = np.round(np.clip(p, LOWEST, HIGHEST) * GRID) / GRID
    return rounded.astype(np.float32)


def _ones_like(matrix: sp.csr_matrix) -> sp.csr_matrix:
    ones = np.ones(matrix.nnz, np.float32)
    return sp.csr_matrix((ones, matrix.indices, matrix.indptr), shape=matrix.shape)
