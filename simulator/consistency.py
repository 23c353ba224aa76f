"""Consistency: what a record must not deny, because a disease of the patient may show it.

Words are compared as stems; `alike` of the wording merges those that mean the same, and a vital
sign outside its normal range counts as the complaint that it `implies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from simulator.knowledge import Family, Leaf, Signs
from simulator.phrase import Phrase
from simulator.wording import Wording

Meaning = frozenset[str]
"""Stems with synonyms merged."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Whatever one code may show in a record."""

    stems: frozenset[str]
    """Every word of its evidence: what keeps normal findings and fillers out."""
    meaning: Meaning
    """Every word of what the patient feels and the doctor sees."""
    wordings: tuple[Meaning, ...]
    """The same, one set for each way to say one thing."""
    names: Meaning
    """Every word of its names."""


class Consistency:
    """Knows, for every code of a pack, what not to deny; each is worked out once."""

    def __init__(self, wording: Wording) -> None:
        self._wording = wording
        self._facts: dict[str, Facts] = {}
        self._negatives: dict[str, list[tuple[Phrase, tuple[Meaning, ...]]]] = {}
        self._lone: dict[str, tuple[Phrase, ...]] = {}
        self._refers: dict[tuple[str, ...], bool] = {}
        self._meanings: dict[tuple[str, ...], tuple[Meaning, ...]] = {}

    def facts(self, leaf: Leaf) -> Facts:
        """What the leaf may show, by itself or with its family."""
        found = self._facts.get(leaf.code)
        if found is None:
            found = self._facts[leaf.code] = self._gathered(leaf)
        return found

    def negatives(
        self, family: Family, own: Facts, others: Sequence[Facts], said: Sequence[Phrase]
    ) -> list[Phrase]:
        """The family's pertinent negatives that contradict nothing of this patient."""
        if family.id not in self._negatives:
            self._negatives[family.id] = [
                (phrase, self.meanings(phrase)) for phrase in family.shows.negatives
            ]
        told = [meaning for phrase in said for meaning in self.meanings(phrase)]
        present = frozenset().union(own.names, *told, *(facts.meaning for facts in others))
        telling = present & self._wording.telling
        told += own.wordings
        return [
            phrase
            for phrase, meanings in self._negatives[family.id]
            if not any(
                not mine.isdisjoint(telling)
                or any(mine <= facts.meaning for facts in others)
                or any(mine <= words for words in told)
                for mine in meanings
            )
        ]

    def lone_symptoms(self, leaf: Leaf, *, own: bool) -> tuple[Phrase, ...]:
        """Its symptoms, its own or those it shares, that need nothing said before them."""
        key = f"{leaf.code}/{own}"
        if key not in self._lone:
            symptoms = leaf.shows.symptoms if own else leaf.shared.symptoms
            self._lone[key] = tuple(p for p in symptoms if not self.refers(p))
        return self._lone[key]

    def refers(self, phrase: Phrase) -> bool:
        """Whether one of its wordings points back to something."""
        key = (*phrase.a, *phrase.b)
        if key not in self._refers:
            words = self._wording.refers
            self._refers[key] = any(word in text for text in key for word in words)
        return self._refers[key]

    def meanings(self, phrase: Phrase) -> tuple[Meaning, ...]:
        """The meaning of each of the phrase's wordings."""
        key = (*phrase.a, *phrase.b)
        found = self._meanings.get(key)
        if found is None:
            found = self._meanings[key] = tuple(self._meaning(stems) for stems in phrase.wordings)
        return found

    def _gathered(self, leaf: Leaf) -> Facts:
        stems: set[str] = set()
        wordings: list[Meaning] = [self._meaning(name) for n in leaf.names for name in n.wordings]
        for shows in (leaf.shared, leaf.shows):
            for phrase in _felt_and_seen(shows):
                stems |= phrase.stems
                wordings += self.meanings(phrase)
            for phrase in (*shows.past, *(p for ps in shows.risks.values() for p in ps)):
                stems |= phrase.stems
            wordings += self._implied(shows)
        for name in leaf.names:
            stems |= name.stems
        names = frozenset().union(*(self._meaning(name.stems) for name in leaf.names))
        meaning: Meaning = names.union(*wordings)
        return Facts(frozenset(stems), meaning, tuple(dict.fromkeys(wordings)), names)

    def _implied(self, shows: Signs) -> Iterator[Meaning]:
        for key, value in shows.vitals.items():
            healthy = self._wording.vitals[key][1]
            above = healthy.high is not None and value.mean + value.sd > healthy.high
            below = healthy.low is not None and value.mean - value.sd < healthy.low
            if above or below:
                yield from (self._meaning([word]) for word in self._wording.implies.get(key, ()))

    def _meaning(self, stems: Iterable[str]) -> Meaning:
        alike = self._wording.alike
        return frozenset(alike.get(stem, stem) for stem in stems)


def _felt_and_seen(shows: Signs) -> Iterator[Phrase]:
    yield from shows.complaint
    yield from shows.symptoms
    for phrases in shows.signs.values():
        yield from phrases
