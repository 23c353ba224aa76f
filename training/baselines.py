"""The rows that stand beside every result: majority, L2 TF-IDF, L1, lexicon, L1 + lexicon.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.evaluate import evaluate
from training.lexicon import Lexicon
from training.out_of_fold import draw_folds, targets
from training.sparse import SparseModel
from training.thresholds import best_threshold

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Coded EMRs and the codes in question."""

    emrs: Sequence[EMR]
    codings: Sequence[Coding]
    codes: Sequence[str]
    taxonomy: Taxonomy

    def part(self, rows: npt.NDArray[np.int64]) -> Corpus:
        """The EMRs in `rows` only."""
        emrs, codings = [self.emrs[i] for i in rows], [self.codings[i] for i in rows]
        return Corpus(emrs, codings, self.codes, self.taxonomy)

    def truth(self) -> npt.NDArray[np.bool_]:
        """Which code each EMR has, shape (N, K)."""
        return targets(self.codings, self.codes)

    @property
    def texts(self) -> list[str]:
        """The free texts."""
        return [emr.long_text for emr in self.emrs]


Baseline = Callable[[Corpus, Sequence[EMR]], Floats]
"""Learns from a corpus, returns probabilities (N, K) for other EMRs."""


def majority(train: Corpus, emrs: Sequence[EMR]) -> Floats:
    """Every EMR gets each code with its share of the training EMRs."""
    return np.tile(train.truth().mean(axis=0), (len(emrs), 1))


def tfidf_l2(train: Corpus, emrs: Sequence[EMR]) -> Floats:
    """TF-IDF of word 1-2-grams and one L2 logistic regression per code: the usual row."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, strip_accents="unicode")
    x_train = vectorizer.fit_transform(train.texts)
    x_test = vectorizer.transform([emr.long_text for emr in emrs])
    probs_NK = majority(train, emrs)
    for k, target_N in enumerate(train.truth().T):
        if 0 < target_N.sum() < len(target_N):
            model = LogisticRegression(C=1.0, solver="liblinear").fit(x_train, target_N)
            probs_NK[:, k] = model.predict_proba(x_test)[:, 1]
    return probs_NK


def sparse_l1(train: Corpus, emrs: Sequence[EMR]) -> Floats:
    """L1 logistic regression on binary 1-3-grams."""
    model = SparseModel.fit(train.texts, train.truth(), train.codes)
    return model.predict([emr.long_text for emr in emrs])


def lexicon(train: Corpus, emrs: Sequence[EMR]) -> Floats:
    """Official names and coders' evidence strings."""
    return Lexicon.fit(train.emrs, train.codings, train.taxonomy, train.codes).scores(emrs)


def sparse_and_lexicon(train: Corpus, emrs: Sequence[EMR]) -> Floats:
    """The mean of the last two."""
    return (sparse_l1(train, emrs) + lexicon(train, emrs)) / 2


BASELINES: dict[str, Baseline] = {
    "majority": majority,
    "TF-IDF L2": tfidf_l2,
    "L1": sparse_l1,
    "lexicon": lexicon,
    "L1 + lexicon": sparse_and_lexicon,
}


def baseline_rows(
    train: Corpus, test: Corpus, *, folds: int = 5, seed: int = 0
) -> list[dict[str, float | str]]:
    """One row of figures per baseline; its threshold is tuned by crossing over `train`."""
    folds_N = draw_folds(len(train.emrs), folds, seed=seed)
    rows: list[dict[str, float | str]] = []
    for name, baseline in BASELINES.items():
        unseen_NK = np.zeros((len(train.emrs), len(train.codes)))
        for fold in np.unique(folds_N):
            held = np.flatnonzero(folds_N == fold)
            learned = train.part(np.flatnonzero(folds_N != fold))
            unseen_NK[held] = baseline(learned, [train.emrs[i] for i in held])
        threshold, _ = best_threshold(unseen_NK, train.truth())
        figures = evaluate(baseline(train, test.emrs), test.truth(), threshold=threshold)
        rows.append({"model": name, "threshold": threshold, **figures})
    return rows
