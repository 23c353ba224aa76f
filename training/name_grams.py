"""How much of a name stands in a sentence, by the 4-grams of its words' stems.

    cover(s, m) = sum of rarity(g) over the grams g of m that stand in s / over all grams of m
    rarity(g)   = log((M + 1) / (names with g + 0.5)) * log((S + 1) / (sentences with g + 0.5))

Grams forgive spelling, and endings that differ between related languages.

Shapes: S sentences, M names, G grams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

Floats = npt.NDArray[np.float64]
_SIZE = 4


class NameGrams:
    """Names to look for. Names and sentences are given as `stems.stem_key` writes them."""

    def __init__(self, names: Sequence[str], rarity_G: Floats | None = None) -> None:
        """Take at least one name with a word; `rarity_G` is what `fit` has found."""
        self._vectorizer = CountVectorizer(analyzer=_grams, binary=True, dtype=np.float64)
        present_MG = csr_matrix(self._vectorizer.fit_transform(names))
        self.rarity_G = _rarity(present_MG) if rarity_G is None else rarity_G
        weighted = csr_matrix(present_MG.multiply(self.rarity_G))
        total = np.maximum(np.asarray(weighted.sum(axis=1)).ravel(), 1e-9)
        self._share_MG = csr_matrix(weighted.multiply(1 / total[:, None]))

    @classmethod
    def fit(cls, names: Sequence[str], sentences: Sequence[str]) -> NameGrams:
        """Learn from records' sentences, too, which grams say little."""
        grams = cls(names)
        return cls(names, grams.rarity_G * _rarity(grams._read(sentences)))

    def cover(self, sentences: Sequence[str]) -> csr_matrix:
        """The share of each name that stands in each sentence, shape (S, M), 0 to 1."""
        return csr_matrix(self._read(sentences) @ self._share_MG.T)

    def shares(self, words: Sequence[str], name: int) -> Floats:
        """The share of one name that stands in each word, as if it were alone."""
        return np.asarray((self._read(words) @ self._share_MG[name].T).toarray()).ravel()

    def _read(self, texts: Sequence[str]) -> csr_matrix:
        if not texts:
            return csr_matrix((0, len(self._vectorizer.vocabulary_)))
        return csr_matrix(self._vectorizer.transform(texts))


def _grams(stems: str) -> list[str]:
    """Each stem's grams, its edges marked by blanks; a short one is a gram as it is."""
    words = [f" {word} " for word in stems.split()]
    return [w[i : i + _SIZE] for w in words for i in range(max(1, len(w) - _SIZE + 1))]


def _rarity(present: csr_matrix) -> Floats:
    """Inverse document frequency, above 0."""
    n = present.shape[0]
    held = np.bincount(present.indices, minlength=present.shape[1])
    return np.asarray(np.log((n + 1) / (held + 0.5)))
