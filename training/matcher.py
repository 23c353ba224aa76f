"""Find many strings in folded text at once (Aho-Corasick), at word edges only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import ahocorasick

from training.fold import at_word_edge


class Match(NamedTuple):
    """`text[start:end]` is `pattern`; offsets count in the folded text."""

    start: int
    end: int
    pattern: str


class Matcher:
    """Finds the given folded patterns. Grows by `add`; searching it is safe in threads."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns: set[str] = set()
        self._built: ahocorasick.Automaton | None = None
        self.add(patterns)

    def __contains__(self, pattern: object) -> bool:
        return pattern in self._patterns

    def add(self, patterns: Iterable[str]) -> None:
        """Also find these from now on."""
        new = {pattern for pattern in patterns if pattern} - self._patterns
        if new:
            self._patterns |= new
            self._built = None

    def find(self, text: str) -> Iterator[Match]:
        """Every match that begins and ends at a word edge, overlapping ones too."""
        if not self._patterns:
            return
        for last, pattern in self._automaton().iter(text):
            start, end = last + 1 - len(pattern), last + 1
            if at_word_edge(text, start) and at_word_edge(text, end):
                yield Match(start, end, pattern)

    def _automaton(self) -> ahocorasick.Automaton:
        automaton = self._built
        if automaton is None:
            automaton = ahocorasick.Automaton()
            for pattern in sorted(self._patterns):
                automaton.add_word(pattern, pattern)
            automaton.make_automaton()
            self._built = automaton
        return automaton


def longest(matches: Iterable[Match], keep: Callable[[Match], bool] | None = None) -> list[Match]:
    """The longest matches that do not overlap, in reading order; among equals the first wins."""
    taken: list[Match] = []
    occupied: set[int] = set()
    for match in sorted(matches, key=lambda m: (m.start - m.end, m.start)):
        if keep is not None and not keep(match):
            continue
        # a longer match is placed first, so a shorter one that overlaps shares one of its own ends
        if match.start in occupied or match.end - 1 in occupied:
            continue
        occupied.update(range(match.start, match.end))
        taken.append(match)
    return sorted(taken)
