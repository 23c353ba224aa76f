"""What can be said of a name and a code: the features that the ranker weighs.

    encoder       cosine of the name and the code's nearest name, the mean of the encoder's own
                  and that after the SimCSE layer
    characters    the same by character n-grams (TF-IDF)
    all names     mean cosine over all names of the code, by the encoder alone
    upper levels  cosine of the name and the nearest title above the code
    same text     1 if the name is one of the code's
    unspecified   1 if the code's title says so
    other         1 if the code's title begins so
    parent        1 if another candidate code lies below it
    pool          log of how common the code is in the pool, 0 for an average one

Shapes: N names, M candidate names, K codes, U titles above them, C codes kept per name, D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from label_config.taxonomy import Taxonomy
from training.fold import fold_name
from training.name_ranker import PRIOR

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
_HALF = np.float32(0.5)
_FIRST = np.array([*PRIOR.values()])[:4]
"""Weights by which the candidates are chosen before the ranker looks at them."""


@dataclass(frozen=True, slots=True)
class CodeTraits:
    """What does not depend on the name: titles above each code, and kinds of title."""

    upper: tuple[str, ...]
    """U titles of blocks, categories and so on, folded."""
    upper_owners: Integers
    """(U,) the code that each stands above; a title stands once per code below it."""
    kinds_K3: Floats
    """unspecified, other, parent."""

    @classmethod
    def of(cls, codes: Sequence[str], taxonomy: Taxonomy) -> CodeTraits:
        """Read the code set."""
        above = [taxonomy.ancestors(c) if c in taxonomy else () for c in codes]
        parents = {a for line in above for a in line}
        pairs = [
            (fold_name(taxonomy.title(a)), k)
            for k, line in enumerate(above)
            for a in line
            if taxonomy[a].level != "chapter"
        ]
        titles = [taxonomy.title(c).lower() if c in taxonomy else "" for c in codes]
        kinds = [
            ("unspecified" in title, title.startswith("other"), code in parents)
            for code, title in zip(codes, titles, strict=True)
        ]
        return cls(
            tuple(title for title, _ in pairs),
            np.array([k for _, k in pairs], dtype=np.int64),
            np.array(kinds, dtype=np.float32).reshape(len(codes), 3),
        )


class Characters:
    """Character n-grams of the candidate names."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Learn how rare each n-gram is among the candidate names."""
        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, dtype=np.float32
        ).fit(keys)
        self._own = csr_matrix(self._vectorizer.transform(keys))

    def similarity(self, keys: Sequence[str]) -> Floats:
        """Cosine with every candidate name, shape (N, M)."""
        product = csr_matrix(self._vectorizer.transform(keys)) @ self._own.T
        return np.asarray(product.toarray(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The codes that come nearest to each name, and their features."""

    codes_NC: Integers
    features_NCF: npt.NDArray[np.float64]


def best_per_code(similarity_NM: Floats, owners_M: Integers, K: int) -> Floats:
    """The highest of each code's columns, (N, K); 0 for a code without one. Owners rise."""
    best_NK = np.zeros((len(similarity_NM), K), dtype=np.float32)
    if owners_M.size:
        present, starts = np.unique(owners_M, return_index=True)
        best_NK[:, present] = np.maximum.reduceat(similarity_NM, starts, axis=1)
    return best_NK


def shortlist(
    plain_NM: Floats,
    tuned_NM: Floats,
    characters_NM: Floats,
    upper_NU: Floats,
    owners_M: Integers,
    traits: CodeTraits,
    log_prior_K: npt.NDArray[np.float64],
    *,
    size: int,
    hidden: Sequence[Integers] | None = None,
) -> Shortlist:
    """The `size` most promising codes of each name.

    `plain_NM` are cosines by the encoder, `tuned_NM` after the layer: the layer alone would help
    other official names more than what clinicians write. `hidden` are columns that a name may not
    see: as if the code did not have those names.
    """
    N, K = len(plain_NM), len(log_prior_K)
    seen_NM = np.ones(plain_NM.shape, dtype=np.float32)
    for n, columns in enumerate(hidden or ()):
        seen_NM[n, columns] = 0.0
    plain_NM, tuned_NM = (np.maximum(one_NM, 0) * seen_NM for one_NM in (plain_NM, tuned_NM))
    characters_NM = characters_NM * seen_NM
    present, starts = np.unique(owners_M, return_index=True)
    counts = np.maximum(np.add.reduceat(seen_NM, starts, axis=1), 1)
    mean_NK = np.zeros((N, K), dtype=np.float32)
    mean_NK[:, present] = np.add.reduceat(plain_NM, starts, axis=1) / counts
    characters_NK = best_per_code(characters_NM, owners_M, K)
    of_name: list[Floats] = [
        (best_per_code(plain_NM, owners_M, K) + best_per_code(tuned_NM, owners_M, K)) * _HALF,
        characters_NK,
        mean_NK,
        best_per_code(upper_NU, traits.upper_owners, K),
    ]
    promise_NK = sum(w * f for w, f in zip(_FIRST, of_name, strict=True))
    codes_NC = np.argsort(-np.asarray(promise_NK), axis=1, kind="stable")[:, :size]
    picked = [np.take_along_axis(f, codes_NC, axis=1) for f in of_name]
    same = np.take_along_axis(characters_NK > 0.999, codes_NC, axis=1)
    kinds = [traits.kinds_K3[codes_NC, i] for i in range(3)]
    features = np.stack([*picked, same, *kinds, log_prior_K[codes_NC]], axis=-1, dtype=np.float64)
    return Shortlist(codes_NC, features)
