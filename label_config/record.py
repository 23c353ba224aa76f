"""EMR, Diagnosis, EvidenceSpan and Coding: what travels between the packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from label_config.errors import DataError

DIAGNOSIS_SECTION = "Diagnoses"
"""Name under which the structured diagnosis names are shown and cited as evidence."""

Sex = Literal["female", "male"]
Source = Literal["noisy", "clean", "gold"]
Quality = Literal["clean", "unsure", "bad"]

MAX_ID_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One entry of the structured short text, as the clinician entered it."""

    name: str
    code: str | None = None
    """The code that the hospital's own system attached, if it did."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise DataError("a diagnosis needs a name, got an empty one")


@dataclass(frozen=True, slots=True)
class EvidenceSpan:
    """Text that supports a code: `section[start:end]`, in code points.

    `section` may be DIAGNOSIS_SECTION; offsets then count in `EMR.diagnosis_text`.
    `score` runs from 0 to 1, high means strong support.
    """

    code: str
    section: str
    start: int
    end: int
    score: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise DataError(f"evidence needs 0 <= start < end, got {self.start}..{self.end}")
        if not 0.0 <= self.score <= 1.0:
            raise DataError(f"an evidence score must lie in 0 to 1, got {self.score}")


@dataclass(frozen=True, slots=True)
class EMR:
    """One admission's record.

    `sections` maps a section's name to its free text, in reading order. At least one section or
    diagnosis must hold text.
    """

    emr_id: str
    sections: Mapping[str, str]
    diagnoses: tuple[Diagnosis, ...] = ()
    patient_id: str | None = None
    sex: Sex | None = None
    age: float | None = None
    """Years at admission."""

    def __post_init__(self) -> None:
        check_id(self.emr_id)
        if DIAGNOSIS_SECTION in self.sections:
            raise DataError(f"section name {DIAGNOSIS_SECTION!r} is kept for the diagnosis names")
        if not self.diagnoses and not any(text.strip() for text in self.sections.values()):
            raise DataError("an EMR needs text in a section or a diagnosis, got neither")
        if self.age is not None and not 0 <= self.age <= 130:
            raise DataError(f"age must lie in 0 to 130 years, got {self.age:g}")

    @property
    def diagnosis_text(self) -> str:
        """The diagnosis names as a numbered list, one a line; empty without any."""
        return "\n".join(f"{i}. {d.name}" for i, d in enumerate(self.diagnoses, start=1))

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield (section, text) in reading order, the diagnosis list last; empty texts left out."""
        for section, text in self.sections.items():
            if text.strip():
                yield section, text
        if self.diagnoses:
            yield DIAGNOSIS_SECTION, self.diagnosis_text

    def text_of(self, section: str) -> str:
        """Return the text that evidence offsets in `section` count in."""
        if section == DIAGNOSIS_SECTION:
            return self.diagnosis_text
        try:
            return self.sections[section]
        except KeyError:
            raise DataError(f"EMR {self.emr_id} has no section {section!r}") from None

    def same_text(self, other: EMR) -> bool:
        """Whether highlights in one stand at the same places in the other."""
        return dict(self.sections) == dict(other.sections) and self.diagnoses == other.diagnoses

    @property
    def long_text(self) -> str:
        """All free text, without the diagnosis names: what the text models read."""
        return "\n".join(text for text in self.sections.values() if text.strip())


@dataclass(frozen=True, slots=True)
class Coding:
    """The codes of one EMR from one source: noisy, clean or gold.

    `codes` are in order, the principal diagnosis first, without repeats. `confidence` is empty
    (all certain) or holds one value in 0 to 1 per code.
    """

    emr_id: str
    codes: tuple[str, ...]
    source: Source
    confidence: tuple[float, ...] = ()
    evidence: tuple[EvidenceSpan, ...] = ()
    coder: str | None = None
    seconds: float | None = None
    quality: Quality = "clean"
    note: str = ""
    suggested: tuple[str, ...] = field(default=())
    """What the model had suggested when the coder opened the task."""

    def __post_init__(self) -> None:
        check_id(self.emr_id)
        if len(set(self.codes)) != len(self.codes):
            raise DataError(f"coding of EMR {self.emr_id} repeats a code")
        if self.confidence and len(self.confidence) != len(self.codes):
            raise DataError(
                f"coding of EMR {self.emr_id} needs one confidence per code, "
                f"got {len(self.confidence)} for {len(self.codes)}"
            )
        if any(not 0.0 <= c <= 1.0 for c in self.confidence):
            raise DataError(f"coding of EMR {self.emr_id} has a confidence outside 0 to 1")

    @property
    def principal(self) -> str | None:
        """The principal diagnosis: the first code."""
        return self.codes[0] if self.codes else None


def check_id(emr_id: str) -> None:
    """Refuse an emr_id that could not name a file, a log line or a task."""
    if not emr_id or len(emr_id) > MAX_ID_LENGTH or not emr_id.isprintable():
        raise DataError(
            f"emr_id must be 1 to {MAX_ID_LENGTH} printable characters, "
            f"got {len(emr_id)} characters"
        )
