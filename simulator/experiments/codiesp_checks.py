"""Highlights that no highlight taught, and the promise of few missed codes, on real cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from label_config.record import EMR, Coding, EvidenceSpan
from training.highlight_figures import HighlightCase, highlight_figures
from training.members import sparse_spans
from training.sparse import SparseModel
from training.thresholds import promised_threshold

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
MISS, SURE = 0.05, 0.95
RESPLITS = 40
"""Per order: 200 over five."""


def highlight_row(
    texts: Sequence[str],
    targets_NK: Bools,
    codes: Sequence[str],
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
) -> dict[str, Any]:
    """A sparse model sees codes only; its attribution is held against coders' highlights.

    Judged are codes that the case has and the model finds (probability 0.5 or more).
    """
    model = SparseModel.fit(texts, targets_NK, codes)
    probs_NK = model.predict([emr.long_text for emr in emrs])
    cases = []
    for emr, coding, probs_K in zip(emrs, codings, probs_NK, strict=True):
        given = {span.code for span in coding.evidence}
        asked = [c for c, p in zip(codes, probs_K, strict=True) if p >= 0.5 and c in given]
        found: dict[str, list[EvidenceSpan]] = {code: [] for code in asked}
        for span in sparse_spans(model, emr, asked):
            found[span.code].append(span)
        for code in asked:
            true = tuple(span for span in coding.evidence if span.code == code)
            cases.append(HighlightCase(emr, code, tuple(found[code]), true))
    return highlight_figures(cases)


def promise_row(probs_NK: Floats, targets_NK: Bools, *, seed: int) -> dict[str, float]:
    """Set a promise on two thirds of the cases, look at the rest; many times.

    `kept`: share of the re-splits in which the rest missed no more than promised;
    `candidates_to_top_k`: ticked codes per case, over the k of the shortest fixed list that misses
    no more.
    """
    rng = np.random.default_rng(seed)
    cut = round(len(probs_NK) * 2 / 3)
    kept, missed, candidates, ratio = [], [], [], []
    for _ in range(RESPLITS):
        order = rng.permutation(len(probs_NK))
        tuned, other = order[:cut], order[cut:]
        promise = promised_threshold(
            probs_NK[tuned], targets_NK[tuned], miss=MISS, sure=SURE, coming=len(other)
        )
        ticked_NK = probs_NK[other] >= promise.threshold
        lost = missed_share(ticked_NK, targets_NK[other])
        per_case = float(ticked_NK.sum(axis=1).mean())
        kept.append(lost <= MISS)
        missed.append(lost)
        candidates.append(per_case)
        ratio.append(per_case / shortest_list(probs_NK[other], targets_NK[other], lost))
    return {
        "kept": float(np.mean(kept)),
        "missed": float(np.mean(missed)),
        "candidates": float(np.mean(candidates)),
        "candidates_to_top_k": float(np.mean(ratio)),
    }


def missed_share(ticked_NK: Bools, targets_NK: Bools) -> float:
    """Mean share of an EMR's codes that is not ticked."""
    true_N = np.maximum(targets_NK.sum(axis=1), 1)
    return float(((targets_NK & ~ticked_NK).sum(axis=1) / true_N).mean())


def shortest_list(probs_NK: Floats, targets_NK: Bools, missed: float) -> int:
    """The least k such that each EMR's k most probable codes miss no more."""
    order_NK = np.argsort(-probs_NK, axis=1, kind="stable")
    hits_NK = np.take_along_axis(targets_NK, order_NK, axis=1).cumsum(axis=1)
    true_N = np.maximum(targets_NK.sum(axis=1), 1)
    held_K = 1.0 - ((true_N[:, None] - hits_NK) / true_N[:, None])[targets_NK.any(axis=1)].sum(
        axis=0
    ) / len(targets_NK)
    return int(np.argmax(held_K >= 1.0 - missed - 1e-9)) + 1
