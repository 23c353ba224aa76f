"""A text as a row of word stems with their places, so that "dolores" meets "dolor".

The stemmer only takes off what marks number and gender in Spanish, English and their kin; what it
gets wrong costs little, because the very words are counted beside their stems.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

from training.fold import SPACELESS, Folded, fold

_TOKEN = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
"""A word; one character in scripts that put no blank between words."""
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|[\n。！？；]")
_LINKING = frozenset(
    [
        "de",
        "del",
        "la",
        "el",
        "los",
        "las",
        "en",
        "un",
        "una",
        "al",
        "y",
        "o",
        "a",
        "con",
        "por",
        "se",
        "of",
        "the",
        "an",
        "and",
        "in",
        "with",
        "for",
        "to",
    ]
)
_SHORTEST_STEMMED = 5


def tokens(folded: str) -> list[tuple[str, int, int]]:
    """Words of folded text with their offsets."""
    return [(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(folded)]


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """A folded word without its plural and its gender; words of other scripts stay."""
    if len(word) < _SHORTEST_STEMMED or not (word.isascii() and word.isalpha()):
        return word
    if len(word) > _SHORTEST_STEMMED:
        word = word.removesuffix("es") if word.endswith("es") else word.removesuffix("s")
    return word[:-1] if len(word) >= _SHORTEST_STEMMED and word[-1] in "aeo" else word


@dataclass(frozen=True, slots=True)
class StemText:
    """One text's content words; `starts` and `ends` count in the folded text."""

    folded: Folded
    text: str
    """The stems, one blank between two."""
    words: list[str]
    stems: list[str]
    starts: list[int]
    ends: list[int]
    sentences: list[int]
    """Number of each word's sentence."""
    first: dict[int, int]
    """Offset of a stem's first character in `text` -> its index."""
    last: dict[int, int]
    """Offset after a stem's last character in `text` -> its index."""

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The original's offsets of the words from `first` to `last`."""
        return self.folded.span(self.starts[first], self.ends[last])


def stem_text(text: str) -> StemText:
    """Read a text; linking words ("de", "the") are left out."""
    folded = fold(text)
    kept = [t for t in tokens(folded.text) if t[0] not in _LINKING]
    stops = [folded.find(m.start()) for m in _SENTENCE_END.finditer(text)]
    stems = [stem(word) for word, _, _ in kept]
    first, last, at = {}, {}, 0
    for i, own in enumerate(stems):
        first[at] = i
        last[at + len(own)] = i
        at += len(own) + 1
    return StemText(
        folded,
        " ".join(stems),
        [word for word, _, _ in kept],
        stems,
        [start for _, start, _ in kept],
        [end for _, _, end in kept],
        [bisect_left(stops, start) for _, start, _ in kept],
        first,
        last,
    )


def stem_key(name: str) -> str:
    """A name as `StemText.text` would hold it; empty if it has no content word."""
    return " ".join(stem(w) for w, _, _ in tokens(fold(name).text) if w not in _LINKING)
