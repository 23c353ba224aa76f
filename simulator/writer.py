"""Writes a section sentence by sentence and keeps count of where every piece of evidence stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import NamedTuple

from label_config.record import EvidenceSpan
from simulator.phrase import pick
from simulator.wording import Frame, Wording


class Bit(NamedTuple):
    """A piece of text for a slot; with a code it is evidence for it."""

    text: str
    code: str = ""
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Either:
    """A list of which nothing is there: joined by "or"."""

    bits: Sequence[Bit]


@dataclass(frozen=True, slots=True)
class Findings:
    """A list of an examination's findings, each a statement or a value of its own."""

    bits: Sequence[Bit]


Slot = str | Bit | Either | Findings | Sequence[Bit]


@dataclass(frozen=True, slots=True)
class Style:
    """How one doctor writes: drawn once per record."""

    abbreviates: float
    """Chance that a sentence uses its short form."""
    typos: float
    """Chance that a sentence has two letters swapped."""
    drops_units: float
    high: str
    low: str
    by_line: bool
    """Findings on lines of their own instead of in one paragraph."""

    @classmethod
    def draw(cls, rng: Random, wording: Wording) -> Style:
        """A doctor's habits."""
        which = rng.random()
        return cls(
            abbreviates=pick((0.02, 0.15, 0.6), rng),
            typos=pick((0.0, 0.01, 0.05), rng),
            drops_units=pick((0.0, 0.05, 0.35), rng),
            high=wording.high[int(which * len(wording.high))],
            low=wording.low[int(which * len(wording.low))],
            by_line=rng.random() < 0.4,
        )


class SectionWriter:
    """The text of one section as it grows, with the spans of its evidence."""

    def __init__(self, section: str, style: Style, rng: Random, wording: Wording) -> None:
        self.section = section
        self.style = style
        self.rng = rng
        self.wording = wording
        self.spans: list[EvidenceSpan] = []
        self.size = 0
        """In the wording's unit: words or characters."""
        self._parts: list[str] = []
        self._length = 0
        self._at_line = False
        self._by_words = wording.unit == "words"

    @property
    def text(self) -> str:
        """What has been written so far."""
        return "".join(self._parts)

    def say(self, frame: Frame, slots: Mapping[str, Slot]) -> None:
        """Write one sentence: the frame with its slots filled."""
        rng, style, wording = self.rng, self.style, self.wording
        parts = frame.short if rng.random() < style.abbreviates else frame.parts
        if rng.random() < style.typos:
            parts = (_misspelt(parts[0], rng, wording.slips), *parts[1:])
        pieces = self._parts
        if self._length and not self._at_line:
            pieces.append(wording.space)
            self._length += len(wording.space)
        self._at_line = False
        if len(parts) == 1:
            sentence = _plain(parts[0], wording.stop)
            pieces.append(sentence)
            self._length += len(sentence)
        else:
            first, is_slot = len(pieces), False
            for part in parts:
                if is_slot:
                    self._fill(slots[part])
                elif part:
                    pieces.append(part)
                    self._length += len(part)
                is_slot = not is_slot
            pieces.append(wording.stop)
            self._length += len(wording.stop)
            sentence = _capitalised("".join(pieces[first:]))
            pieces[first:] = [sentence]
        self.size += sentence.count(" ") + 1 if self._by_words else len(sentence)

    def line(self) -> None:
        """End the line, if anything stands on it."""
        if self._length and not self._at_line:
            self._add("\n")
            self._at_line = True

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _fill(self, slot: Slot) -> None:
        if isinstance(slot, Bit):
            self._bit(slot)
        elif isinstance(slot, str):
            self._add(slot)
        elif isinstance(slot, Either):
            self._list(slot.bits, self.wording.comma, self.wording.either)
        elif isinstance(slot, Findings):
            self._list(slot.bits, *self.wording.clause)
        else:
            self._list(slot, self.wording.comma, self.wording.last)

    def _list(self, bits: Sequence[Bit], comma: str, joint: str) -> None:
        last = len(bits) - 1
        for position, bit in enumerate(bits):
            if position:
                self._add(joint if position == last else comma)
            self._bit(bit)

    def _bit(self, bit: Bit) -> None:
        text, code, score = bit
        start = self._length
        self._parts.append(text)
        self._length = end = start + len(text)
        if code:
            self.spans.append(EvidenceSpan(code, self.section, start, end, score))


@lru_cache(maxsize=20_000)
def _plain(text: str, stop: str) -> str:
    return _capitalised(text + stop)


def _capitalised(sentence: str) -> str:
    """A capital first letter, unless it stands in a name such as "pH" or "eGFR"."""
    head = sentence[:1]
    if head.isascii() and head.islower() and not sentence[1:2].isupper():
        return head.upper() + sentence[1:]
    return sentence


def _misspelt(text: str, rng: Random, slips: Mapping[str, str]) -> str:
    """Mistype one word as people do; without `slips`, swap two neighbouring letters inside it."""
    if slips:
        found = tuple(word for word in slips if word in text)
        word = pick(found, rng) if found else None
        return text.replace(word, slips[word], 1) if word else text
    if len(text) < 6:
        return text
    at = 1 + int(rng.random() * (len(text) - 3))
    pair = text[at : at + 2]
    if not pair.isalpha():
        return text
    return text[:at] + pair[::-1] + text[at + 2 :]
