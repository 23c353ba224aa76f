"""What short forms stand for: learned from a list of names, where the long form mostly stands too.

"ALD" fits "adrenoleukodystrophy" letter by letter: a letter that begins a word counts 1, one that
begins a part of a word (leuko|dystrophy) 0.9, any other 0.25. The long form that fits best wins,
and one that stands in the same list of names is preferred.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from training.fold import fold_name
from training.names import abbreviations

_TOKEN = re.compile(r"[^\W_]+")
_ROMAN = re.compile(r"[ivx]+[ab]?")
_LINKING = {"of", "the", "and", "in", "with", "for", "to", "a", "an", "de", "del", "la", "el", "y"}
_LETTERS = range(2, 7)
_WORD_START, _PART_START, _INSIDE = 1.0, 0.9, 0.25
_LEAST = 0.75
_IN_POOL, _PER_SIGHTING = 0.15, 0.05
_LEAST_PART = 5
_MOST_SHORT = 1000
"""Short forms learned, the most frequent of a list."""


class Abbreviations:
    """Short form to long forms, both folded."""

    def __init__(self, table: Mapping[str, Sequence[str]] | None = None) -> None:
        """Start with `table`, as kept in `table`."""
        self.table = {short: tuple(long) for short, long in (table or {}).items()}

    @classmethod
    def learn(cls, pool: Iterable[str], known: Iterable[str]) -> Abbreviations:
        """Learn from the names as written in `pool` and the official names in `known`.

        A short form is written with two capitals or more and is no word of an official name.
        """
        official = {fold_name(name): name for name in known}
        vocabulary = {word for name in official for word in _TOKEN.findall(name)}
        written = list(dict.fromkeys(pool))
        shorts = Counter(s for name in written for s in _short_forms(name, vocabulary))
        pooled = {fold_name(n) for n in written if not set(_short_forms(n, vocabulary))}
        table = _initials(official.values(), vocabulary)
        words_of = {name: _words(name) for name in (*pooled, *official)}
        parts = {w for words in words_of.values() for w in words if len(w) >= _LEAST_PART}
        by_letter: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(words_of):
            if words_of[name]:
                by_letter[words_of[name][0][0]].append(name)
        together = "\n".join(sorted(pooled))
        for short, _ in shorts.most_common(_MOST_SHORT):
            in_order = re.compile(".*".join(map(re.escape, short)))
            best, chosen = 0.0, ""
            for name in by_letter[short[0]]:
                if len(words_of[name]) > len(short) or not in_order.match(name):
                    continue
                value = fit(short, words_of[name], parts)
                if value + _IN_POOL < _LEAST:
                    continue
                if name in pooled:
                    value += _IN_POOL + _PER_SIGHTING * math.log(together.count(name))
                if value > best:
                    best, chosen = value, name
            if best >= _LEAST:
                table[short] = (chosen,)
        return cls(table)

    def readings(self, name: str) -> tuple[str, ...]:
        """The folded name, then the name with its short forms written out."""
        key = fold_name(name)
        found = {key: None}
        for token in _TOKEN.findall(key):
            for long in self.table.get(token, ()):
                found.setdefault(re.sub(rf"\b{re.escape(token)}\b", long, key))
        return tuple(found)


def fit(short: str, words: Sequence[str], parts: set[str]) -> float:
    """How well the letters of `short` begin the words, in order: 0 to 1, 0 if one is not there.

    `parts` are words that may end a longer one, so that a letter may begin them inside it.
    """
    if not words or not short or words[0][0] != short[0]:
        return 0.0
    text = " ".join(words)
    worth = [_INSIDE] * len(text)
    at = 0
    for word in words:
        worth[at] = _WORD_START
        for start in range(3, len(word) - _LEAST_PART + 1):
            if word[start:] in parts:
                worth[at + start] = _PART_START
        at += len(word) + 1
    reached = {0: _WORD_START}
    for letter in short[1:]:
        following: dict[int, float] = {}
        for place, value in reached.items():
            for after in range(place + 1, len(text)):
                if text[after] == letter and value + worth[after] > following.get(after, 0.0):
                    following[after] = value + worth[after]
        reached = following
    return max(reached.values(), default=0.0) / len(short) * min(1.0, len(short) / len(words))


def _short_forms(name: str, vocabulary: set[str]) -> list[str]:
    found = []
    for token in _TOKEN.findall(name):
        short = fold_name(token)
        if (
            len(short) in _LETTERS
            and short.isascii()
            and short.isalpha()
            and sum(map(str.isupper, token)) >= 2
            and short not in vocabulary
            and not _ROMAN.fullmatch(short)
        ):
            found.append(short)
    return found


def _initials(names: Iterable[str], vocabulary: set[str]) -> dict[str, tuple[str, ...]]:
    """Initials that only one official name has; they are no word themselves."""
    owners: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for name in names:
        for letters in sorted(abbreviations(name)):
            owners[letters.lower()].setdefault(fold_name(name))
    return {
        short: tuple(long)
        for short, long in owners.items()
        if len(long) == 1 and short not in vocabulary
    }


def _words(name: str) -> list[str]:
    return [w for w in _TOKEN.findall(name) if w not in _LINKING]
