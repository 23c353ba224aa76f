"""Posterior: P(clean has code | noisy codes, confidence), learned from the EMRs annotated so far.

Shapes: N EMRs in the pool, M annotated ones, K codes, F = 5 features. All matrices are CSR.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

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
from sampler.fusion import Fusion, asked_rows, fit_fusion
from sampler.labels import CleanLabels
from sampler.logistic import (
    confidence_features,
    crowding,
    features,
    fit_logistic,
    log_frequency,
    sigmoid,
)
from sampler.probabilities import (
    HIGHEST,
    MOST_LISTED,
    WORTH_AN_ENTRY,
    WORTH_IN_A_LARGE_POOL,
    Siblings,
    Singles,
    on_grid,
    parts,
    with_data,
    with_hidden,
)

Floats = NDArray[np.float64]

FEATURES = 5
PRIOR_LEVEL = 4.0
"""Unlisted codes that the prior of their level, over all codes, counts like."""
ROUNDS = 3
"""Of telling habits from chance errors and fitting both."""


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
    least: float = WORTH_AN_ENTRY
    """A sibling less likely than this gets no entry."""
    fusion: Fusion | None = None
    """How far the model's suggestions can be trusted beside all this; None without a model."""

    def probabilities(
        self, noisy_NK: sp.csr_matrix, suggested_NK: sp.csr_matrix | None = None
    ) -> sp.csr_matrix:
        """P(clean has code), (N, K): an entry per code that is listed, hidden or suggested."""
        probs_NK = self.by_noisy_codes(noisy_NK)
        if self.fusion is None or suggested_NK is None:
            return probs_NK
        asked = asked_rows(suggested_NK)
        fused = self.fusion.probabilities(probs_NK[asked], suggested_NK[asked], self.unlisted)
        n_emrs = probs_NK.shape[0]
        if asked.size == n_emrs:
            return fused
        at = np.arange(n_emrs)
        at[asked] = n_emrs + np.arange(asked.size)
        return sp.vstack([probs_NK, fused], format="csr")[at]

    def by_noisy_codes(self, noisy_NK: sp.csr_matrix) -> sp.csr_matrix:
        """The same without the model: an entry per listed code and per sibling it may hide."""
        per_code = (self.theta[2] * self.frequency + self.shift + self.theta[0]).astype(np.float32)
        honest_K = self._honest()
        siblings = Siblings.of(self.habit, self.confusion, self.least)

        def of_part(listed: sp.csr_matrix) -> sp.csr_matrix:
            sound = self._sound(listed, per_code)
            p = with_data(listed, on_grid(sound * honest_K[listed.indices]))
            if not siblings.hidden.size:
                return p
            hidden = siblings.behind(listed, sound)
            return with_hidden(p, hidden, self.unlisted, least=self.least)

        listings = list(parts(noisy_NK))  # views: nothing is copied
        if len(listings) == 1:
            return of_part(listings[0])
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return sp.vstack(list(threads.map(of_part, listings)), format="csr")

    def _sound(self, listed: sp.csr_matrix, per_code: Singles) -> Singles:
        """Chance that each listing is no chance error, in the order of `listed.data`."""
        logit, log = confidence_features(listed.data)
        count = np.diff(listed.indptr)
        per_row = np.repeat((self.theta[4] * crowding(count)).astype(np.float32), count)
        logits = np.float32(self.theta[1]) * logit + np.float32(self.theta[3]) * log
        return sigmoid(logits + per_row + per_code[listed.indices])

    def habit_variance(self) -> sp.csr_matrix:
        """(K, K) How unsure each habit is, as the variance of a Beta."""
        rate = self.habit.data
        strength = np.repeat(self.seen, np.diff(self.habit.indptr))
        return with_data(self.habit, rate * (1 - rate) / (strength + 1))

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
            habit=with_data(self.habit, habit),
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
    listed_K = np.bincount(noisy_NK.indices, minlength=noisy_NK.shape[1])
    frequency_K = log_frequency(listed_K)
    x = features(listed_MK, frequency_K)
    right = present(listed_MK, clean_MK).astype(np.float64)
    weight = np.repeat(weight_M, np.diff(listed_MK.indptr))
    n_codes = noisy_NK.shape[1]
    listings = Listings(x, listed_MK.indices, right, weight)
    fit = fit_logistic(listings, right, n_codes, config)
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
            fit = fit_logistic(listings, sound, n_codes, config, start=fit)
        explained_K += np.bincount(events.hidden, weight[events.entry], n_codes)
    missed_K = np.asarray(missed_MK.T @ weight_M)
    unexplained_K = np.maximum(missed_K - explained_K, 0.0)
    known = config.unlisted_strength + weight_M.sum()
    often_K = listed_K / max(noisy_NK.shape[0], 1)
    expected = PRIOR_LEVEL / max(config.unlisted_prior, 1e-9) + weight_M.sum() * often_K.sum()
    found = PRIOR_LEVEL + float(unexplained_K.sum())
    unlisted_K = unexplained_K + config.unlisted_strength * found / expected * often_K
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
        least=WORTH_AN_ENTRY if noisy_NK.nnz <= MOST_LISTED else WORTH_IN_A_LARGE_POOL,
    )
    if suggested_NK is None:
        return learned
    suggested_MK = suggested_NK[clean.rows[order]]
    asked = asked_rows(suggested_MK)
    fusion = fit_fusion(
        learned.by_noisy_codes(listed_MK[asked]),
        suggested_MK[asked],
        clean_MK[asked],
        weight_M=weight_M[asked],
        unlisted_K=learned.unlisted,
    )
    return replace(learned, fusion=fusion)
