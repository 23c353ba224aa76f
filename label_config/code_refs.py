"""Codes named in the notes of a classification: "E83.-", "B38.0-B38.2", "T36-T50"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_CODE = r"[A-Z]\d[\dA-Z](?:\.[\dA-Z]{0,4})?"
_REFERENCE = re.compile(rf"({_CODE})(?:-({_CODE})|(-))?(?![\dA-Z.])")


@dataclass(frozen=True, slots=True)
class CodeRange:
    """Codes from `first` to `last` with everything below them; both bare, without dots."""

    first: str
    last: str

    def __contains__(self, code: object) -> bool:
        """Whether the code lies in the range or below one of its codes; its ancestors do not."""
        bare = _bare(str(code))
        return (
            len(bare) >= max(len(self.first), len(self.last))
            and self.first <= bare[: len(self.first)]
            and bare[: len(self.last)] <= self.last
        )

    def __str__(self) -> str:
        ends = [_dotted(end) for end in (self.first, self.last)]
        return ends[0] if self.first == self.last else "-".join(ends)


@lru_cache(maxsize=20_000)
def references(note: str) -> tuple[CodeRange, ...]:
    """Every code and range that a note names.

    Codes with a condition that cannot be read off the code ("with final characters -23") are left
    out.
    """
    return tuple(
        CodeRange(_bare(match[1]), _bare(match[2] or match[1]))
        for match in _REFERENCE.finditer(note)
        if not note[match.end() :].startswith((" with f", " with 7", "with final"))
    )


def named_in(code: str, notes: Iterable[str]) -> bool:
    """Whether one of the notes names the code, or a range that holds it."""
    return any(code in reference for note in notes for reference in references(note))


@lru_cache(maxsize=200_000)
def _bare(code: str) -> str:
    return code.replace(".", "").upper()


def _dotted(bare: str) -> str:
    return bare if len(bare) <= 3 else f"{bare[:3]}.{bare[3:]}"
