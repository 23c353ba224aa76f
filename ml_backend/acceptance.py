"""What coders kept of the suggestions, per member: from the tasks and annotations as stored.

A member says a code when its own score is at least `SPOKE`; the task holds that for every code that
its screen lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from label_config.annotation import age_of, annotations_of, read_annotation
from label_config.cards import SPOKE, members_of
from label_config.errors import DataError
from ml_backend.dashboard.work import Corrections

Said = dict[str, frozenset[str]]
"""Per member, the codes that it says of one EMR."""


@dataclass(frozen=True, slots=True)
class MemberCorrections:
    """One member: over all codes, and each."""

    member: str
    total: Corrections
    """`suggested` is what it said, `added` what coders gave though it had not said so."""
    codes: Mapping[str, Corrections]


def corrections_by_member(tasks: Iterable[Mapping[str, Any]]) -> list[MemberCorrections]:
    """Each member that spoke, the one whose codes were kept most often first.

    Of an EMR's annotations the starred or else the latest clean one counts.
    """
    said, kept = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    given = Counter[str]()
    for spoken, codes in _decided(tasks):
        given.update(codes)
        for member, offered in spoken.items():
            said.update((member, code) for code in offered)
            kept.update((member, code) for code in offered & codes)
    found = []
    for member in dict.fromkeys(member for member, _ in said):
        each = {
            code: Corrections(
                said[member, code], kept[member, code], given[code] - kept[member, code]
            )
            for code in sorted(given.keys() | {c for m, c in said if m == member})
        }
        total = Corrections(
            sum(c.suggested for c in each.values()),
            sum(c.accepted for c in each.values()),
            sum(c.added for c in each.values()),
        )
        found.append(MemberCorrections(member, total, each))
    return sorted(found, key=lambda m: (-(m.total.acceptance or 0.0), m.member))


def _decided(tasks: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Said, frozenset[str]]]:
    """Per EMR: what each member said, and what the coder gave."""
    best: dict[str, tuple[tuple[bool, str, int], Said, frozenset[str]]] = {}
    for task in tasks:
        if not isinstance(task, Mapping):
            continue
        for annotation in annotations_of(task):
            try:
                coding = read_annotation(task, annotation)
            except DataError:
                continue  # `clinicoco pull` reports it
            age, known = age_of(annotation), best.get(coding.emr_id)
            if coding.quality == "clean" and (known is None or age > known[0]):
                best[coding.emr_id] = age, _said(task), frozenset(coding.codes)
    return [(said, codes) for _, said, codes in best.values()]


def _said(task: Mapping[str, Any]) -> Said:
    rows = task["data"].get("candidates")
    said: dict[str, set[str]] = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping) and isinstance(row.get("alias"), str):
            for member, score in members_of(row).items():
                if score >= SPOKE:
                    said.setdefault(member, set()).add(row["alias"])
    return {member: frozenset(codes) for member, codes in said.items()}
