"""Codes that no EMR has shown yet: each sentence is compared with what the code is called.

    score(n, k) = max over sentences s and names m of code k of
                  share * cos(s, m) + (1 - share) * cover(s, m)

cover is the share of a name's words that stand in the sentence, rare words counting more (inverse
document frequency over the names). What stands above a code in the tree counts too, discounted:
where no name of the code fits, its category's still may (back-off).

Shapes: N EMRs, K codes, S sentences, M names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from label_config.errors import ConfigError
from label_config.record import EMR
from label_config.taxonomy import Taxonomy
from training.candidate_names import NameEncoder
from training.fold import fold, fold_name
from training.name_features import best_per_code
from training.names import names_by_code
from training.stems import tokens

Floats = npt.NDArray[np.float64]
_SENTENCE = re.compile(r"[^.;!?\n。；！？]+")
_CELLS_AT_ONCE = 8_000_000


@dataclass(frozen=True, slots=True)
class ZeroShotConfig:
    """How sentences and names are compared."""

    encoder_share: float = 0.4
    """Weight of the encoder's cosine; the rest is shared words."""
    back_off: float = 0.8
    """What a name of the category above counts, against 1 for the code's own."""
    shortest: int = 3
    """Characters of the shortest sentence that is read."""
    longest: int = 240
    """Characters after which a sentence is cut."""

    def __post_init__(self) -> None:
        if not 0 <= self.encoder_share <= 1 or not 0 <= self.back_off <= 1:
            raise ConfigError(
                "encoder_share and back_off needed values in 0 to 1, "
                f"got {self.encoder_share} and {self.back_off}"
            )
        if not 1 <= self.shortest <= self.longest:
            raise ConfigError(
                f"needed 1 <= shortest <= longest, got {self.shortest} and {self.longest}"
            )


class ZeroShot:
    """Scores every code of a set by its names alone; nothing is trained."""

    def __init__(
        self,
        codes: Sequence[str],
        taxonomy: Taxonomy,
        encoder: NameEncoder,
        *,
        config: ZeroShotConfig | None = None,
        synonyms: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Encode the names of `codes`, of their categories, and the user's `synonyms`.

        Raises ConfigError when no code has a name.
        """
        self.codes, self.config = tuple(codes), config or ZeroShotConfig()
        self._encoder = encoder
        own = _pairs(names_by_code(taxonomy, codes, synonyms), {c: [c] for c in codes}, codes)
        above = {c: [taxonomy.category(c)] for c in codes if c in taxonomy}
        categories = dict.fromkeys(a for line in above.values() for a in line)
        backed = _pairs(names_by_code(taxonomy, categories), above, codes)
        if not own:
            raise ConfigError(f"zero-shot scoring needed a named code, got {len(codes)} codes")
        self._names = list(dict.fromkeys(name for name, _ in (*own, *backed)))
        column = {name: m for m, name in enumerate(self._names)}
        self._own = _columns(own, column)
        self._backed = _columns(backed, column)
        self._names_MD = encoder.embed(self._names)
        self._vectorizer = CountVectorizer(analyzer=_words, binary=True, dtype=np.float64)
        present_MW = csr_matrix(self._vectorizer.fit_transform(self._names))
        rarity_W = np.log((len(self._names) + 1) / (np.diff(present_MW.tocsc().indptr) + 0.5))
        weighted = present_MW.multiply(rarity_W).tocsr()
        total = np.maximum(np.asarray(weighted.sum(axis=1)).ravel(), 1e-9)
        self._share_MW = csr_matrix(weighted.multiply(1 / total[:, None]))

    def scores(self, emrs: Sequence[EMR]) -> Floats:
        """How near each code's names come to some sentence, shape (N, K), 0 to 1."""
        scores_NK = np.zeros((len(emrs), len(self.codes)))
        for n, emr in enumerate(emrs):
            sentences = self._sentences(emr)
            step = max(1, _CELLS_AT_ONCE // len(self._names))
            for start in range(0, len(sentences), step):
                best_K = self._best(sentences[start : start + step])
                scores_NK[n] = np.maximum(scores_NK[n], best_K)
        return scores_NK

    def _best(self, sentences: Sequence[str]) -> Floats:
        cosine_SM = self._encoder.embed(sentences) @ self._names_MD.T
        present_SW = csr_matrix(self._vectorizer.transform(sentences))
        cover_SM = (present_SW @ self._share_MW.T).toarray()
        share = self.config.encoder_share
        near_M = (share * np.maximum(cosine_SM, 0) + (1 - share) * cover_SM).max(axis=0)
        own_K, backed_K = (
            best_per_code(near_M[None, names].astype(np.float32), owners, len(self.codes))[0]
            for names, owners in (self._own, self._backed)
        )
        best_K = np.maximum(own_K, self.config.back_off * backed_K)
        return np.asarray(np.minimum(1.0, best_K), dtype=np.float64)

    def _sentences(self, emr: EMR) -> list[str]:
        found = {
            fold_name(match.group())[: self.config.longest]
            for _, text in emr.texts()
            for match in _SENTENCE.finditer(text)
        }
        return sorted(s for s in found if len(s) >= self.config.shortest)


def _pairs(
    names: Mapping[str, Sequence[str]], sources: Mapping[str, Sequence[str]], codes: Sequence[str]
) -> list[tuple[str, int]]:
    """(folded name, code's index), the names of each code taken from its sources."""
    return [
        (key, k)
        for k, code in enumerate(codes)
        for source in sources.get(code, ())
        for name in names.get(source, ())
        if (key := fold_name(name))
    ]


def _columns(
    pairs: Sequence[tuple[str, int]], column: Mapping[str, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The names' columns and their codes."""
    names = np.array([column[name] for name, _ in pairs], dtype=np.int64)
    return names, np.array([k for _, k in pairs], dtype=np.int64)


def _words(text: str) -> list[str]:
    return [word for word, _, _ in tokens(fold(text).text)]
