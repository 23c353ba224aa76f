"""What coders did: pace per coder, and what became of the suggestions, code by code."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from label_config.record import Coding

LONGEST = 4.0
"""A time above this multiple of the median is cut to it: the screen was left open."""
FEWEST_TIMED = 5
"""Timed EMRs below which no hours are forecast."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """What became of suggestions, over EMRs that were opened with some."""

    suggested: int = 0
    accepted: int = 0
    """Suggested and kept."""
    added: int = 0
    """Given by the coder though not suggested."""

    @property
    def removed(self) -> int:
        """Suggested and taken out."""
        return self.suggested - self.accepted

    @property
    def acceptance(self) -> float | None:
        """Share of the suggestions that were kept, 0 to 1; None without any."""
        return self.accepted / self.suggested if self.suggested else None

    @property
    def correction(self) -> float | None:
        """Share of the decisions that a coder changed: (removed + added) / (suggested + added)."""
        decisions = self.suggested + self.added
        return (self.removed + self.added) / decisions if decisions else None


@dataclass(frozen=True, slots=True)
class CoderFigures:
    """One coder, by Label Studio's user id."""

    coder: str
    emrs: int
    median_seconds: float | None
    """Over the EMRs that carry a time."""
    emrs_per_hour: float | None
    """While at it: timed EMRs by the sum of their (cut) times."""
    corrections: Corrections


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds per EMR: mean of the cut times and its relative standard error."""

    seconds: float
    relative_error: float
    timed: int


def corrections_by_code(codings: Iterable[Coding]) -> dict[str, Corrections]:
    """Per code; EMRs that were opened without suggestions say nothing and are left out."""
    suggested, accepted, added = Counter[str](), Counter[str](), Counter[str]()
    for coding in codings:
        if coding.suggested:
            given, offered = set(coding.codes), set(coding.suggested)
            suggested.update(offered)
            accepted.update(offered & given)
            added.update(given - offered)
    return {
        code: Corrections(suggested[code], accepted[code], added[code])
        for code in suggested.keys() | added.keys()
    }


def corrections(codings: Iterable[Coding]) -> Corrections:
    """Over all codes."""
    each = corrections_by_code(codings).values()
    return Corrections(
        sum(c.suggested for c in each), sum(c.accepted for c in each), sum(c.added for c in each)
    )


def coder_figures(codings: Sequence[Coding]) -> tuple[CoderFigures, ...]:
    """Every coder, the one with most EMRs first."""
    by_coder: dict[str, list[Coding]] = defaultdict(list)
    for coding in codings:
        by_coder[coding.coder or "unknown"].append(coding)
    found = [_figures(coder, theirs) for coder, theirs in by_coder.items()]
    return tuple(sorted(found, key=lambda c: (-c.emrs, c.coder)))


def pace_of(codings: Iterable[Coding]) -> Pace | None:
    """Seconds per EMR; None while fewer than FEWEST_TIMED EMRs carry a time."""
    seconds = _cut([c.seconds for c in codings if c.seconds])
    if len(seconds) < FEWEST_TIMED:
        return None
    mean = statistics.fmean(seconds)
    error = statistics.stdev(seconds) / len(seconds) ** 0.5
    return Pace(mean, error / mean, len(seconds))


def _figures(coder: str, codings: Sequence[Coding]) -> CoderFigures:
    seconds = [c.seconds for c in codings if c.seconds]
    active = sum(_cut(seconds))
    return CoderFigures(
        coder=coder,
        emrs=len(codings),
        median_seconds=statistics.median(seconds) if seconds else None,
        emrs_per_hour=3600 * len(seconds) / active if active else None,
        corrections=corrections(codings),
    )


def _cut(seconds: Sequence[float]) -> list[float]:
    most = LONGEST * statistics.median(seconds) if seconds else 0.0
    return [min(s, most) for s in seconds]
