"""What each member says of clean EMRs that it has not learned from: what fusion is tuned on.

Shapes: N clean EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training import sparse
from training.lexicon import Lexicon, LexiconConfig
from training.phrase_model import PhraseConfig, PhraseModel
from training.phrases import read
from training.sparse import SparseConfig

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with (what is running, done, total)."""


def targets(codings: Sequence[Coding], codes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of `codes` each coding has, shape (N, K)."""
    column = {code: k for k, code in enumerate(codes)}
    targets_NK = np.zeros((len(codings), len(codes)), dtype=bool)
    for n, coding in enumerate(codings):
        targets_NK[n, [column[c] for c in coding.codes if c in column]] = True
    return targets_NK


def draw_folds(n: int, folds: int, *, seed: int) -> npt.NDArray[np.int64]:
    """A fold per EMR, 0 to folds - 1, as even as can be."""
    return np.random.default_rng(seed).permutation(n) % max(1, min(folds, n))


def lexicon_scores(
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
    folds_N: npt.NDArray[np.int64],
    taxonomy: Taxonomy,
    codes: Sequence[str],
    *,
    config: LexiconConfig,
    synonyms: Mapping[str, Iterable[str]] | None = None,
    also: tuple[Sequence[EMR], Sequence[Coding]] = ((), ()),
) -> Floats:
    """A lexicon's scores per fold (N, K), learned from the other folds and `also` (noisy EMRs)."""
    scores_NK = np.zeros((len(emrs), len(codes)))
    for fold in np.unique(folds_N):
        train, test = np.flatnonzero(folds_N != fold), np.flatnonzero(folds_N == fold)
        hidden = {emrs[i].emr_id for i in test}
        noisy = [c for c in also[1] if c.emr_id not in hidden]
        lexicon = Lexicon.fit(
            [*also[0], *(emrs[i] for i in train)],
            [*noisy, *(codings[i] for i in train)],
            taxonomy,
            codes,
            config=config,
            synonyms=synonyms,
        )
        scores_NK[test] = lexicon.scores([emrs[i] for i in test])
    return scores_NK


def phrase_scores(
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
    folds_N: npt.NDArray[np.int64],
    taxonomy: Taxonomy,
    codes: Sequence[str],
    *,
    config: PhraseConfig,
    synonyms: Mapping[str, Iterable[str]] | None = None,
) -> Floats:
    """A phrase model's scores per fold (N, K), learned from the other folds."""
    readings, scores_NK = read(emrs), np.zeros((len(emrs), len(codes)))
    for fold in np.unique(folds_N):
        train, test = np.flatnonzero(folds_N != fold), np.flatnonzero(folds_N == fold)
        model = PhraseModel.fit(
            [readings[i] for i in train],
            [codings[i] for i in train],
            taxonomy,
            codes,
            config=config,
            synonyms=synonyms,
        )
        scores_NK[test] = model.scores([readings[i] for i in test])
    return scores_NK


def sparse_scores(
    texts: Sequence[str],
    targets_NK: npt.NDArray[np.bool_],
    folds_N: npt.NDArray[np.int64],
    *,
    config: SparseConfig,
    also: tuple[Sequence[str], npt.NDArray[np.bool_], Floats],
    progress: Progress | None = None,
) -> Floats:
    """The sparse model's, learned from the other folds and `also` (texts, targets, weights)."""
    more_texts, more_targets, more_weights = also
    step = None if progress is None else lambda i, n: progress("checking the sparse model", i, n)
    probs = sparse.out_of_fold(
        [*texts, *more_texts],
        np.concatenate([targets_NK, more_targets]),
        np.concatenate([folds_N, np.full(len(more_texts), -1)]),
        config,
        weights_N=np.concatenate([np.ones(len(texts)), more_weights]),
        progress=step,
    )
    return probs[: len(texts)]
