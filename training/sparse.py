"""L1 logistic regression per code on which 1-3-grams a text holds; each decision names its words.

Shapes: N texts, K codes, G n-grams.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from label_config.errors import CheckpointError, ConfigError, UnknownCode
from label_config.files import write_json
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.fold import fold
from training.l1 import L1Problem, fit_codes
from training.stems import stem, tokens

KIND = "sparse"
_STEMMED = "~"
"""Marks an n-gram of stems in the vocabulary."""


@dataclass(frozen=True, slots=True)
class SparseConfig:
    """What the sparse model reads and how hard it is pressed to use few words."""

    longest: int = 3
    """Words in the longest n-gram."""
    min_df: int = 2
    """Texts that an n-gram must stand in."""
    max_ngrams: int = 300_000
    """The most frequent are kept beyond this many."""
    C: float = 1.0
    """Inverse of the L1 penalty's weight."""
    max_iter: int = 100
    tolerance: float = 1e-3
    """When a code's fit may stop; ten times finer costs 1.5 times as long and no better."""
    min_positives: int = 2
    """Texts that a code needs to be learned at all."""
    stems: bool = True
    """Also read the n-grams of the words' stems."""

    def __post_init__(self) -> None:
        if min(self.longest, self.min_df, self.max_ngrams, self.max_iter) < 1 or self.C <= 0:
            raise ConfigError(
                "the sparse model needed longest, min_df, max_ngrams, max_iter >= 1 and C > 0, "
                f"got {self.longest}, {self.min_df}, {self.max_ngrams}, {self.max_iter}, {self.C}"
            )


class Span(NamedTuple):
    """`text[start:end]` with its weight, 0 to 1, 1 for the strongest of the text."""

    start: int
    end: int
    score: float


class SparseModel:
    """One logistic regression per code over one shared vocabulary."""

    def __init__(
        self,
        codes: Sequence[str],
        vocabulary: Sequence[str],
        coef_KG: csr_matrix,
        bias_K: npt.NDArray[np.float64],
        config: SparseConfig,
    ) -> None:
        """Use `fit` or `load`. `vocabulary` holds the G n-grams in the order of the columns."""
        self.codes, self.config = tuple(codes), config
        self._coef_KG, self._bias_K = coef_KG, bias_K
        self._column = {gram: g for g, gram in enumerate(vocabulary)}

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        targets_NK: npt.NDArray[np.bool_],
        codes: Sequence[str],
        config: SparseConfig | None = None,
        *,
        weights_N: npt.NDArray[np.float64] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> SparseModel:
        """Learn from texts and which code each has.

        A code that none or all of the texts have gets its share of texts as a constant. `weights_N`
        says how much each text counts. Raises ConfigError when the shapes do not fit.
        """
        config = config or SparseConfig()
        targets_NK = np.asarray(targets_NK, dtype=bool)
        if not len(texts) or targets_NK.shape != (len(texts), len(codes)):
            raise ConfigError(
                f"the sparse model needed targets of shape {(max(1, len(texts)), len(codes))}, "
                f"got {targets_NK.shape}"
            )
        present_NG, vocabulary = _vectorise(texts, config)
        problem = _problem(present_NG, weights_N, config)
        coef_KG, bias_K = fit_codes(problem, targets_NK, progress=progress)
        used = np.unique(coef_KG.indices[coef_KG.data != 0])
        kept = [vocabulary[g] for g in used]
        return cls(codes, kept, csr_matrix(coef_KG[:, used]), bias_K, config)

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the probability of each code, shape (N, K)."""
        grams = [self._columns_in(text) for text in texts]
        counts = np.cumsum([0, *map(len, grams)])
        columns = np.fromiter((g for row in grams for g in sorted(row)), dtype=np.int64)
        present_NG = csr_matrix(
            (np.ones(len(columns)), columns, counts), shape=(len(texts), len(self._column))
        )
        return _sigmoid((present_NG @ self._coef_KG.T).toarray() + self._bias_K)

    def evidence(self, text: str, code: str) -> list[Span]:
        """The words in the text that speak for the code, in reading order, overlaps merged.

        Raises UnknownCode for a code the model has not learned.
        """
        return self.explain(text, [code])[code]

    def explain(self, text: str, codes: Sequence[str]) -> dict[str, list[Span]]:
        """`evidence` for several codes in one reading of the text."""
        unknown = sorted(set(codes) - set(self.codes))
        if unknown:
            raise UnknownCode(f"the sparse model has not learned code {unknown[0]!r}")
        found = list(self._found(text))
        columns = np.array([g for g, _, _ in found], dtype=np.int64)
        explained = {}
        for code in codes:
            weights = self._coef_KG[[self.codes.index(code)]].toarray()[0][columns]
            explained[code] = _merge(
                sorted((*found[i][1:], float(weights[i])) for i in np.flatnonzero(weights > 0))
            )
        return explained

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors and the vocabulary as JSON."""
        coef = self._coef_KG
        tensors = {
            "data": torch.from_numpy(coef.data.astype(np.float32)),
            "indices": torch.from_numpy(coef.indices.astype(np.int64)),
            "indptr": torch.from_numpy(coef.indptr.astype(np.int64)),
            "bias_K": torch.from_numpy(self._bias_K),
        }

        def write(to: Path) -> None:
            save_tensors(to / "weights.safetensors", tensors)
            write_json(to / "vocabulary.json", list(self._column))

        config = {"codes": list(self.codes), "config": asdict(self.config)}
        save_checkpoint(folder, kind=KIND, config=config, write=write)

    @classmethod
    def load(cls, folder: Path) -> SparseModel:
        """Read what `save` wrote. Raises CheckpointError for a missing or foreign folder."""
        settings = open_checkpoint(folder, kind=KIND)
        try:
            vocabulary = _read_list(folder / "vocabulary.json")
            t = {n: v.numpy() for n, v in load_tensors(folder / "weights.safetensors").items()}
            shape = (len(settings["codes"]), len(vocabulary))
            coef_KG = csr_matrix(
                (t["data"].astype(np.float64), t["indices"], t["indptr"]), shape=shape
            )
            config = SparseConfig(**settings["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder} does not fit this version: {error}") from None
        return cls(settings["codes"], vocabulary, coef_KG, t["bias_K"], config)

    def _columns_in(self, text: str) -> set[int]:
        """The n-grams of the text that some code weighs."""
        known = self._column
        return {known[gram] for gram in _all_ngrams(text, self.config) if gram in known}

    def _found(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Those n-grams one by one, with original offsets."""
        folded = fold(text)
        words = tokens(folded.text)
        for size, run in _ngrams([word for word, _, _ in words], self.config):
            for i, gram in enumerate(run):
                if gram in self._column:
                    place = folded.span(words[i][1], words[i + size - 1][2])
                    yield self._column[gram], *place


def _merge(weighted: Sequence[tuple[int, int, float]]) -> list[Span]:
    """Join sorted spans that overlap, adding their weights; 1 for the heaviest."""
    merged: list[tuple[int, int, float]] = []
    for start, end, weight in weighted:
        if merged and start < merged[-1][1]:
            first, last, so_far = merged.pop()
            merged.append((first, max(end, last), weight + so_far))
        else:
            merged.append((start, end, weight))
    most = max((weight for _, _, weight in merged), default=1.0)
    return [Span(start, end, weight / most) for start, end, weight in merged]


def _ngrams(words: Sequence[str], config: SparseConfig) -> Iterator[tuple[int, list[str]]]:
    """(size, the n-grams of that size in reading order), of the words and of their stems."""
    readings = {"": words}
    if config.stems:
        readings[_STEMMED] = [stem(word) for word in words]
    for mark, reading in readings.items():
        for size in range(1, config.longest + 1):
            grams = map(" ".join, zip(*(reading[i:] for i in range(size)), strict=False))
            yield size, [mark + gram for gram in grams]


def _all_ngrams(text: str, config: SparseConfig) -> list[str]:
    words = [word for word, _, _ in tokens(fold(text).text)]
    return [gram for _, run in _ngrams(words, config) for gram in run]


def _problem(
    present_NG: csr_matrix, weights_N: npt.NDArray[np.float64] | None, config: SparseConfig
) -> L1Problem:
    return L1Problem(
        present_NG,
        np.ones(present_NG.shape[0]) if weights_N is None else np.asarray(weights_N, float),
        config.C,
        config.tolerance,
        config.max_iter,
        config.min_positives,
    )


def _vectorise(texts: Sequence[str], config: SparseConfig) -> tuple[csr_matrix, list[str]]:
    vectorizer = CountVectorizer(
        analyzer=partial(_all_ngrams, config=config),
        binary=True,
        min_df=min(config.min_df, len(texts)),
        max_features=config.max_ngrams,
        dtype=np.float64,
    )
    try:
        present_NG = csr_matrix(vectorizer.fit_transform(texts))
    except ValueError:  # no n-gram stands in enough texts: only the constants are left
        return csr_matrix((len(texts), 1)), [""]
    return present_NG, vectorizer.get_feature_names_out().tolist()


def out_of_fold(
    texts: Sequence[str],
    targets_NK: npt.NDArray[np.bool_],
    folds_N: npt.NDArray[np.int64],
    config: SparseConfig | None = None,
    *,
    weights_N: npt.NDArray[np.float64] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Return probabilities (N, K) from a model that has not seen the text's fold.

    Texts of fold -1 are only learned from; their rows stay NaN. The texts are read once.
    """
    config = config or SparseConfig()
    present_NG, _ = _vectorise(texts, config)
    return _crossed(present_NG, targets_NK, folds_N, config, weights_N, progress)


def inside_and_outside(
    texts: Sequence[str],
    targets_NK: npt.NDArray[np.bool_],
    folds_N: npt.NDArray[np.int64],
    unseen: Sequence[str],
    config: SparseConfig | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`out_of_fold`, and what the model of all texts says of `unseen` ones; texts are read once."""
    config = config or SparseConfig()
    present_NG, vocabulary = _vectorise(texts, config)
    coef_KG, bias_K = fit_codes(_problem(present_NG, None, config), targets_NK)
    used = np.unique(coef_KG.indices)
    kept = [vocabulary[g] for g in used]
    model = SparseModel((), kept, csr_matrix(coef_KG[:, used]), bias_K, config)
    return _crossed(present_NG, targets_NK, folds_N, config), model.predict(unseen)


def _crossed(
    present_NG: csr_matrix,
    targets_NK: npt.NDArray[np.bool_],
    folds_N: npt.NDArray[np.int64],
    config: SparseConfig,
    weights_N: npt.NDArray[np.float64] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float64]:
    probs_NK = np.full(targets_NK.shape, np.nan)
    folds = [int(part) for part in np.unique(folds_N) if part >= 0]
    for done, part in enumerate(folds):
        train, test = np.flatnonzero(folds_N != part), np.flatnonzero(folds_N == part)
        weights = None if weights_N is None else weights_N[train]
        problem = _problem(present_NG[train], weights, config)
        coef_KG, bias_K = fit_codes(problem, targets_NK[train])
        probs_NK[test] = _sigmoid((present_NG[test] @ coef_KG.T).toarray() + bias_K)
        if progress is not None:
            progress(done + 1, len(folds))
    return probs_NK


def _sigmoid(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


def _read_list(path: Path) -> list[str]:
    values = json.loads(path.read_text("utf-8"))
    if not isinstance(values, list):
        raise CheckpointError(f"{path} should hold a list, got {type(values).__name__}")
    return [str(value) for value in values]
