"""Is a mention denied, the family's, uncertain, or long past? ConText-like rules, kept as data.

After NegEx (Chapman 2001) and ConText (Harkema 2009): a trigger phrase acts on the mentions before
or after it, up to the sentence's end, a terminator, or a set reach.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from label_config.errors import ConfigError
from label_config.record import DIAGNOSIS_SECTION
from training.fold import Folded, fold_name
from training.matcher import Matcher, longest

Context = Literal["affirmed", "listed", "uncertain", "history", "family", "negated"]
CONTEXTS: tuple[Context, ...] = get_args(Context)
"""Of several that hold, the last one counts. "listed": a mention in the diagnosis list."""
RULES = Path(__file__).with_name("context_rules.yaml")
_TRIGGERED: tuple[Context, ...] = ("uncertain", "history", "family", "negated")


@dataclass(frozen=True, slots=True)
class Scope:
    """A stretch of folded text in which a context holds."""

    start: int
    end: int
    context: Context


class ContextRules:
    """Trigger phrases of all languages, ready to search."""

    def __init__(self, rules: dict[str, Any]) -> None:
        """Take what a rules file holds. Raises ConfigError where a part is missing."""
        self._roles: dict[str, set[tuple[Context, str]]] = {}
        self._sections: list[tuple[str, Context]] = []
        self._terminators: set[str] = set()
        try:
            self._reach = (int(rules["reach"]["before"]), int(rules["reach"]["after"]))
            self._sentence_ends = set(rules["sentence_ends"])
            for phrase in _phrases(rules["pseudo"]):
                self._roles.setdefault(phrase, set())
            for phrase in _phrases(rules["terminators"]):
                self._roles.setdefault(phrase, set())
                self._terminators.add(phrase)
            for context in _TRIGGERED:
                for side in ("before", "after"):
                    for phrase in _phrases(rules[context][side]):
                        self._roles.setdefault(phrase, set()).add((context, side))
                for name in rules[context].get("sections", ()):
                    self._sections.append((fold_name(name), context))
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"context rules needed {error} as in {RULES.name}") from None
        self._matcher = Matcher(self._roles)

    @classmethod
    @cache
    def load(cls, path: Path = RULES) -> ContextRules:
        """Read a rules file; the one shipped by default."""
        try:
            return cls(yaml.safe_load(path.read_text("utf-8")))
        except OSError as error:
            raise ConfigError(f"cannot read context rules {path}: {error.strerror}") from None

    def of_section(self, section: str) -> Context:
        """The context that a section's name gives to everything in it."""
        if section == DIAGNOSIS_SECTION:
            return "listed"
        name = fold_name(section)
        found: list[Context] = [context for key, context in self._sections if key in name]
        return max(found, key=CONTEXTS.index, default="affirmed")

    def scopes(self, folded: Folded) -> list[Scope]:
        """Where which context holds, in offsets of the folded text."""
        text = folded.text
        ends = [
            folded.find(i)
            for i, char in enumerate(folded.original)
            if self._ends_sentence(folded.original, i, char)
        ]
        phrases = longest(self._matcher.find(text))
        stops = [m for m in phrases if m.pattern in self._terminators]
        stop_starts, stop_ends = [m.start for m in stops], [m.end for m in stops]
        before, after = self._reach
        found = []
        for match in phrases:
            for context, side in self._roles[match.pattern]:
                if side == "before":
                    limits = (_at_or_after(ends, match.end), _at_or_after(stop_starts, match.end))
                    end = min(match.end + before, *(x for x in limits if x is not None), len(text))
                    found.append(Scope(match.end, end, context))
                else:
                    limits = (_before(ends, match.start), _before(stop_ends, match.start))
                    start = max(match.start - after, *(x for x in limits if x is not None), 0)
                    found.append(Scope(start, match.start, context))
        return found

    def _ends_sentence(self, text: str, i: int, char: str) -> bool:
        """A full stop inside a number or an abbreviation ends nothing."""
        if char not in self._sentence_ends:
            return False
        return char != "." or i + 1 == len(text) or text[i + 1].isspace()


def context_at(scopes: list[Scope], start: int, end: int, base: Context = "affirmed") -> Context:
    """The context of the mention `text[start:end]`; `base` is its section's."""
    held = [s.context for s in scopes if s.start <= start and end <= s.end]
    return max((base, *held), key=CONTEXTS.index)


def _phrases(by_language: dict[str, list[str]]) -> Iterator[str]:
    for phrases in by_language.values():
        for phrase in phrases:
            yield fold_name(phrase) or phrase


def _at_or_after(sorted_positions: list[int], position: int) -> int | None:
    at = bisect_left(sorted_positions, position)
    return sorted_positions[at] if at < len(sorted_positions) else None


def _before(sorted_positions: list[int], position: int) -> int | None:
    at = bisect_left(sorted_positions, position)
    return sorted_positions[at - 1] if at else None
