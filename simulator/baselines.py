"""Two yardsticks for a dataset: looking names up in the text, and TF-IDF with regression.

A dataset is worth training on when names alone get nowhere near what a plain model learns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ahocorasick
import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from simulator.pack import Pack
from simulator.reader import Dataset

HAN = "㐀"
"""The first of the Chinese characters."""
THRESHOLD_STEPS = np.linspace(0.05, 0.6, 23)
Matrix = npt.NDArray[np.float64]
Texts = tuple[Sequence[str], Sequence[set[str]]]
"""Texts, and the codes of each."""
Report = Callable[[int, int], None]


def name_matcher(pack: Pack, codes: Sequence[str]) -> Any:
    """An automaton over every title and informal name of the codes, lower case."""
    automaton = ahocorasick.Automaton()
    owners: dict[str, set[str]] = {}
    for code in codes:
        _, leaf = pack.by_code[code]
        names = [leaf.title, *(text for phrase in leaf.names for text in (*phrase.a, *phrase.b))]
        for name in names:
            owners.setdefault(name.lower(), set()).add(code)
    for name, found in owners.items():
        automaton.add_word(name, (len(name), frozenset(found)))
    automaton.make_automaton()
    return automaton


def names_found(matcher: Any, text: str) -> set[str]:
    """The codes whose names stand in the lower-case text as whole words, longest match only.

    Chinese sets no space between words: there every name that stands in the text counts.
    """
    hits: list[tuple[int, int, frozenset[str]]] = []
    for end, (length, owners) in matcher.iter(text):
        start = end - length + 1
        if not (_inside_word(text, start) or _inside_word(text, end + 1)):
            hits.append((start, end + 1, owners))
    codes: set[str] = set()
    for start, end, owners in hits:
        inside = any(s <= start and end <= e and (s, e) != (start, end) for s, e, _ in hits)
        if not inside:
            codes |= owners
    return codes


def _inside_word(text: str, place: int) -> bool:
    """Whether a word goes on from before the place to after it."""
    around = text[max(0, place - 1) : place + 1]
    return len(around) == 2 and all(sign.isalnum() and sign < HAN for sign in around)


def keyword_f1(
    texts: Sequence[str], gold: Sequence[set[str]], pack: Pack, codes: Sequence[str]
) -> float:
    """Micro-F1 of coding every name that stands in the text."""
    matcher = name_matcher(pack, codes)
    found = [names_found(matcher, text.lower()) for text in texts]
    right = sum(len(f & g) for f, g in zip(found, gold, strict=True))
    total = sum(len(f) for f in found) + sum(len(g) for g in gold)
    return round(2 * right / total, 4) if total else 0.0


class Regression:
    """TF-IDF with one-vs-rest logistic regression, fitted once.

    Features are words and pairs of words, or in a language without spaces runs of one to three
    characters. The dual solver of liblinear stops early (tolerance 0.1): on 6,000 EMRs it is six
    times as fast as the primal one and its micro-F1 the same to three decimals. Codes are fitted
    by two threads, for liblinear runs outside Python's lock.
    """

    def __init__(
        self, codes: Sequence[str], *, unit: str = "words", report: Report | None = None
    ) -> None:
        """`unit`: "words" or "characters"; `report` hears (codes fitted, codes in all)."""
        self.codes = tuple(codes)
        self.report = report
        self.threshold = 0.5
        by_words = unit == "words"
        self._vectoriser = TfidfVectorizer(
            analyzer="word" if by_words else "char",
            ngram_range=(1, 2) if by_words else (1, 3),
            min_df=3,
            max_features=40_000,
            sublinear_tf=True,
        )  # in double precision, which liblinear would else convert to once a code
        self._weights_VK: Matrix = np.zeros((0, 0))
        self._bias_K: Matrix = np.zeros(0)

    def fit(self, train: Texts, validation: Texts) -> Regression:
        """Learn from `train`; choose one threshold for all codes on `validation`."""
        x_train = self._vectoriser.fit_transform(train[0])
        y_train = _targets(train[1], self.codes)
        self._weights_VK = np.zeros((x_train.shape[1], len(self.codes)))
        self._bias_K = np.full(len(self.codes), -np.inf)

        def fit_one(column: int) -> None:
            model = LogisticRegression(C=10.0, solver="liblinear", dual=True, max_iter=50, tol=0.1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x_train, y_train[:, column])
            self._weights_VK[:, column] = model.coef_[0]
            self._bias_K[column] = model.intercept_[0]

        known = np.flatnonzero(y_train.sum(axis=0) >= 2).tolist()
        with ThreadPoolExecutor(2) as threads:
            for done, _ in enumerate(threads.map(fit_one, known), start=1):
                if self.report is not None:
                    self.report(done, len(known))
        probs, truth = self.probs(validation[0]), _targets(validation[1], self.codes)
        scores = [
            f1_score(truth, probs >= t, average="micro", zero_division=0) for t in THRESHOLD_STEPS
        ]
        self.threshold = float(THRESHOLD_STEPS[int(np.argmax(scores))])
        return self

    def probs(self, texts: Sequence[str]) -> Matrix:
        """Probabilities, shape (N, K); 0 for a code that training hardly showed."""
        scores_NK = self._vectoriser.transform(texts) @ self._weights_VK + self._bias_K
        probs_NK: Matrix = expit(scores_NK)
        return probs_NK

    def f1(self, test: Texts) -> tuple[float, float]:
        """(micro-F1, macro-F1); a code without a test EMR counts as 0 in the macro mean."""
        truth, predicted = _targets(test[1], self.codes), self.probs(test[0]) >= self.threshold
        micro = f1_score(truth, predicted, average="micro", zero_division=0)
        macro = f1_score(truth, predicted, average="macro", zero_division=0)
        return round(float(micro), 4), round(float(macro), 4)


def closed_world_accuracy(dataset: Dataset, pack: Pack, codes: Sequence[str]) -> float | None:
    """Share of diagnosis names, errors included, that character TF-IDF maps to the gold code.

    The candidates are the titles of the code set; names added or left out do not count. None
    without names.
    """
    titles = [pack.taxonomy.title(code) for code in codes]
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    title_matrix = vectoriser.fit_transform(titles)
    names, wanted = _names_with_gold(dataset)
    if not names:
        return None
    best = np.asarray((vectoriser.transform(names) @ title_matrix.T).argmax(axis=1)).ravel()
    right = sum(codes[place] == code for place, code in zip(best, wanted, strict=True))
    return round(float(right) / len(names), 4)


def _names_with_gold(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Names of EMRs in which each name has its gold code at the same place."""
    broken = {emr_id for emr_id, kind in dataset.errors if kind in ("missing", "extra")}
    names: list[str] = []
    wanted: list[str] = []
    for emr, coding in zip(dataset.emrs, dataset.gold, strict=True):
        if emr.diagnoses and emr.emr_id not in broken:
            names += [diagnosis.name for diagnosis in emr.diagnoses]
            wanted += coding.codes
    return names, wanted


def _targets(gold: Sequence[set[str]], codes: Sequence[str]) -> npt.NDArray[np.bool_]:
    column = {code: place for place, code in enumerate(codes)}
    targets = np.zeros((len(gold), len(codes)), dtype=bool)
    for row, found in enumerate(gold):
        for code in found:
            if code in column:
                targets[row, column[code]] = True
    return targets
