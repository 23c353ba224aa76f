"""Find codes by words: every code of a set by its code, title and synonyms, in milliseconds.

A word of the question may be the beginning of a word of the name; rare words weigh more, and of two
names that hold the question the shorter one comes first.
"""

from __future__ import annotations

import bisect
import math
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from label_config.taxonomy import Taxonomy

_WORD = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*|[^\W\d_a-z]")
MOST_WORDS = 20
MOST_ENDINGS = 200
"""Words of the code set that one word of the question may begin."""


def words_of(text: str) -> list[str]:
    """Words in lower case without accents; a character of Chinese or alike is a word."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in folded if not unicodedata.combining(c))
    return _WORD.findall(text.casefold())


class CodeSearch:
    """An index over the names of a code set."""

    def __init__(self, taxonomy: Taxonomy, codes: Iterable[str] | None = None) -> None:
        """`codes` are those that can be found, by default every most specific code."""
        codes_of: list[str] = []
        lengths = array("i")
        postings: dict[str, array[int]] = {}
        for code in taxonomy.leaves() if codes is None else codes:
            for name in taxonomy.names(code):
                words = set(words_of(f"{code} {name}"))
                for word in words:
                    postings.setdefault(word, array("i")).append(len(codes_of))
                codes_of.append(code)
                lengths.append(len(words))
        self._codes = codes_of
        """The code of each name."""
        self._lengths = np.asarray(lengths, np.int32)
        self._postings = {word: np.asarray(found, np.int32) for word, found in postings.items()}
        self._words = sorted(postings)

    def find(self, question: str, k: int = 5) -> list[tuple[str, float]]:
        """The k best codes, each with the share of the question's weight that its name holds.

        Shares run from 0 to 1; no code is found by less than half.
        """
        scores, total = np.zeros(len(self._codes), np.float32), 0.0
        for word in dict.fromkeys(words_of(question)[:MOST_WORDS]):
            held = np.zeros(len(self._codes), bool)
            for ending in self._beginning(word):
                held[self._postings[ending]] = True
            weight = math.log(1 + len(self._codes) / (1 + int(held.sum())))
            scores[held] += weight
            total += weight
        rows = np.flatnonzero(2 * scores >= total) if total else np.zeros(0, np.int64)
        best: dict[str, float] = {}
        for row in rows[np.lexsort((self._lengths[rows], -scores[rows]))]:
            best.setdefault(self._codes[row], min(float(scores[row]) / total, 1.0))
            if len(best) == k:
                break
        return list(best.items())

    def _beginning(self, word: str) -> Sequence[str]:
        start = bisect.bisect_left(self._words, word)
        if len(word) < 3 and word.isascii():  # a short word begins too many: whole words only
            return [word] if word in self._postings else []
        end = bisect.bisect_left(self._words, word + "\U0010ffff", lo=start)
        return self._words[start : min(end, start + MOST_ENDINGS)]


@lru_cache(maxsize=4)
def search_of(taxonomy: Taxonomy) -> CodeSearch:
    """The index over the most specific codes, built once per code set."""
    return CodeSearch(taxonomy)
