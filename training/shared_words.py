"""What two records have in common, in words: shared content words and an excerpt around them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from label_config.record import EMR
from training.words import WORD

MIN_LETTERS = 3
EXCERPT_CHARACTERS = 160
_FROM_HAN_ON = re.compile("[\u3400-\U0010ffff]")
_SENTENCE = re.compile(r"[^.!?。！？；\n]+[.!?。！？；]?")


def content_words(text: str) -> set[str]:
    """Words that can say what a record is about: 3 letters or more, or two Han characters in a row.

    Numbers are left out: two records with the same pulse are not alike.
    """
    if not _FROM_HAN_ON.search(text):  # several times as fast
        return {word for word in map(str.casefold, WORD.findall(text)) if _says_something(word)}
    words: set[str] = set()
    previous_end, previous = -1, ""
    for match in WORD.finditer(text):
        word = match.group().casefold()
        if _is_han(word):
            if previous_end == match.start() and _is_han(previous):
                words.add(previous + word)
        elif _says_something(word):
            words.add(word)
        previous_end, previous = match.end(), word
    return words


class WordRarity:
    """How telling a word is: its inverse document frequency over the records seen."""

    def __init__(self) -> None:
        self._records = 0
        self._holding: Counter[str] = Counter()

    def add(self, words: Iterable[str]) -> None:
        """Count one record's words."""
        self._records += 1
        self._holding.update(words)

    def remove(self, words: Iterable[str]) -> None:
        """Take one record's words out again."""
        self._records -= 1
        self._holding.subtract(words)

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {"records": self._records, "holding": {w: n for w, n in self._holding.items() if n}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WordRarity:
        """Read what `to_dict` wrote."""
        rarity = cls()
        rarity._records = int(values["records"])
        rarity._holding = Counter({str(w): int(n) for w, n in values["holding"].items()})
        return rarity

    def __getitem__(self, word: str) -> float:
        """0 for a word that every record holds, rising with rarity."""
        return math.log((1 + self._records) / (1 + self._holding[word]))

    def top(self, words: Iterable[str], n: int) -> tuple[str, ...]:
        """The n most telling of `words`, those that say nothing left out; ties by spelling."""
        telling = sorted((-self[word], word) for word in words if self[word] > 0)
        return tuple(word for _, word in telling[:n])


def excerpt(emr: EMR, words: Iterable[str], rarity: WordRarity) -> str:
    """The sentence of the record that holds the most telling of `words`, cut to a line."""
    wanted = set(words)
    best, best_weight = "", -1.0
    for text in emr.sections.values():
        for match in _SENTENCE.finditer(text):
            sentence = match.group().strip()
            low = sentence.casefold()
            # taking a sentence apart is slow, and few hold any of the wanted words
            held = sorted(word for word in wanted if word in low)
            inside = content_words(sentence) if held else ()
            weight = sum(rarity[word] for word in held if word in inside)
            if sentence and weight > best_weight:
                best, best_weight = sentence, weight
    if not best:
        best = emr.diagnosis_text.replace("\n", " ")
    if len(best) > EXCERPT_CHARACTERS:
        best = _cut(best, wanted)
    return best


def _cut(sentence: str, wanted: set[str]) -> str:
    """Keep EXCERPT_CHARACTERS of a long sentence, from a little before its first wanted word."""
    low = sentence.casefold()
    places = [place for word in wanted if (place := low.find(word)) >= 0]
    start = max(0, min(places, default=0) - EXCERPT_CHARACTERS // 4)
    start = min(start, len(sentence) - EXCERPT_CHARACTERS)
    cut = sentence[start : start + EXCERPT_CHARACTERS].strip()
    return ("… " if start else "") + cut + (" …" if start + EXCERPT_CHARACTERS < len(low) else "")


def _says_something(word: str) -> bool:
    return len(word) >= MIN_LETTERS and not word[0].isdigit()


def _is_han(word: str) -> bool:
    return len(word) == 1 and word >= "\u3400"
