"""Wording: one language's sentence frames, normal findings and habits of writing, two hospitals.

Read from `knowledge/<language>/_wording.yaml`; no word of any language stands in the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from label_config.errors import DataError
from simulator.phrase import Bank, Phrase, Value, stems_of, words

FLAGS = frozenset(words("child adult old male female known resolved hours days weeks months years"))
"""What `unless` may name beside words: age, sex, an earlier disease, and how it began."""
SECTION_KEYS = ("complaint", "history", "past", "personal", "family", "signs", "tests", "course")
FRAME_KEYS = words(
    "complaint opening accompanied denied told_primary told told_factor also treated ruled_out "
    "planned differential resolved known known_bare takes lives_with denials family family_none "
    "test imaging signs named_finding course_day course_same treated_on course_named "
    "admitted_before"
)
"""Every sentence that the section writers ask for; each needs frames for A and for B."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A sentence with open slots: literals and slot names in turn, literal first and last."""

    parts: tuple[str, ...]
    short: tuple[str, ...]
    """The same sentence in abbreviations."""


@dataclass(frozen=True, slots=True)
class Filler:
    """A whole sentence without evidence, left out when one of `unless` was said."""

    frame: Frame
    unless: frozenset[str]
    """Stems, and flags such as "#child" or "#codei63"."""
    topic: str = ""
    """Of one topic only one sentence is written."""


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal finding, left out when one of `unless` was said."""

    phrase: Phrase
    unless: frozenset[str]


@dataclass(frozen=True, slots=True)
class Denial:
    """A disease that history boilerplate denies by routine."""

    name: Phrase
    rate: float
    """Share of all records that deny it."""
    codes: tuple[str, ...]
    """Whoever has a code that begins so is not made to deny it."""


@dataclass(frozen=True)
class Wording:
    """Everything a language needs beside the diseases."""

    unit: str
    """"words" or "characters": what section budgets count."""
    sections: Mapping[str, str]
    """Key -> the section's name as the EMR shows it."""
    comma: str
    last: str
    """Joins the last two of a list."""
    either: str
    """Joins the last two of a list of what is absent."""
    space: str
    """Between sentences."""
    stop: str
    label: str
    """Between a test's or method's name and what follows."""
    clause: tuple[str, str]
    """Between the findings of an examination, and before the last of them."""
    people: Mapping[str, Mapping[str, str]]
    """Sex -> {he, his, him, person}."""
    durations: Mapping[str, tuple[int, int, Phrase]]
    relatives: Mapping[str, Phrase]
    """Sex -> relatives of that sex; "elder_female" and so on -> those of an older generation."""
    frames: Mapping[Bank, Mapping[str, tuple[Frame, ...]]]
    fillers: Mapping[Bank, Mapping[str, tuple[Filler, ...]]]
    """Section key -> fillers; personal ones under "personal_adult" and so on."""
    normal_signs: Mapping[str, tuple[Normal, ...]]
    """Body system -> normal findings."""
    vitals: Mapping[str, tuple[Phrase, Value]]
    vitals_child: Mapping[str, Value]
    """Those that differ in children."""
    panel: Mapping[Phrase, Mapping[Phrase, Value]]
    """Group -> test -> its values in health."""
    panel_child: Mapping[str, Value]
    """Tests whose values differ in children."""
    panel_adult: frozenset[str]
    """Groups that nobody measures in children."""
    normal_imaging: Mapping[str, tuple[Normal, ...]]
    denials: tuple[Denial, ...]
    personal: Mapping[str, tuple[Normal, ...]]
    """Habit -> what is written when there is nothing to tell."""
    high: tuple[str, ...]
    low: tuple[str, ...]
    doubt: tuple[str, ...]
    """Marks before or after an uncertain name, "{name}" where it stands."""
    slips: Mapping[str, str]
    """Words as they are often mistyped; where empty, two letters of a word change places."""
    alike: Mapping[str, str] = field(default_factory=dict)
    """Stem -> the stem that stands for all that mean the same; see `consistency`."""
    telling: frozenset[str] = frozenset()
    """Those of them that contradict each other wherever they stand."""
    refers: tuple[str, ...] = ()
    """Words that point back to what was said: a phrase with one cannot stand by itself."""
    unlikely: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Flag, or "always" -> stems that no complaint without a code of its own may hold."""
    withheld: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Flag -> stems of the medicines that such patients are not given."""
    implies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Vital sign -> stems of what a patient has in whom it is not normal."""


def load_wording(path: Path) -> Wording:
    """Read a wording file. Raises DataError that names what is missing."""
    if not path.is_file():
        raise DataError(f"no wording file at {path}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        raw: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise DataError(f"{path.name} line {line}: {error.problem}") from None
    where = path.name
    try:
        return _wording(raw, where)
    except KeyError as error:
        raise DataError(f"{where} needs {error.args[0]}") from None


def _wording(raw: dict[str, Any], where: str) -> Wording:
    short = {str(k): str(v) for k, v in (raw["abbreviations"] or {}).items()}
    sections = {key: raw["sections"][key] for key in SECTION_KEYS}
    join = raw["join"]
    return Wording(
        unit=raw["unit"],
        sections=sections,
        comma=join["comma"],
        last=join["last"],
        either=join["or"],
        space=join["space"],
        stop=join["stop"],
        label=join["label"],
        clause=(join.get("clause", join["comma"]), join.get("clause", join["last"])),
        people=raw["people"],
        durations={
            unit: (low, high, Phrase.parse(text, f"{where} durations"))
            for unit, (low, high, text) in raw["durations"].items()
        },
        relatives={s: Phrase.parse(t, f"{where} relatives") for s, t in raw["relatives"].items()},
        frames={bank: _frames(raw["frames"], bank, short, where) for bank in ("A", "B")},
        fillers={bank: _fillers(raw["fillers"], bank, short) for bank in ("A", "B")},
        normal_signs={key: _normals(rows, where) for key, rows in raw["normal_signs"].items()},
        vitals={
            key: (Phrase.parse(name, where), Value.parse(value, f"{where} vitals {key}"))
            for key, (name, value) in raw["vitals"].items()
        },
        vitals_child={
            key: Value.parse(value, f"{where} vitals_child {key}")
            for key, value in raw.get("vitals_child", {}).items()
        },
        panel={
            Phrase.parse(group, where): {
                Phrase.parse(n, where): Value.parse(v, f"{where} panel {n}")
                for n, v in tests.items()
            }
            for group, tests in raw["panel"].items()
        },
        panel_child={
            test: Value.parse(value, f"{where} panel_child {test}")
            for test, value in raw.get("panel_child", {}).items()
        },
        panel_adult=frozenset(raw.get("panel_adult", ())),
        normal_imaging={k: _normals(rows, where) for k, rows in raw["normal_imaging"].items()},
        denials=tuple(
            Denial(Phrase.parse(d["name"], where), float(d["rate"]), tuple(d["codes"]))
            for d in raw["denials"]
        ),
        personal={key: _normals(rows, where) for key, rows in raw["personal"].items()},
        high=tuple(raw["marks"]["high"]),
        low=tuple(raw["marks"]["low"]),
        doubt=tuple(raw["marks"]["doubt"]),
        slips={str(k): str(v) for k, v in raw.get("slips", {}).items()},
        alike=_alike((*raw.get("alike", ()), *raw.get("alike_in_place", ()))),
        telling=frozenset(_alike(raw.get("alike", ())).values()),
        refers=tuple(raw.get("refers", ())),
        unlikely={flag: stems_of(text) for flag, text in raw.get("unlikely", {}).items()},
        withheld={flag: stems_of(text) for flag, text in raw.get("withheld", {}).items()},
        implies={
            key: tuple(sorted(stems_of(text))) for key, text in raw.get("implies", {}).items()
        },
    )


def _frames(
    raw: Mapping[str, Mapping[str, list[str]]], bank: Bank, short: Mapping[str, str], where: str
) -> dict[str, tuple[Frame, ...]]:
    frames = {}
    for key in FRAME_KEYS:
        if not raw[key].get(bank):
            raise DataError(f"{where} needs frames {key} for hospital {bank}")
        frames[key] = tuple(_frame(text, short) for text in raw[key][bank])
    return frames


def _fillers(
    raw: Mapping[str, Mapping[str, list[Any]]], bank: Bank, short: Mapping[str, str]
) -> dict[str, tuple[Filler, ...]]:
    fillers = {}
    for key, banks in raw.items():
        entries = [e if isinstance(e, dict) else {"say": e} for e in banks.get(bank, ())]
        fillers[key] = tuple(
            Filler(
                _frame(entry["say"], short),
                unless_of(entry.get("unless", "")),
                entry.get("topic", ""),
            )
            for entry in entries
        )
    return fillers


def _normals(rows: list[Any], where: str) -> tuple[Normal, ...]:
    entries = [row if isinstance(row, dict) else {"say": row} for row in rows]
    return tuple(
        Normal(Phrase.parse(entry["say"], where), unless_of(entry.get("unless", "")))
        for entry in entries
    )


def unless_of(text: str) -> frozenset[str]:
    """What a sentence must not stand beside: stems of words said, and flags of the patient.

    Flags are "#" and one of FLAGS, "#code" and the beginning of a code at hand, or "#main" and
    the beginning of the principal one.
    """
    found: set[str] = set()
    for word in text.lower().split():
        flag = word in FLAGS or word.startswith(("code", "main"))
        found |= {f"#{word}"} if flag else stems_of(word)
    return frozenset(found)


def _alike(groups: Iterable[str]) -> dict[str, str]:
    """Stem -> the stem that stands for all that mean the same."""
    found: dict[str, str] = {}
    for group in groups:
        stems = [stem for word in group.split() for stem in stems_of(word)]
        found.update(dict.fromkeys(stems[1:], stems[0]))
    return found


def _frame(text: str, short: Mapping[str, str]) -> Frame:
    abbreviated = text
    for long, brief in short.items():
        whole = rf"(?<!\w){re.escape(long)}(?!\w)" if long.isascii() else re.escape(long)
        abbreviated = re.sub(whole, brief, abbreviated)
    return Frame(_cut(text), _cut(abbreviated))


def _cut(text: str) -> tuple[str, ...]:
    return tuple(re.split(r"\{(\w+)\}", text))
