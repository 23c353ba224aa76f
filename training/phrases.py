"""Coders' phrases and codes' names, word by word, and how often each stood for its code.

A phrase is kept by its stems, so that another number, gender, linking word or hyphen is still it.
An entry is a phrase with one of its codes. Counted are EMRs: where the phrase stood, where it stood
for the code (the coder highlighted it, or gave the code and highlighted nothing for it), and where
a highlight is the phrase itself; the first two again per wording, which tells "pains" from "pain".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.context import Context, ContextRules, Scope, context_at
from training.fold import SPACELESS_CHAR, whole_words
from training.matcher import Matcher
from training.names import names_by_code
from training.rows import read_rows, write_rows
from training.stems import StemText, stem_key, stem_text

_SHORTEST = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """One EMR, read once: its texts as stems, and where which context holds."""

    emr: EMR
    names: tuple[str, ...]
    texts: tuple[StemText, ...]
    scopes: tuple[list[Scope], ...]
    bases: tuple[Context, ...]

    def context(self, section: int, first: int, last: int) -> Context:
        """What the words from `first` to `last` are said as."""
        text = self.texts[section]
        start, end = text.starts[first], text.ends[last]
        return context_at(self.scopes[section], start, end, self.bases[section])


def read(emrs: Iterable[EMR], rules: ContextRules | None = None) -> list[Reading]:
    """Read EMRs; the slow part of everything here."""
    rules = rules or ContextRules.load()
    readings = []
    for emr in emrs:
        names = tuple(name for name, _ in emr.texts())
        texts = tuple(stem_text(text) for _, text in emr.texts())
        scopes = tuple(rules.scopes(text.folded) for text in texts)
        bases = tuple(rules.of_section(name) for name in names)
        readings.append(Reading(emr, names, texts, scopes, bases))
    return readings


class Found(NamedTuple):
    """A phrase found: words `first` to `last` of a section's `StemText`."""

    section: int
    first: int
    last: int
    phrase: int
    wording: str


class Vote(NamedTuple):
    """What one EMR says of an entry; `accepted` is the share of its places that stand for the code.

    An empty `wording` means all wordings together.
    """

    entry: int
    wording: str
    accepted: float
    marked: float


class PhraseTable:
    """Phrases, their entries and counts. `learn` takes effect at once."""

    def __init__(self, codes: Sequence[str]) -> None:
        """Start empty."""
        self.codes = tuple(codes)
        self._column = {code: k for k, code in enumerate(self.codes)}
        self._number: dict[str, int] = {}
        self._matcher = Matcher()
        self.keys: list[str] = []
        """Each phrase's stems."""
        self.entries: list[list[int]] = []
        """Each phrase's entries."""
        self.code: list[int] = []
        """Each entry's code, as a column."""
        self.named: list[bool] = []
        """Whether an entry is an official name or synonym."""
        self.seen: list[float] = []
        self.accepted: list[float] = []
        self.marked: list[float] = []
        self.wordings: defaultdict[tuple[int, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        """(entry, wording) -> seen, accepted."""
        self.votes: dict[str, tuple[Vote, ...]] = {}

    @classmethod
    def fit(
        cls,
        readings: Sequence[Reading],
        codings: Sequence[Coding],
        taxonomy: Taxonomy,
        codes: Sequence[str],
        *,
        synonyms: Mapping[str, Iterable[str]] | None = None,
    ) -> PhraseTable:
        """Take the names of `codes` and every phrase in `codings`, which belong to `readings`."""
        table = cls(codes)
        for code, names in names_by_code(taxonomy, codes, synonyms).items():
            for name in names:
                table._teach(stem_key(name), code, named=True)
        for reading, coding in zip(readings, codings, strict=True):
            table._teach_evidence(reading.emr, coding)
        for reading, coding in zip(readings, codings, strict=True):
            table._count(reading, coding)
        return table

    def learn(self, reading: Reading, coding: Coding) -> None:
        """Count an EMR that a coder has finished; a second time replaces the first."""
        self._teach_evidence(reading.emr, coding)
        self._count(reading, coding)

    def find(self, reading: Reading) -> list[Found]:
        """Every phrase in the record, also those inside longer ones."""
        found = []
        for section, text in enumerate(reading.texts):
            for match in self._matcher.find(text.text):
                first, last = text.first.get(match.start), text.last.get(match.end)
                if first is not None and last is not None:
                    wording = " ".join(text.words[first : last + 1])
                    number = self._number[match.pattern]
                    found.append(Found(section, first, last, number, wording))
        return found

    def said_by(self, emr_ids: Iterable[str]) -> dict[tuple[int, str], tuple[float, float, float]]:
        """What some EMRs have voted: (entry, wording) -> seen, accepted, marked."""
        sums: defaultdict[tuple[int, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for emr_id in emr_ids:
            for vote in self.votes.get(emr_id, ()):
                own = sums[vote.entry, vote.wording]
                own[0] += 1.0
                own[1] += vote.accepted
                own[2] += vote.marked
        return {key: (seen, accepted, marked) for key, (seen, accepted, marked) in sums.items()}

    # -- learning -----------------------------------------------------------------------------

    def _teach(self, key: str, code: str, *, named: bool) -> int | None:
        """The entry, made if it is new; None for what no phrase can be."""
        long_enough = len(key) >= _SHORTEST or SPACELESS_CHAR.match(key)
        column = self._column.get(code)
        if column is None or not long_enough or not any(c.isalpha() for c in key):
            return None
        number = self._number.setdefault(key, len(self.keys))
        if number == len(self.keys):
            self.keys.append(key)
            self.entries.append([])
            self._matcher.add([key])
        for entry in self.entries[number]:
            if self.code[entry] == column:
                self.named[entry] |= named
                return entry
        entry = len(self.code)
        self.entries[number].append(entry)
        self.code.append(column)
        self.named.append(named)
        for counts in (self.seen, self.accepted, self.marked):
            counts.append(0.0)
        return entry

    def _teach_evidence(self, emr: EMR, coding: Coding) -> set[int]:
        """The entries that the coder's highlights are."""
        entries = set()
        for span in coding.evidence:
            text = emr.text_of(span.section)
            place = whole_words(text, span.start, span.end)  # a coder may have cut a word short
            if place is not None:
                entries.add(self._teach(stem_key(text[slice(*place)]), span.code, named=False))
        return {entry for entry in entries if entry is not None}

    def _count(self, reading: Reading, coding: Coding) -> None:
        marked = self._teach_evidence(reading.emr, coding)
        places: Counter[tuple[int, str]] = Counter()
        true: Counter[tuple[int, str]] = Counter()
        for found, entry, stands in self.judged(reading, coding):
            for key in ((entry, ""), (entry, found.wording)):
                places[key] += 1
                true[key] += stands
        self._vote(
            reading.emr.emr_id,
            [
                Vote(entry, wording, true[entry, wording] / n, float(entry in marked))
                for (entry, wording), n in places.items()
            ],
        )

    def judged(self, reading: Reading, coding: Coding) -> Iterable[tuple[Found, int, bool]]:
        """Every place with each of its entries, and whether it stands for the code."""
        marks = _marks(reading, coding, self._column)
        given = {self._column[code] for code in coding.codes if code in self._column}
        for found in self.find(reading):
            start, end = reading.texts[found.section].span(found.first, found.last)
            for entry in self.entries[found.phrase]:
                code = self.code[entry]
                spans = marks.get(code)
                if spans is None:
                    yield found, entry, code in given
                else:
                    here = ((s, a, b) for s, a, b in spans if s == found.section)
                    yield found, entry, any(a < end and start < b for _, a, b in here)

    def _vote(self, emr_id: str, votes: Iterable[Vote]) -> None:
        for old in self.votes.pop(emr_id, ()):
            self._add(old, -1.0)
        self.votes[emr_id] = tuple(votes)
        for new in self.votes[emr_id]:
            self._add(new, 1.0)

    def _add(self, vote: Vote, sign: float) -> None:
        if vote.wording:
            counts = self.wordings[vote.entry, vote.wording]
            counts[0] += sign
            counts[1] += sign * vote.accepted
        else:
            self.seen[vote.entry] += sign
            self.accepted[vote.entry] += sign * vote.accepted
            self.marked[vote.entry] += sign * vote.marked

    # -- keeping ------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the entries and every vote as Parquet."""
        phrase_of = {entry: n for n, entries in enumerate(self.entries) for entry in entries}
        entries = [
            (self.keys[phrase_of[e]], self.codes[self.code[e]], self.named[e])
            for e in range(len(self.code))
        ]
        votes = [(emr_id, *vote) for emr_id, votes in self.votes.items() for vote in votes]
        write_rows(folder / "entries.parquet", _ENTRIES, entries)
        write_rows(folder / "votes.parquet", _VOTES, votes)

    @classmethod
    def load(cls, folder: Path, codes: Sequence[str]) -> PhraseTable:
        """Read what `save` wrote."""
        table = cls(codes)
        for row in read_rows(folder / "entries.parquet", _ENTRIES):
            table._teach(row["phrase"], row["code"], named=row["named"])
        votes: dict[str, list[Vote]] = {}
        for row in read_rows(folder / "votes.parquet", _VOTES):
            votes.setdefault(row.pop("emr_id"), []).append(Vote(**row))
        for emr_id, own in votes.items():
            table._vote(emr_id, own)
        return table


def _marks(
    reading: Reading, coding: Coding, column: Mapping[str, int]
) -> dict[int, list[tuple[int, int, int]]]:
    """Column -> the coder's highlights as (section, start, end)."""
    number = {name: i for i, name in enumerate(reading.names)}
    marks: dict[int, list[tuple[int, int, int]]] = {}
    for span in coding.evidence:
        if span.code in column and span.section in number:
            place = (number[span.section], span.start, span.end)
            marks.setdefault(column[span.code], []).append(place)
    return marks


_ENTRIES = pa.schema([("phrase", pa.string()), ("code", pa.string()), ("named", pa.bool_())])
_VOTES = pa.schema(
    [
        ("emr_id", pa.string()),
        ("entry", pa.int64()),
        ("wording", pa.string()),
        ("accepted", pa.float64()),
        ("marked", pa.float64()),
    ]
)
