"""Synthetic pools of any size: Zipf code frequencies, co-occurrence, and a mapper that errs.

A stand-in for experiments and benchmarks of the sampler alone, where no text is needed. N EMRs,
K codes; S slots are drawn codes before repeats are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import ConfigError, DataError
from sampler.confusion import Events, present, without
from sampler.logistic import sigmoid
from sampler.probabilities import with_hidden

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

RIGHT, CHANCE, HABIT = (6.0, 2.0), (3.0, 3.0), (6.0, 2.0)
"""Beta parameters of the confidence of a right name, a chance error and a habitual one."""
ERRORS = {"vague": 0.35, "wrong": 0.2, "missing": 0.25, "extra": 0.2}
"""How noise divides: a sibling's code, any other code, none at all, one too many."""
MOST_TOPICS = 50


@dataclass(frozen=True)
class PoolConfig:
    """A pool of EMRs; the defaults resemble 100 frequent codes of a hospital."""

    n_emrs: int = 10_000
    # EMRs in the pool.
    n_codes: int = 100
    # Codes, most frequent first within their categories.
    codes_per_emr: float = 4.9
    # Mean clean codes of an EMR.
    noise: float = 0.3
    # Share of clean codes that the mapper gets wrong by chance, 0 to 1.
    systematic: float = 0.0
    # Share of codes that the mapper takes for one sibling, four times in five.
    zipf: float = 0.9
    # Exponent of the codes' frequencies.
    siblings: int = 4
    # Codes of a category.

    def __post_init__(self) -> None:
        if self.n_emrs < 1 or self.n_codes < self.siblings or self.siblings < 2:
            raise ConfigError("a pool needs EMRs, and at least one category of two or more codes")
        if self.codes_per_emr < 1 or not 0 <= self.noise <= 1 or not 0 <= self.systematic <= 1:
            raise ConfigError("codes_per_emr must be at least 1, noise and systematic in 0 to 1")


@dataclass(frozen=True)
class SyntheticPool:
    """What a sampler sees, and what only the simulation knows."""

    noisy: sp.csr_matrix
    """(N, K) confidence of the mapper's codes, in (0, 1]."""
    clean: sp.csr_matrix
    """(N, K) ones: what a coder would find."""
    category: Codes
    """(K,) category of each code."""
    minutes: Floats
    """(N,) a coder's true minutes."""
    expected_minutes: Floats
    """(N,) what is expected of them beforehand, from length and noisy codes."""
    oracle: sp.csr_matrix
    """(N, K) P(clean has code) for one who knows the mapper's true error rates."""

    def labels(self, rows: Codes) -> sp.csr_matrix:
        """Clean codes of `rows`, as `CoverageSampler.update` takes them."""
        return self.clean[rows]


def make_pool(config: PoolConfig, seed: int) -> SyntheticPool:
    """Draw a pool; the same configuration and seed give the same pool."""
    rng = np.random.default_rng(seed)
    clean = draw_clean(topic_tastes(config, rng), config.n_emrs, config, rng)
    return _pool(clean, categories(config), config, rng)


def categories(config: PoolConfig) -> Codes:
    """(K,) category of each code."""
    return np.arange(config.n_codes) // config.siblings


def pool_from_clean(
    clean: sp.csr_matrix, category: Codes, config: PoolConfig, seed: int
) -> SyntheticPool:
    """Put the mapper's errors and minutes on real co-occurrence.

    Args:
        clean: (N, K) ones, the true codes.
        category: (K,) category of each code, ascending.
        config: Its noise and systematic errors are used, not its sizes.
        seed: The same seed gives the same errors.
    """
    if (np.diff(category) < 0).any():
        raise DataError("categories must ascend, so that siblings stand side by side")
    return _pool(clean, category, config, np.random.default_rng(seed))


def _pool(
    clean: sp.csr_matrix, category: Codes, config: PoolConfig, rng: np.random.Generator
) -> SyntheticPool:
    noisy, kind = map_names(clean, category, config, rng)
    n_emrs = clean.shape[0]
    reading = 3.0 + 0.004 * rng.lognormal(6.4, 0.5, n_emrs)
    each = 1.9 * rng.lognormal(-0.045, 0.3, n_emrs)
    return SyntheticPool(
        noisy=noisy,
        clean=clean,
        category=category,
        minutes=reading + each * np.diff(clean.indptr),
        expected_minutes=reading + 1.9 * 0.9 * np.diff(noisy.indptr),
        oracle=_oracle(noisy, clean, kind, category),
    )


# -- what is true ---------------------------------------------------------------------------------


def topic_tastes(config: PoolConfig, rng: np.random.Generator) -> Floats:
    """(topics, K) Cumulative shares of the codes in each topic's EMRs."""
    n_codes, n_topics = config.n_codes, min(MOST_TOPICS, 4 + config.n_codes // 12)
    popularity = rng.permutation((np.arange(n_codes) + 3.0) ** -config.zipf)
    taste = popularity * rng.gamma(0.4, size=(n_topics, n_codes)) + 0.15 * popularity
    cumulative: Floats = np.cumsum(taste / taste.sum(axis=1, keepdims=True), axis=1)
    return cumulative / cumulative[:, -1:]


def draw_clean(
    tastes: Floats, n_emrs: int, config: PoolConfig, rng: np.random.Generator
) -> sp.csr_matrix:
    """Each EMR has a topic, and draws its codes by the topic's taste; repeats are dropped."""
    n_topics, n_codes = tastes.shape
    topic_N = rng.integers(n_topics, size=n_emrs)
    # Repeats within an EMR are dropped: draw a little more than is wanted.
    slots_N = 1 + rng.poisson(1.15 * (config.codes_per_emr - 1), n_emrs)
    row_S = np.repeat(np.arange(n_emrs), slots_N)
    # One search serves all topics: topic t's cumulative shares lie between t and t + 1.
    shelves = (tastes + np.arange(n_topics)[:, None]).ravel()
    found = np.searchsorted(shelves, topic_N[row_S] + rng.random(row_S.size))
    code_S = np.minimum(found - topic_N[row_S] * n_codes, n_codes - 1)
    ones = np.ones(row_S.size, np.float32)
    clean = sp.csr_matrix((ones, (row_S, code_S)), shape=(n_emrs, n_codes))
    clean.data[:] = 1
    return clean


# -- what the mapper makes of it ------------------------------------------------------------------


def map_names(
    clean: sp.csr_matrix, category: Codes, config: PoolConfig, rng: np.random.Generator
) -> tuple[sp.csr_matrix, NDArray[np.int8]]:
    """Noisy codes with confidence, and for each entry 0 right, 1 chance error, 2 habit."""
    code = clean.indices.astype(np.int64)
    row = np.repeat(np.arange(clean.shape[0]), np.diff(clean.indptr))
    luck = rng.random(code.size) / max(config.noise, 1e-12)
    vague = luck < ERRORS["vague"]
    wrong = ~vague & (luck < ERRORS["vague"] + ERRORS["wrong"])
    missing = ~vague & ~wrong & (luck < ERRORS["vague"] + ERRORS["wrong"] + ERRORS["missing"])
    extra = rng.random(code.size) < config.noise * ERRORS["extra"]
    sibling = _sibling(code, rng.random(code.size), category)
    other = code[rng.permutation(code.size)]
    habitual = rng.random(category.size) < config.systematic
    habit = habitual[code] & (rng.random(code.size) < 0.8)
    fixed = _sibling(code, np.zeros(code.size), category)

    listed = np.where(vague, sibling, np.where(wrong, other, code))
    listed = np.where(habit, fixed, listed)
    kind = np.where(habit, 2, np.where(vague | wrong, 1, 0))
    keep = habit | ~missing
    row_S = np.concatenate([row[keep], row[extra]])
    code_S = np.concatenate([listed[keep], code[rng.permutation(code.size)][extra]])
    kind_S = np.concatenate([kind[keep], np.ones(int(extra.sum()), np.int64)])
    shapes = np.array([RIGHT, CHANCE, HABIT])[kind_S]
    confidence_S = np.clip(rng.beta(shapes[:, 0], shapes[:, 1]), 0.01, 1.0)
    return _keep_surest(row_S, code_S, confidence_S, kind_S, clean.shape)


def _sibling(code: Codes, luck: Floats, category: Codes) -> Codes:
    """Another code of the same category, the next one for luck 0; the code itself if alone."""
    first = np.searchsorted(category, category)[code]
    size = np.searchsorted(category, category, side="right")[code] - first
    step = 1 + np.floor(luck * (size - 1)).astype(np.int64)
    sibling: Codes = first + (code - first + step) % size
    return sibling


def _keep_surest(
    row: Codes, code: Codes, confidence: Floats, kind: Codes, shape: tuple[int, int]
) -> tuple[sp.csr_matrix, NDArray[np.int8]]:
    order = np.lexsort((-confidence, code, row))
    row, code = row[order], code[order]
    first = np.ones(row.size, np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (code[1:] != code[:-1])
    ends = np.concatenate([[0], np.cumsum(np.bincount(row[first], minlength=shape[0]))])
    values = confidence[order][first].astype(np.float32)
    noisy = sp.csr_matrix((values, code[first], ends), shape=shape)
    return noisy, kind[order][first].astype(np.int8)


def _oracle(
    noisy: sp.csr_matrix, clean: sp.csr_matrix, kind: NDArray[np.int8], category: Codes
) -> sp.csr_matrix:
    """Bayes' rule per listed code with the pool's own error counts; siblings by their counts."""
    n_codes = noisy.shape[1]
    right = present(noisy, clean)
    # A chance error may hit a code that the EMR has: what counts is whether the code is right.
    counts = [
        np.bincount(noisy.indices[right], minlength=n_codes),
        np.bincount(noisy.indices[~right & (kind == 1)], minlength=n_codes),
        np.bincount(noisy.indices[~right & (kind == 2)], minlength=n_codes),
    ]
    q = np.clip(noisy.data.astype(np.float64), 1e-6, 1 - 1e-6)
    shares = [
        count[noisy.indices] * q ** (a - 1) * (1 - q) ** (b - 1) / norm
        for count, (a, b), norm in zip(
            counts, (RIGHT, CHANCE, HABIT), (1 / 42, 1 / 30, 1 / 42), strict=True
        )
    ]
    probs = noisy.copy()
    probs.data = np.clip(shares[0] / np.maximum(sum(shares), 1e-12), 0.005, 0.995).astype(
        np.float32
    )
    probs = _recalibrated(probs, right)
    missed = without(clean, present(clean, noisy))
    # The rest of each entry's probability is shared by the two kinds of error.
    rest = (1 - probs.data) / np.maximum(shares[1] + shares[2], 1e-12)
    hidden = sp.csr_matrix(noisy.shape, dtype=np.float32)
    missed_K = np.bincount(missed.indices, minlength=n_codes).astype(np.float64)
    for error in (1, 2):
        of_kind = right | (kind != error)
        events = Events.of(noisy, missed, of_kind.astype(np.float64), category)
        count_K = np.bincount(noisy.indices[~of_kind], minlength=n_codes)
        places = (events.listed, events.hidden)
        rate = sp.csr_matrix(
            (1.0 / np.maximum(count_K[events.listed], 1), places), shape=(n_codes, n_codes)
        )
        blame = noisy.copy()
        blame.data = (rest * shares[error]).astype(np.float32)
        hidden = hidden + blame @ rate
        missed_K -= np.bincount(events.hidden, minlength=n_codes)
    return with_hidden(probs, hidden.tocsr(), np.maximum(missed_K, 0.0) / noisy.shape[0])


def _recalibrated(probs: sp.csr_matrix, right: NDArray[np.bool_]) -> sp.csr_matrix:
    """Let an EMR's number of listed codes speak too: those that list many have one too many."""
    p = probs.data.astype(np.float64)
    crowding = np.repeat(np.log(np.diff(probs.indptr).clip(1) / 5.0), np.diff(probs.indptr))
    x = np.column_stack([np.ones(p.size), np.log(p / (1 - p)), crowding])
    theta = np.array([0.0, 1.0, 0.0])
    for _ in range(8):
        p = sigmoid(x @ theta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(3)
        theta += np.linalg.solve(hessian, x.T @ (right - p))
    better = probs.copy()
    better.data = np.clip(sigmoid(x @ theta), 0.005, 0.995).astype(np.float32)
    return better
