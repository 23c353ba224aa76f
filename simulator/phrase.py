"""Phrases of the pack: two hospitals' wordings ("A | B"), alternatives ("//"), slots ("<3-9>").

Everything that a clinician writes into the YAML files is one of three shapes, parsed here:

    phrase   "leg swelling // swollen ankles | pitting ankle oedema"
    range    "68 ± 12 (40-95)"                       mean ± standard deviation (limits)
    value    "13.5 ± 3.0 ×10^9/L (4.0-10.0)"         ... unit (normal range)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Literal, TypeVar

from label_config.errors import DataError

Bank = Literal["A", "B"]
T = TypeVar("T")

_SLOT = re.compile(r"[<{](?:(\d+)-(\d+)|(years|him|his|he))[>}]")
_NUMBER = r"\d+(?:\.\d+)?"
_RANGE = re.compile(
    rf"^(?P<mean>{_NUMBER})\s*±\s*(?P<sd>{_NUMBER})\s*(?P<unit>[^()]*?)\s*"
    rf"(?:\((?P<low>{_NUMBER})\s*-\s*(?P<high>{_NUMBER})\))?$"
)
_WORD = re.compile(r"[㐀-鿿]+|[^\W\d_㐀-鿿]+")


def words(text: str) -> tuple[str, ...]:
    """A table of words, written as one line."""
    return tuple(text.split())


_STOP = frozenset(
    words("a an and any at by for from her his in into is it of on or the their to up was with")
)
_STEM = 5
"""Letters of a word that count when two phrases are compared: "vomiting" meets "vomited"."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """One thing to say, in the words of hospital A and of hospital B."""

    a: tuple[str, ...]
    b: tuple[str, ...]
    stems: frozenset[str]
    """Word stems over all wordings' heads: what the phrase is about, whoever writes it."""
    wordings: tuple[frozenset[str], ...]
    """Word stems of each wording by itself."""

    @classmethod
    def parse(cls, text: object, where: str) -> Phrase:
        """Read "A1 // A2 | B1"; without a bar both hospitals say the same."""
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where} needs a phrase as text, got {text!r}")
        left, bar, right = text.partition(" | ")
        a = _alternatives(left)
        b = _alternatives(right) if bar else a
        if not a or not b:
            raise DataError(f"{where} needs words on both sides of the bar in {text!r}")
        wordings = tuple(stems_of(wording) for wording in (*a, *(b if bar else ())))
        return cls(a, b, frozenset().union(*wordings), wordings)

    @property
    def measures(self) -> bool:
        """Whether it holds a number."""
        return any(_SLOT.search(text) for text in self.a)

    def wording(self, bank: Bank, rng: Random) -> str:
        """One of the bank's wordings, slots still open."""
        return pick(self.a if bank == "A" else self.b, rng)

    def denies(self, said: Iterable[Phrase]) -> bool:
        """True when "no <this>" would contradict something already said."""
        for other in said:
            if self.stems.isdisjoint(other.stems):
                continue
            for theirs in other.wordings:
                for mine in self.wordings:
                    if mine <= theirs:
                        return True
        return False


@dataclass(frozen=True, slots=True)
class Value:
    """A measured quantity: how it spreads in this disease and what is normal."""

    mean: float
    sd: float
    unit: str
    low: float | None
    high: float | None
    decimals: int

    @classmethod
    def parse(cls, text: object, where: str) -> Value:
        """Read "13.5 ± 3.0 ×10^9/L (4.0-10.0)"; the mean's decimals are the value's decimals."""
        found = _RANGE.match(str(text).strip())
        if found is None:
            raise DataError(f"{where} needs 'mean ± sd unit (low-high)', got {text!r}")
        mean, sd = float(found["mean"]), float(found["sd"])
        if mean - 2 * sd < 0:
            raise DataError(f"{where}: mean - 2 sd must not be negative, got {text!r}")
        low = float(found["low"]) if found["low"] else None
        high = float(found["high"]) if found["high"] else None
        if low is not None and high is not None and low >= high:
            raise DataError(f"{where}: low must be below high, got {text!r}")
        decimals = len(found["mean"].partition(".")[2])
        return cls(mean, sd, found["unit"], low, high, decimals)

    def draw(self, rng: Random) -> float:
        """A value within two standard deviations of the mean."""
        return self.mean + self.sd * max(-2.0, min(2.0, rng.gauss(0.0, 1.0)))

    def normal(self, value: float) -> bool:
        """True if what is shown lies in the normal range; without one everything is normal."""
        value = round(value, self.decimals)
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def show(self, value: float) -> str:
        """The number with this quantity's decimals."""
        return f"{value:.{self.decimals}f}"


@dataclass(frozen=True, slots=True)
class Range:
    """Mean ± sd within hard limits: the ages at which a family is seen."""

    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def parse(cls, text: object, where: str) -> Range:
        """Read "68 ± 12 (40-95)"."""
        found = _RANGE.match(str(text).strip())
        if found is None or found["unit"] or not found["low"]:
            raise DataError(f"{where} needs 'mean ± sd (low-high)', got {text!r}")
        mean, sd, low, high = (float(found[k]) for k in ("mean", "sd", "low", "high"))
        if not low <= mean <= high or sd <= 0:
            raise DataError(f"{where}: the mean must lie within the limits, got {text!r}")
        return cls(mean, sd, low, high)

    def draw(self, rng: Random) -> float:
        """A value within the limits."""
        return max(self.low, min(self.high, rng.gauss(self.mean, self.sd)))


def pick(items: tuple[T, ...], rng: Random) -> T:
    """One item, each as likely; faster than rng.choice."""
    return items[int(rng.random() * len(items))]


def fill(text: str, rng: Random, words: Mapping[str, str]) -> str:
    """Fill a phrase's own slots: <3-9> by a number of that range, <his> by `words`."""
    if "<" not in text and "{" not in text:
        return text
    filled = []
    for literal, low, high, name in slots_of(text):
        filled.append(literal)
        if low is not None:
            filled.append(str(low + int(rng.random() * (high - low + 1))))
        elif name:
            filled.append(words[name])
    return "".join(filled)


@lru_cache(maxsize=100_000)
def slots_of(text: str) -> tuple[tuple[str, int | None, int, str], ...]:
    """Cut a phrase into (literal, low, high, name) pieces; the last piece has no slot."""
    pieces: list[tuple[str, int | None, int, str]] = []
    end = 0
    for found in _SLOT.finditer(text):
        low, high, name = found.groups()
        literal = text[end : found.start()]
        pieces.append((literal, int(low) if low else None, int(high or 0), name or ""))
        end = found.end()
    pieces.append((text[end:], None, 0, ""))
    return tuple(pieces)


@lru_cache(maxsize=100_000)
def stems_of(text: str) -> frozenset[str]:
    """The first letters of every word that carries meaning; of Chinese, every pair of signs."""
    words = _WORD.findall(_SLOT.sub(" ", text).lower())
    return frozenset(stem for word in words if word not in _STOP for stem in _stems(word))


def _stems(word: str) -> tuple[str, ...]:
    if word[0] >= "㐀":  # Chinese sets no space between words, most of which are pairs
        return tuple(word[at : at + 2] for at in range(max(1, len(word) - 1)))
    return (_stem(word),)


def _stem(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return word[:_STEM]


def _alternatives(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(" // ") if part.strip())
