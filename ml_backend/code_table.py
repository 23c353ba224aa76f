"""A table from one code set to another: old code, new code; one row per pair.

A code may have one successor, several (a coder must choose), or none (the cell is empty). Codes may
be spelled with or without their dot, as the official mapping files do.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from label_config.errors import DataError
from label_config.record import Coding, EvidenceSpan

Kind = Literal["same", "renamed", "split", "removed", "unknown"]
Table = Mapping[str, tuple[str, ...]]
"""Bare old code -> new codes as the new taxonomy spells them."""
COLUMNS = ("old", "new")


@dataclass(frozen=True, slots=True)
class Moved:
    """A coding in the new code set."""

    coding: Coding
    open: Mapping[str, tuple[str, ...]]
    """Codes that a coder must decide on, each with its candidates; they left the coding."""


def bare(code: str) -> str:
    """The code without dot, in capitals: how tables name it."""
    return code.strip().replace(".", "").upper()


def read_table(path: Path) -> dict[str, tuple[str, ...]]:
    """Read columns old and new; several rows, or "A|B" in one, give several new codes.

    Raises DataError for a file that is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = {name.strip().lower(): name for name in reader.fieldnames or () if name}
            if not set(COLUMNS) <= set(names):
                raise DataError(f"{path} needs columns old and new, got {reader.fieldnames}")
            found: dict[str, dict[str, None]] = {}
            for row in reader:
                old = bare(row[names["old"]] or "")
                if not old:
                    raise DataError(f"{path} line {reader.line_num} needs an old code")
                new = [c.strip() for c in (row[names["new"]] or "").split("|") if c.strip()]
                found.setdefault(old, {}).update(dict.fromkeys(new))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path} must be a CSV table in UTF-8") from None
    if not found:
        raise DataError(f"{path} holds no code")
    return {old: tuple(new) for old, new in found.items()}


def kind_of(code: str, table: Table, known: bool) -> Kind:
    """What happens to a code; `known` says whether the new taxonomy holds it as it is."""
    new = table.get(bare(code))
    if new is None:
        return "same" if known else "unknown"
    if new == (code,):
        return "same"
    return "removed" if not new else "renamed" if len(new) == 1 else "split"


def move(coding: Coding, kinds: Mapping[str, Kind], table: Table) -> Moved:
    """Put every code, highlight and suggestion of a coding into the new set.

    `kinds` names what happens to each of its codes. Two codes that become one are one afterwards,
    as sure as the surer of them. A clean coding with a code that a coder must decide on becomes
    "unsure": it counts and teaches again once that is done.
    """
    sure: dict[str, float] = {}
    confidence = coding.confidence or (1.0,) * len(coding.codes)
    for code, value in zip(coding.codes, confidence, strict=True):
        new = _successor(code, kinds, table)
        if new is not None:
            sure[new] = max(value, sure.get(new, 0.0))
    open_ = {
        code: tuple(table.get(bare(code), ()))
        for code in coding.codes
        if kinds[code] in ("split", "unknown")
    }
    spans = tuple(
        EvidenceSpan(new, s.section, s.start, s.end, s.score)
        for s in coding.evidence
        if (new := _successor(s.code, kinds, table)) is not None
    )
    named = (_successor(code, kinds, table) for code in coding.suggested)
    moved = replace(
        coding,
        codes=tuple(sure),
        confidence=tuple(sure.values()) if coding.confidence else (),
        evidence=tuple(dict.fromkeys(spans)),
        suggested=tuple(dict.fromkeys(code for code in named if code is not None)),
        quality="unsure" if open_ and coding.quality == "clean" else coding.quality,
    )
    return Moved(moved, open_)


def _successor(code: str, kinds: Mapping[str, Kind], table: Table) -> str | None:
    """The one code that it becomes; None if there is none or a coder must choose."""
    kind = kinds.get(code)
    if kind == "same":
        return code
    return table[bare(code)][0] if kind == "renamed" else None
