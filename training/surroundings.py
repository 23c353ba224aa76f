"""What stands around a phrase: the words by which a coder tells one code's places from another's.

One L1 logistic regression per code with enough places, on top of the logit that all codes share:

    logit p = w * shared + b + sum of the weights of the features at hand
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from training.phrase_features import Rows
from training.phrases import Found, PhraseTable, Reading

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_NEAR, _FAR = 3, 8
"""Words on each side whose place counts, and that are read at all, within the sentence."""
_CHEAP = 3.0
"""How much less the shared logit is penalised than a word."""


@dataclass(frozen=True, slots=True)
class CodeSurroundings:
    """One code's weights."""

    bias: float
    shared: float
    weights: dict[str, float]

    def logits(self, shared_R: Floats, features: Sequence[set[str]]) -> Floats:
        """Of its rows."""
        # exact, because a set's order changes from process to process
        own = [fsum(self.weights.get(f, 0.0) for f in row) for row in features]
        return np.asarray(self.shared * shared_R + self.bias + np.array(own, dtype=float))


class Features:
    """Features of the places of some rows, each place read once."""

    def __init__(self, rows: Rows, readings: Sequence[Reading], table: PhraseTable) -> None:
        self._rows, self._readings, self._table = rows, readings, table
        self._known: dict[int, set[str]] = {}
        self._around: dict[tuple[int, int, int], list[Found]] = defaultdict(list)
        for n, at in rows.found:
            for word in range(at.first, at.last + 1) if at.last > at.first else ():
                self._around[n, at.section, word].append(at)

    def of(self, rows_at: Ints) -> list[set[str]]:
        """One set per row."""
        return [self._place(int(place)) for place in self._rows.place_R[rows_at]]

    def _place(self, place: int) -> set[str]:
        if place not in self._known:
            n, at = self._rows.found[place]
            self._known[place] = self._words(n, at) | self._covers(n, at)
        return self._known[place]

    def _words(self, n: int, at: Found) -> set[str]:
        text = self._readings[n].texts[at.section]
        found = {f"is:{at.wording}"}
        found |= {f"in:{own}" for own in text.stems[at.first : at.last + 1]}
        found.add(f"as:{self._readings[n].context(at.section, at.first, at.last)}")
        sentence = text.sentences[at.first]
        for side, start, step in (("<", at.first, -1), (">", at.last, 1)):
            for distance in range(1, _FAR + 1):
                i = start + step * distance
                if not 0 <= i < len(text.stems) or text.sentences[i] != sentence:
                    if distance < _NEAR:
                        found.add(f"{side}{distance}:|")
                    break
                found |= {f"{side}:{text.stems[i]}", f"~:{text.stems[i]}"}
                if distance <= _NEAR:
                    found.add(f"{side}{distance}:{text.stems[i]}")
        return found

    def _covers(self, n: int, at: Found) -> set[str]:
        """Longer phrases around the place, and the codes that they may stand for."""
        found = set()
        for longer in self._around.get((n, at.section, at.first), ()):
            if longer.last >= at.last and longer.last - longer.first > at.last - at.first:
                found.add(f"within:{self._table.keys[longer.phrase]}")
                for entry in self._table.entries[longer.phrase]:
                    found.add(f"within code:{self._table.codes[self._table.code[entry]]}")
        return found


def fit_surroundings(
    rows: Rows, shared_R: Floats, features: Features, *, least: int, C: float
) -> dict[int, CodeSurroundings]:
    """Column -> weights, for codes with `least` places that stand for them and as many that do not.

    Half as many that do not will do, because most phrases are right.
    """
    fitted = {}
    for code in np.unique(rows.code_R).tolist():
        at = np.flatnonzero(rows.code_R == code)
        true = rows.true_R[at]
        if true.sum() >= least and (~true).sum() >= least / 2:
            fitted[code] = _fit(features.of(at), shared_R[at], true, C)
    return fitted


def _fit(
    features: Sequence[set[str]], shared_R: Floats, true_R: npt.NDArray[np.bool_], C: float
) -> CodeSurroundings:
    counts: defaultdict[str, int] = defaultdict(int)
    for row in features:
        for feature in row:
            counts[feature] += 1
    number = {f: i for i, f in enumerate(sorted(f for f, n in counts.items() if n > 1))}
    columns = [sorted(number[f] for f in row if f in number) for row in features]
    x = csr_matrix(
        (
            np.ones(sum(map(len, columns))),
            np.array([c for row in columns for c in row], dtype=np.int64),
            np.cumsum([0, *map(len, columns)]),
        ),
        shape=(len(features), len(number)),
    )
    model = LogisticRegression(
        l1_ratio=1.0, solver="liblinear", C=C, max_iter=100, tol=1e-3, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a vote
        model.fit(hstack([x, _CHEAP * shared_R[:, None]]).tocsr(), true_R)
    weights = model.coef_[0]
    kept = {f: float(weights[i]) for f, i in number.items() if weights[i]}
    return CodeSurroundings(float(model.intercept_[0]), float(_CHEAP * weights[-1]), kept)
