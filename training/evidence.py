"""Between words and highlights: scores to short, clean spans; a coder's spans to nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from label_config.record import EMR, Coding, EvidenceSpan
from training.words import RecordFeatures

STRONG = 0.3
"""A word starts a span if it has at least this share of the strongest word's score."""
WEAK = 0.1
"""A word beside one continues it from this share on."""
LONGEST = 8.0
"""Words in one span; one of a single character, as every Chinese one is, counts half."""


@dataclass(slots=True)
class _Run:
    first: int
    last: int
    score: float


def evidence_spans(
    features: RecordFeatures, scores_V: NDArray[np.floating], emr: EMR, *, code: str, at_most: int
) -> tuple[EvidenceSpan, ...]:
    """Merge high-scoring words that stand together into spans, strongest first.

    `scores_V` (0 and up, any scale) holds one score per node: a word is scored wherever it stands,
    so a run of strong words outranks one of them alone. The strongest span gets score 1; of spans
    with the same words only the first is kept.
    """
    if not len(features.nodes_W) or not np.isfinite(scores_V).all() or scores_V.max() <= 0:
        return ()
    share_W = (scores_V / scores_V.max())[features.nodes_W]
    runs = sorted(_runs(share_W, features), key=lambda run: (-run.score, run.first))
    spans: list[EvidenceSpan] = []
    seen: set[str] = set()
    for run in runs:
        section = features.sections[features.sections_W[run.first]]
        start = int(features.spans_W2[run.first, 0])
        end = int(features.spans_W2[run.last, 1])
        words = emr.text_of(section)[start:end].casefold()
        if words in seen:
            continue
        seen.add(words)
        score = min(1.0, run.score / runs[0].score)
        spans.append(EvidenceSpan(code, section, start, end, score))
        if len(spans) == at_most:
            break
    return tuple(spans)


def _runs(share_W: NDArray[np.floating], features: RecordFeatures) -> list[_Run]:
    """Grow each strong word over its weaker neighbours, as far as both stand close together."""
    runs: list[_Run] = []
    end_of_last = -1
    size_W = np.where(features.spans_W2[:, 1] - features.spans_W2[:, 0] == 1, 0.5, 1.0)
    until_W = np.concatenate([[0.0], np.cumsum(size_W)])
    for word in np.flatnonzero(share_W >= STRONG).tolist():
        if word <= end_of_last:
            continue
        first = last = word
        while (
            first - 1 > end_of_last
            and until_W[last + 1] - until_W[first - 1] <= LONGEST
            and share_W[first - 1] >= WEAK
            and _adjacent(features, first - 1)
        ):
            first -= 1
        while (
            last + 1 < len(share_W)
            and until_W[last + 2] - until_W[first] <= LONGEST
            and share_W[last + 1] >= WEAK
            and _adjacent(features, last)
        ):
            last += 1
        runs.append(_Run(first, last, float(share_W[first : last + 1].sum())))
        end_of_last = last
    return runs


def _adjacent(features: RecordFeatures, word: int) -> bool:
    """Whether a word and the next stand in one section with at most one character between."""
    gap = features.spans_W2[word + 1, 0] - features.spans_W2[word, 1]
    same = features.sections_W[word] == features.sections_W[word + 1]
    return bool(same and 0 <= gap <= 1)


def marked_nodes(
    features: RecordFeatures, coding: Coding, column: Mapping[str, int]
) -> NDArray[np.int64]:
    """Return the (code column, node) pairs that the coder's evidence marks, shape (P, 2)."""
    section_of = {name: index for index, name in enumerate(features.sections)}
    pairs = [np.zeros((0, 2), np.int64)]
    for span in coding.evidence:
        if span.code not in column or span.section not in section_of:
            continue
        touched_W = (
            (features.sections_W == section_of[span.section])
            & (features.spans_W2[:, 0] < span.end)
            & (features.spans_W2[:, 1] > span.start)
        )
        nodes = features.nodes_W[touched_W].astype(np.int64)
        pairs.append(np.stack([np.full(len(nodes), column[span.code]), nodes], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)
