"""Members' evidence as clean highlights: whole words, no overlaps of one code, best score kept."""

from __future__ import annotations

from collections.abc import Iterable

from label_config.record import EMR, EvidenceSpan
from training.fold import whole_words

MAX_SPANS = 6


def merge_evidence(
    emr: EMR, spans: Iterable[EvidenceSpan], *, at_most: int = MAX_SPANS, min_share: float = 0.3
) -> tuple[EvidenceSpan, ...]:
    """Join overlapping spans of one code, trim them to words, keep the strongest of each code.

    Spans that have less than `min_share` of their code's best score, lie outside the text, or hold
    no word are left out. Ordered by code, then strongest first.
    """
    by_code: dict[str, list[EvidenceSpan]] = {}
    for span in spans:
        trimmed = _to_words(emr.text_of(span.section), span)
        if trimmed is not None:
            by_code.setdefault(span.code, []).append(trimmed)
    merged: list[EvidenceSpan] = []
    for own in by_code.values():
        joined = sorted(_join(own), key=lambda s: (-s.score, s.section, s.start))
        merged += [s for s in joined[:at_most] if s.score >= min_share * joined[0].score]
    return tuple(merged)


def _join(spans: list[EvidenceSpan]) -> list[EvidenceSpan]:
    joined: list[EvidenceSpan] = []
    for span in sorted(spans, key=lambda s: (s.section, s.start, s.end)):
        last = joined[-1] if joined else None
        if last is not None and last.section == span.section and span.start < last.end:
            end, score = max(last.end, span.end), max(last.score, span.score)
            joined[-1] = EvidenceSpan(span.code, span.section, last.start, end, score)
        else:
            joined.append(span)
    return joined


def _to_words(text: str, span: EvidenceSpan) -> EvidenceSpan | None:
    place = whole_words(text, span.start, span.end)
    if place is None or not any(map(str.isalnum, text[slice(*place)])):
        return None
    return EvidenceSpan(span.code, span.section, *place, span.score)
