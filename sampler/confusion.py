"""Confusion: which sibling stands behind a wrong listing, by chance or as the mapper's habit.

Shapes: M annotated EMRs, K codes, L listings (noisy codes of annotated EMRs), E events (a wrong
listing meets a clean sibling that nobody listed), P pairs of siblings. Learned by a few rounds of
expectation maximisation over the events; nothing here loops over EMRs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sampler.posterior import PosteriorConfig

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

MOST_HIDDEN = 3_000_000
"""Sibling entries of a pool up to which pairs that were never seen are looked behind too."""
PRIOR_LISTINGS = 20.0
"""Listings that the prior of each share over all codes counts like."""
MOST = 0.98


@dataclass(frozen=True)
class Listings:
    """Every noisy code of every annotated EMR."""

    x: Floats
    """(L, F) features."""
    code: NDArray[np.int32]
    """(L,)"""
    right: Floats
    """(L,) 1 where the coder agreed."""
    weight: Floats
    """(L,)"""


@dataclass(frozen=True)
class Events:
    """A code is listed wrongly, and a sibling of it is clean though not listed."""

    entry: Codes
    """(E,) the listing."""
    listed: Codes
    """(E,) its code, j."""
    hidden: Codes
    """(E,) the sibling, k."""

    @classmethod
    def of(
        cls,
        listed_MK: sp.csr_matrix,
        missed_MK: sp.csr_matrix,
        right: NDArray[np.float64],
        category: Codes,
    ) -> Events:
        """Join wrong listings with missed codes by EMR and category."""
        n_categories = int(category.max(initial=-1)) + 1
        entry = np.flatnonzero(right == 0)
        row_L = np.repeat(np.arange(listed_MK.shape[0]), np.diff(listed_MK.indptr))
        row_missed = np.repeat(np.arange(missed_MK.shape[0]), np.diff(missed_MK.indptr))
        code = listed_MK.indices[entry]
        key = row_L[entry] * n_categories + category[code]
        key_missed = row_missed * n_categories + category[missed_MK.indices]
        order = np.argsort(key_missed, kind="stable")
        first = np.searchsorted(key_missed[order], key)
        count = np.searchsorted(key_missed[order], key, side="right") - first
        which = np.repeat(np.arange(entry.size), count)
        step = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
        hidden = missed_MK.indices[order[first[which] + step]]
        return cls(entry[which], code[which].astype(np.int64), hidden.astype(np.int64))


@dataclass(frozen=True)
class Pairs:
    """Pairs of siblings (j listed, k hidden) that get an entry, by j and then k."""

    listed: Codes
    """(P,) j."""
    hidden: Codes
    """(P,) k."""
    prior: Floats
    """(P,) how the siblings of j divide what hides behind it: by how often they are listed."""
    event: Codes
    """(E,) the pair of each event."""

    @classmethod
    def of(cls, noisy_NK: sp.csr_matrix, events: Events, category: Codes) -> Pairs:
        """All pairs of siblings in a small pool, else those that were seen."""
        n_codes = noisy_NK.shape[1]
        listed_K = np.bincount(noisy_NK.indices, minlength=n_codes)
        size_K = np.bincount(category)[category]
        seen = events.listed * n_codes + events.hidden
        if listed_K @ (size_K - 1) <= MOST_HIDDEN:
            keys = _all_pairs(category, size_K)
        else:
            keys = np.unique(seen)
        listed, hidden = keys // n_codes, keys % n_codes
        often_K = 1.0 + listed_K
        others = np.bincount(category, often_K)[category[listed]] - often_K[listed]
        return cls(listed, hidden, often_K[hidden] / others, np.searchsorted(keys, seen))


@dataclass(frozen=True)
class Errors:
    """What was learned of one mapper's errors."""

    confusion: sp.csr_matrix
    """(K, K) P(clean has k | j a chance error)."""
    habit: sp.csr_matrix
    """(K, K) share of the listings of j, chance errors aside, that stand for k."""
    seen: Floats
    """(K,) listings, by weight and with the prior's, that a row of `habit` rests on."""
    habitual: Floats | float
    """(L,) chance that each listing is a habit."""


def no_errors(n_codes: int, config: PosteriorConfig) -> Errors:
    """Before anything was learned: no sibling is looked behind."""
    none = sp.csr_matrix((n_codes, n_codes), dtype=np.float32)
    return Errors(none, none, np.full(n_codes, config.habit_strength), 0.0)


def learn_errors(
    listings: Listings,
    events: Events,
    pairs: Pairs,
    g: Floats,
    last: Errors,
    config: PosteriorConfig,
) -> Errors:
    """One round: share each event between habit and chance, then count both anew.

    An event is a habit with odds g habit_jk : (1 - g) confusion_jk. With z its chance,
    habit_jk = (sum z + strength x share x prior_jk) / (sum of g over the listings of j + strength),
    and confusion_jk likewise from 1 - z; both shares are learned over all codes.

    Args:
        listings: The annotated listings.
        events: Wrong listings and the siblings behind them.
        pairs: The pairs that get an entry.
        g: (L,) chance that each listing is no chance error.
        last: The round before; no entries before the first.
        config: Priors.
    """
    n_codes, weight = last.seen.size, listings.weight
    if last.habit.nnz:
        habit = last.habit.data[pairs.event]
        chance = last.confusion.data[pairs.event]
    else:
        habit = chance = np.full(pairs.event.size, 0.5)
    ge = g[events.entry]
    z = ge * habit / np.maximum(ge * habit + (1 - ge) * chance, 1e-12)
    counted = weight[events.entry]
    habit_P: Floats = np.bincount(pairs.event, counted * z, pairs.listed.size).astype(np.float64)
    chance_P: Floats = np.bincount(pairs.event, counted, pairs.listed.size) - habit_P
    seen_K: Floats = np.bincount(listings.code, weight * g, n_codes).astype(np.float64)
    chance_K: Floats = np.bincount(listings.code, weight, n_codes) - seen_K
    rates = [
        _shrunk(habit_P, seen_K, pairs, config.habit_share, config.habit_strength),
        _shrunk(chance_P, chance_K, pairs, config.sibling_share, config.sibling_strength),
    ]
    places = (pairs.listed, pairs.hidden)
    habit_KK, confusion_KK = (sp.csr_matrix((r, places), shape=(n_codes,) * 2) for r in rates)
    habitual: Floats = np.minimum(np.bincount(events.entry, z, g.size), 1.0).astype(np.float64)
    return Errors(confusion_KK, habit_KK, seen_K + config.habit_strength, habitual)


def _shrunk(
    count_P: Floats, of_K: Floats, pairs: Pairs, prior_share: float, strength: float
) -> NDArray[np.float32]:
    share = (count_P.sum() + PRIOR_LISTINGS * prior_share) / (of_K.sum() + PRIOR_LISTINGS)
    rate = (count_P + strength * share * pairs.prior) / (of_K[pairs.listed] + strength)
    shrunk: NDArray[np.float32] = np.clip(rate, 1e-6, MOST).astype(np.float32)
    return shrunk


def _all_pairs(category: Codes, size_K: Codes) -> Codes:
    """Keys j x K + k of all siblings j, k, ascending."""
    order = np.argsort(category, kind="stable")
    first_K = np.searchsorted(category[order], category)
    listed = np.repeat(np.arange(category.size), size_K)
    step = np.arange(listed.size) - np.repeat(np.cumsum(size_K) - size_K, size_K)
    hidden = order[first_K[listed] + step]
    keys = listed * category.size + hidden
    ascending: Codes = np.sort(keys[listed != hidden])
    return ascending


def present(places: sp.csr_matrix, matrix: sp.csr_matrix) -> NDArray[np.bool_]:
    """Whether `matrix` has an entry where `places` has one, in the order of `places.data`."""
    numbered = sp.csr_matrix(
        (np.arange(1.0, places.nnz + 1), places.indices, places.indptr), shape=places.shape
    )
    ones = sp.csr_matrix((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    found = np.zeros(places.nnz, np.bool_)
    found[numbered.multiply(ones).tocsr().data.astype(np.int64) - 1] = True
    return found


def without(matrix: sp.csr_matrix, dropped: NDArray[np.bool_]) -> sp.csr_matrix:
    """Ones where `matrix` has an entry that is not dropped."""
    kept = matrix.copy()
    kept.data = np.where(dropped, 0, 1).astype(np.float32)
    kept.eliminate_zeros()
    return kept
