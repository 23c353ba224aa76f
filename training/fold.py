"""Fold text for matching (case, accents, blanks) with every offset back to the original."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SPACELESS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # Japanese kana
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
    "\uac00-\ud7af"  # Korean, whose particles cling to the noun
)
"""Scripts that put no blank between words, as ranges of a regular expression's class."""

SPACELESS_CHAR = re.compile(f"[{SPACELESS}]")
_DROPPED = "\0"
_TRIMMED = " \t\r\n.,;:()[]{}\"'·。，；：、（）【】"


class _FoldTable(dict[int, str]):
    """One character to one character, so that offsets stay; combining marks fall away."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        if unicodedata.combining(char):
            folded = _DROPPED
        elif char.isspace():
            folded = " "
        else:
            base = "".join(
                c for c in unicodedata.normalize("NFKD", char) if not unicodedata.combining(c)
            ).casefold()
            folded = base if len(base) == 1 else char.lower()
            folded = folded if len(folded) == 1 else char
        self[point] = folded
        return folded


_TABLE = _FoldTable()


@dataclass(frozen=True, slots=True)
class Folded:
    """Folded text; character i of it is code point `origin[i]` of the original."""

    text: str
    origin: npt.NDArray[np.int64] | None
    """None while nothing fell away: i is then i."""
    original: str

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original's offsets of `text[start:end]`, with the accents that fell away."""
        if self.origin is None:
            return start, end
        last = int(self.origin[end - 1])
        after = int(self.origin[end]) if end < len(self.origin) else len(self.original)
        return int(self.origin[start]), last + 1 if self.text[end - 1 : end] == " " else after

    def find(self, start: int) -> int:
        """The first folded character at or after the original's code point `start`."""
        return start if self.origin is None else int(np.searchsorted(self.origin, start))


def fold(text: str) -> Folded:
    """Lower case without accents, runs of blanks as one; works for any script."""
    mapped = text.translate(_TABLE)
    if _DROPPED not in mapped and "  " not in mapped:
        return Folded(mapped, None, text)
    points = np.frombuffer(mapped.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kept = np.flatnonzero(points != 0)
    blank = points[kept] == ord(" ")
    repeated = blank & np.concatenate([[False], blank[:-1]])
    kept = kept[~repeated]
    folded = points[kept].tobytes().decode("utf-32-le", "surrogatepass")
    return Folded(folded, kept, text)


def fold_name(name: str) -> str:
    """A name as the matchers key it: folded, outer blanks and punctuation off."""
    return fold(name).text.strip(" .,;:·。，；：")


def at_word_edge(text: str, index: int) -> bool:
    """True if a word may begin or end between `text[index - 1]` and `text[index]`."""
    if index <= 0 or index >= len(text):
        return True
    before, after = text[index - 1], text[index]
    if not (_is_word(before) and _is_word(after)):
        return True
    return bool(SPACELESS_CHAR.match(before) or SPACELESS_CHAR.match(after))


def whole_words(text: str, start: int, end: int) -> tuple[int, int] | None:
    """`text[start:end]` without outer blanks and punctuation, grown to whole words.

    None where nothing but those is left, or the place lies outside the text.
    """
    end = min(end, len(text))
    while start < end and text[start] in _TRIMMED:
        start += 1
    while end > start and text[end - 1] in _TRIMMED:
        end -= 1
    if start >= end:
        return None
    while not at_word_edge(text, start):
        start -= 1
    while not at_word_edge(text, end):
        end += 1
    return start, end


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M"
