"""Suggestion, SimilarCase and SuggestionSet: what a model says about one EMR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from label_config.errors import DataError
from label_config.record import EvidenceSpan


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One code that a model proposes for an EMR."""

    code: str
    confidence: float
    """0 to 1; calibrated, so that 0.8 is right about 8 times in 10."""
    members: Mapping[str, float] = field(default_factory=dict)
    """Who spoke ("names", "lexicon", "phrases", "sparse", "network", "knn", "described") -> score,
    0 to 1."""
    evidence: tuple[EvidenceSpan, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.confidence <= 1.0:
            raise DataError(f"confidence of {self.code} must lie in 0 to 1, got {self.confidence}")


@dataclass(frozen=True, slots=True)
class SimilarCase:
    """A clean EMR close to the one at hand."""

    emr_id: str
    similarity: float
    """-1 to 1 (cosine), high means alike."""
    codes: tuple[str, ...]
    excerpt: str = ""
    shared_words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SuggestionSet:
    """Everything suggested for one EMR, most confident first."""

    emr_id: str
    suggestions: tuple[Suggestion, ...]
    model_version: str
    threshold: float = 0.5
    """Codes at or above it are ticked for the coder."""
    similar: tuple[SimilarCase, ...] = ()

    def __post_init__(self) -> None:
        confidences = [s.confidence for s in self.suggestions]
        if confidences != sorted(confidences, reverse=True):
            raise DataError("suggestions must be ordered by falling confidence")
        if len({s.code for s in self.suggestions}) != len(self.suggestions):
            raise DataError(f"suggestions for EMR {self.emr_id} repeat a code")

    def ticked(self) -> tuple[Suggestion, ...]:
        """The suggestions at or above the threshold."""
        return tuple(s for s in self.suggestions if s.confidence >= self.threshold)
