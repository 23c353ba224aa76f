"""How good highlights are: against coders' spans, and by what a model does without them.

A highlight and its truth are compared character by character, per EMR and code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from label_config.record import DIAGNOSIS_SECTION, EMR, EvidenceSpan

Floats = npt.NDArray[np.float64]
Predict = Callable[[Sequence[EMR]], Floats]
_GAP = "\n"


@dataclass(frozen=True, slots=True)
class HighlightCase:
    """One EMR and code: what was highlighted, and what a coder had."""

    emr: EMR
    code: str
    found: tuple[EvidenceSpan, ...]
    true: tuple[EvidenceSpan, ...]


def highlight_figures(cases: Iterable[HighlightCase]) -> dict[str, float]:
    """Character precision, recall and F1 (micro), IoU, AUPRC and top-1, of cases with true spans.

    `iou` is the mean over cases, `auprc` ranks a case's characters by score, `top1` is the share of
    cases whose strongest span touches a true one. All NaN without a case.
    """
    hits = given = wanted = 0
    overlaps, areas, tops = [], [], []
    for case in cases:
        if not case.true:
            continue
        score, true = _scores(case.emr, case.found), _scores(case.emr, case.true) > 0
        found = score > 0
        both = int((found & true).sum())
        hits, given, wanted = hits + both, given + int(found.sum()), wanted + int(true.sum())
        overlaps.append(both / max(1, int((found | true).sum())))
        areas.append(float(average_precision_score(true, score)))
        best = max(case.found, key=lambda s: s.score, default=None)
        tops.append(best is not None and any(_touch(best, span) for span in case.true))
    if not overlaps:
        return dict.fromkeys(("precision", "recall", "f1", "iou", "auprc", "top1"), np.nan)
    return {
        "precision": hits / max(1, given),
        "recall": hits / max(1, wanted),
        "f1": 2 * hits / max(1, given + wanted),
        "iou": float(np.mean(overlaps)),
        "auprc": float(np.mean(areas)),
        "top1": float(np.mean(tops)),
    }


def faithfulness(
    predict: Predict, emr: EMR, column: int, spans: Sequence[EvidenceSpan]
) -> dict[str, float]:
    """How far the code's probability falls without the highlights, and without all else.

    `comprehensiveness` (high is good) = p(all) - p(all but the highlights); `sufficiency` (low is
    good) = p(all) - p(only the highlights). `column` is the code's in what `predict` returns.
    """
    without, only = _reduced(emr, spans, keep=False), _reduced(emr, spans, keep=True)
    full, less, rest = predict([emr, without, only])[:, column].tolist()
    return {"comprehensiveness": full - less, "sufficiency": full - rest}


def elsewhere(
    emr: EMR, spans: Sequence[EvidenceSpan], rng: np.random.Generator
) -> list[EvidenceSpan]:
    """As many spans of the same lengths, each at a place of its section drawn by chance."""
    moved = []
    for span in spans:
        length = span.end - span.start
        start = int(rng.integers(len(emr.text_of(span.section)) - length + 1))
        moved.append(replace(span, start=start, end=start + length))
    return moved


def _scores(emr: EMR, spans: Iterable[EvidenceSpan]) -> Floats:
    """One score per character of the whole record."""
    offsets, total = {}, 0
    for section, text in emr.texts():
        offsets[section] = total
        total += len(text)
    scores = np.zeros(total)
    for span in spans:
        if span.section in offsets:
            part = slice(offsets[span.section] + span.start, offsets[span.section] + span.end)
            scores[part] = np.maximum(scores[part], max(span.score, 1e-9))
    return scores


def _touch(one: EvidenceSpan, other: EvidenceSpan) -> bool:
    return one.section == other.section and one.start < other.end and other.start < one.end


def _reduced(emr: EMR, spans: Sequence[EvidenceSpan], *, keep: bool) -> EMR:
    """The EMR with only the highlighted text, or with everything else.

    A diagnosis name counts as highlighted where a span touches it.
    """
    sections, diagnoses = {}, []
    for section, text in emr.sections.items():
        kept = _inside(text, section, spans) == keep
        sections[section] = "".join(c if k else _GAP for c, k in zip(text, kept, strict=True))
    marked, start = _inside(emr.diagnosis_text, DIAGNOSIS_SECTION, spans), 0
    for number, diagnosis in enumerate(emr.diagnoses, 1):
        end = start + len(f"{number}. {diagnosis.name}")
        if bool(marked[start:end].any()) == keep:
            diagnoses.append(diagnosis)
        start = end + 1
    if not diagnoses and not any(text.strip() for text in sections.values()):
        sections["—"] = "—"  # an EMR may not be empty
    return replace(emr, sections=sections, diagnoses=tuple(diagnoses))


def _inside(text: str, section: str, spans: Sequence[EvidenceSpan]) -> npt.NDArray[np.bool_]:
    """Which characters of a section lie in a span."""
    inside = np.zeros(len(text), dtype=bool)
    for span in spans:
        if span.section == section:
            inside[span.start : span.end] = True
    return inside
