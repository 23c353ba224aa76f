"""Posterior: P(clean has code | noisy codes, confidence), learned from the EMRs annotated so far.

Shapes: N EMRs in the pool, M annotated ones, K codes, F = 5 features. All matrices are CSR.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import ConfigError
from sampler.confusion import (
    Events,
    Listings,
    Pairs,
    learn_errors,
    no_errors,
    present,
    without,
)
from sampler.fusion import Fusion, fit_fusion
from sampler.labels import CleanLabels

Floats = NDArray[np.float64]

FEATURES = 5
ENTRIES_AT_ONCE = 2_000_000
GRID = 4096.0
"""Probabilities are multiples of 1/GRID: sums over EMRs are then exact, whatever their order."""
LOWEST, HIGHEST = 20 / GRID, 4055 / GRID
PRIOR_CODES = 5.0
"""Codes that the prior of the intercepts' variance counts like."""
PRIOR_LEVEL = 4.0
"""Unlisted codes that the prior of their level, over all codes, counts like."""
ROUNDS = 3
"""Of telling habits from chance errors and fitting both."""
WORTH_AN_ENTRY = 0.02
"""A sibling less likely than this gets no entry."""
NEWTON_STEPS, NEWTON_STEPS_AGAIN, SETTLED = 20, 6, 1e-3


@dataclass(frozen=True)
class PosteriorConfig:
    """What is believed before the first annotation, and how fast annotations change it."""

    prior: tuple[float, ...] = (1.7, 1.0, 0.2, 1.2, -0.15)
    # Coefficients of the features, in the order of `Posterior`.
    prior_precision: tuple[float, ...] = (1.6, 4.0, 16.0, 1.5, 60.0)
    # Inverse variance of each: how sure the prior is.
    code_spread: float = 0.1
    # Variance of the codes' own intercepts, in logits, until the annotations tell it.
    sibling_share: float = 0.35
    # Share of wrong listings that stand for a sibling, until the annotations tell it.
    sibling_strength: float = 10.0
    # Chance errors on a code that this prior counts like.
    habit_share: float = 0.03
    # Share of listings that are habitual errors (the mapper always takes k for j), until learned.
    habit_strength: float = 2.0
    # Listings of a code that this prior counts like: few, for a habit shows at once.
    sibling_after: int = 20
    # Annotated EMRs before siblings are believed at all.
    unlisted_prior: float = 0.13
    # A code's frequency where nothing hints at it, as a share of the frequency of its listings.
    unlisted_strength: float = 50.0
    # EMRs that this prior counts like.

    def __post_init__(self) -> None:
        if len(self.prior) != FEATURES or len(self.prior_precision) != FEATURES:
            raise ConfigError(f"prior and prior_precision need {FEATURES} values each")
        strengths = (self.sibling_strength, self.habit_strength, self.unlisted_strength)
        if min(*self.prior_precision, self.code_spread, *strengths) <= 0 or self.unlisted_prior < 0:
            raise ConfigError("prior_precision, code_spread and the strengths must be above 0")


@dataclass(frozen=True)
class Posterior:
    """What is known of the mapper's errors: errors of chance, and habits.

    A listing of j with confidence q_ij is no chance error with probability g_ij = sigmoid(theta .
    x_ij + shift_j), x_ij = (1, logit(q_ij) - 1, standardised log frequency of j, log(q_ij / 0.73),
    log(listed codes of i / 5)); habit_jk of those stand for a sibling k all the same. So
    p_ij = g_ij (1 - sum_k habit_jk), and for a code k that is not listed, p_ik = unlisted_k + the
    sum over its listed siblings j of g_ij habit_jk + (1 - g_ij) confusion_jk.
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
    """(K, K), [j, k]: P(clean has k | j a chance error, k not listed), k a sibling of j."""
    habit: sp.csr_matrix
    """(K, K), [j, k]: share of the listings of j that always stand for k."""
    seen: Floats
    """(K,) listings, by weight and with the prior's, that a row of `habit` rests on."""
    unlisted: Floats
    """(K,) share of EMRs with the code where nothing listed hints at it."""
    frequency: Floats
    """(K,) the third feature."""
    known: float
    """EMRs, by weight and with the prior's, that `unlisted` was learned from."""
    found: float
    """Unlisted codes, with the prior's, that its level over all codes was learned from."""

    fusion: Fusion | None = None
    """How far the model's suggestions can be trusted beside all this; None without a model."""

    def probabilities(
        self, noisy_NK: sp.csr_matrix, suggested_NK: sp.csr_matrix | None = None
    ) -> sp.csr_matrix:
        """P(clean has code), (N, K): an entry per code that is listed, hidden or suggested."""
        probs_NK = self.by_noisy_codes(noisy_NK)
        if self.fusion is None or suggested_NK is None:
            return probs_NK
        return self.fusion.probabilities(probs_NK, suggested_NK, self.unlisted)

    def by_noisy_codes(self, noisy_NK: sp.csr_matrix) -> sp.csr_matrix:
        """The same without the model: an entry per listed code and per sibling it may hide."""
        p = np.empty(noisy_NK.nnz, np.float32)
        per_code = self.theta[2] * self.frequency + self.shift + self.theta[0]
        per_row = np.float32(self.theta[4]) * _crowding(noisy_NK).astype(np.float32)
        row_part = np.repeat(per_row, np.diff(noisy_NK.indptr))
        for at in range(0, p.size, ENTRIES_AT_ONCE):
            part = slice(at, at + ENTRIES_AT_ONCE)
            logit, log = _confidence(noisy_NK.data[part])
            logits = self.theta[1] * logit + self.theta[3] * log + row_part[part]
            p[part] = sigmoid(logits + per_code[noisy_NK.indices[part]])
        sound = sp.csr_matrix((p, noisy_NK.indices, noisy_NK.indptr), shape=noisy_NK.shape)
        doubt = _with_data(sound, 1 - p)
        probs = _with_data(sound, _on_grid(p * self._honest()[noisy_NK.indices]))
        if not self.confusion.nnz + self.habit.nnz:
            return probs
        hidden = sound @ self.habit + doubt @ self.confusion
        return with_hidden(probs, hidden, self.unlisted)

    def habit_variance(self) -> sp.csr_matrix:
        """(K, K) How unsure each habit is, as the variance of a Beta."""
        rate = self.habit.data
        strength = np.repeat(self.seen, np.diff(self.habit.indptr))
        return _with_data(self.habit, rate * (1 - rate) / (strength + 1))

    def _honest(self) -> NDArray[np.float32]:
        """(K,) Share of listings that are no habit."""
        habit_K = np.asarray(self.habit.sum(axis=1)).ravel()
        return np.clip(1 - habit_K, 1 - HIGHEST, 1.0).astype(np.float32)

    def draw(self, rng: np.random.Generator) -> Posterior:
        """Error rates that the annotations allow: one draw around the estimates."""
        theta_F = rng.multivariate_normal(self.theta, self.covariance)
        shift_K = rng.normal(self.shift, np.sqrt(self.shift_variance))
        level = rng.gamma(self.found) / self.found
        unlisted_K = level * rng.gamma(self.unlisted * self.known) / self.known
        rate, strength = self.habit.data, np.repeat(self.seen, np.diff(self.habit.indptr))
        habit = rng.beta(rate * strength, (1 - rate) * strength)
        return replace(
            self,
            theta=theta_F,
            shift=shift_K,
            unlisted=unlisted_K,
            habit=_with_data(self.habit, habit),
        )


def fit_posterior(
    noisy_NK: sp.csr_matrix,
    clean: CleanLabels,
    *,
    category: NDArray[np.int64] | None = None,
    order: NDArray[np.int64] | None = None,
    suggested_NK: sp.csr_matrix | None = None,
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
        suggested_NK: The model's probabilities, 0 to 1; None learns without a model.
        config: Priors; None takes the defaults.
    """
    config = config or PosteriorConfig()
    order = np.arange(clean.rows.size) if order is None else order
    listed_MK, clean_MK = noisy_NK[clean.rows[order]], clean.codes_MK[order]
    weight_M = clean.weights[order]
    frequency_K = _log_frequency(noisy_NK)
    x = _features(listed_MK, frequency_K)
    right = present(listed_MK, clean_MK).astype(np.float64)
    weight = np.repeat(weight_M, np.diff(listed_MK.indptr))
    n_codes = noisy_NK.shape[1]
    listings = Listings(x, listed_MK.indices, right, weight)
    fit = _logistic(listings, right, n_codes, config)
    missed_MK = without(clean_MK, present(clean_MK, listed_MK))
    explained_K: Floats = np.zeros(n_codes)
    errors = no_errors(n_codes, config)
    if category is not None and clean.rows.size >= config.sibling_after:
        events = Events.of(listed_MK, missed_MK, right, category)
        pairs = Pairs.of(noisy_NK, events, category)
        for _ in range(ROUNDS):
            g = sigmoid(x @ fit.theta + fit.shift[listings.code])
            errors = learn_errors(listings, events, pairs, g, errors, config)
            sound = right + errors.habitual
            fit = _logistic(listings, sound, n_codes, config, start=fit)
        explained_K += np.bincount(events.hidden, weight[events.entry], n_codes)
    missed_K = np.asarray(missed_MK.T @ weight_M)
    unexplained_K = np.maximum(missed_K - explained_K, 0.0)
    known = config.unlisted_strength + weight_M.sum()
    listed_K = np.bincount(noisy_NK.indices, minlength=n_codes) / max(noisy_NK.shape[0], 1)
    expected = PRIOR_LEVEL / max(config.unlisted_prior, 1e-9) + weight_M.sum() * listed_K.sum()
    found = PRIOR_LEVEL + float(unexplained_K.sum())
    unlisted_K = unexplained_K + config.unlisted_strength * found / expected * listed_K
    learned = Posterior(
        theta=fit.theta,
        covariance=fit.covariance,
        shift=fit.shift,
        shift_variance=fit.shift_variance,
        confusion=errors.confusion,
        habit=errors.habit,
        seen=errors.seen,
        unlisted=unlisted_K / known,
        frequency=frequency_K,
        known=float(known),
        found=found,
    )
    if suggested_NK is None:
        return learned
    fusion = fit_fusion(
        learned.by_noisy_codes(listed_MK),
        suggested_NK[clean.rows[order]],
        clean_MK,
        weight_M=weight_M,
        unlisted_K=learned.unlisted,
    )
    return replace(learned, fusion=fusion)


@dataclass(frozen=True)
class _Fit:
    theta: Floats
    covariance: Floats
    shift: Floats
    shift_variance: Floats
    spread: float


def _logistic(
    listings: Listings,
    sound: Floats,
    n_codes: int,
    config: PosteriorConfig,
    *,
    start: _Fit | None = None,
) -> _Fit:
    """Logistic regression with a random intercept per code, by alternating Newton steps.

    Maximises log-likelihood - sum precision/2 (theta - prior)^2 - sum shift_k^2 / (2 spread), and
    sets the spread to the mean of shift_k^2 + its variance over the codes seen (the EM step),
    with PRIOR_CODES codes of the prior's spread added. `sound` is each listing's chance, 0 to 1,
    of being no chance error.
    """
    x, codes, weight = listings.x, listings.code, listings.weight
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
        slope = x.T @ (weight * (sound - p)) - precision * (theta - prior)
        step = np.linalg.solve(hessian, slope)
        theta = theta + np.clip(step, -1.0, 1.0)
        p = sigmoid(x @ theta + shift_K[codes])
        variance_K = 1 / (np.bincount(codes, weight * p * (1 - p), n_codes) + 1 / spread)
        slope_K = np.bincount(codes, weight * (sound - p), n_codes) - shift_K / spread
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
        spread=spread,
    )


def with_hidden(
    probs_NK: sp.csr_matrix, hidden_NK: sp.csr_matrix, unlisted_K: Floats
) -> sp.csr_matrix:
    """Add an entry for each code that is not listed but may hide behind a sibling."""
    hidden_NK = (hidden_NK - hidden_NK.multiply(_ones_like(probs_NK))).tocsr()
    hidden = hidden_NK.data + unlisted_K.astype(np.float32)[hidden_NK.indices]
    hidden_NK.data = np.where(hidden < WORTH_AN_ENTRY, 0, _on_grid(hidden))
    hidden_NK.eliminate_zeros()
    both = probs_NK + hidden_NK
    both.sort_indices()
    return both


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), safe for large x."""
    p: Floats = 0.5 * (1.0 + np.tanh(0.5 * x))
    return p


def _features(listed_MK: sp.csr_matrix, frequency_K: Floats) -> Floats:
    logit, log = _confidence(listed_MK.data)
    crowding = np.repeat(_crowding(listed_MK), np.diff(listed_MK.indptr))
    return np.column_stack(
        [np.ones(logit.size), logit, frequency_K[listed_MK.indices], log, crowding]
    )


def _confidence(confidence: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """logit(q) - 1 and log(q / 0.73), q kept within 0.01 to 0.99: any ratio of two Betas."""
    q = np.clip(confidence.astype(np.float64), 0.01, 0.99)
    log = np.log(q)
    return log - np.log1p(-q) - 1, log - np.log(0.73)


def _crowding(noisy_NK: sp.csr_matrix) -> Floats:
    """log(listed codes / 5): an EMR that lists many more often has one too many."""
    crowding: Floats = np.log(np.maximum(np.diff(noisy_NK.indptr), 1) / 5.0)
    return crowding


def _log_frequency(noisy_NK: sp.csr_matrix) -> Floats:
    log = np.log1p(np.bincount(noisy_NK.indices, minlength=noisy_NK.shape[1]))
    standardised: Floats = (log - log.mean()) / (log.std() + 1e-9)
    return standardised


def _on_grid(p: Floats) -> NDArray[np.float32]:
    rounded = np.round(np.clip(p, LOWEST, HIGHEST) * GRID) / GRID
    return rounded.astype(np.float32)


def _ones_like(matrix: sp.csr_matrix) -> sp.csr_matrix:
    return _with_data(matrix, np.ones(matrix.nnz, np.float32))


def _with_data(matrix: sp.csr_matrix, data: NDArray[Any]) -> sp.csr_matrix:
    values = data.astype(np.float32)
    return sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)
