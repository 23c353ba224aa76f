"""One admission as the section writers see it: who, which conditions, how each is to be told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from label_config.record import Sex
from simulator.consistency import Consistency
from simulator.patient import EPISODES, Condition
from simulator.phrase import Bank, Phrase, fill, pick
from simulator.wording import Frame, Wording
from simulator.writer import Bit, Style

ADULT = 16.0
"""Years from which a record tells habits, work and household."""
CHILD = 15.0
"""Years up to which values and doses are a child's."""
NAME_SCORE = 1.0
"""Evidence that names the code."""
LEAF_SCORE = 0.8
"""Evidence that tells the code from its siblings."""
FAMILY_SCORE = 0.5
"""Evidence that the code shares with its family."""


@dataclass(frozen=True, slots=True)
class Story:
    """A condition and how this record tells it."""

    condition: Condition
    principal: bool
    name: str
    """As the long text names it; empty when it is told by evidence only."""
    name_score: float
    """NAME_SCORE, or FAMILY_SCORE for a name that its whole family bears."""
    years: int
    """How long it has been known."""
    rng: Random
    """Of this patient's condition: what it decides is copied forward from stay to stay."""

    @property
    def code(self) -> str:
        """The gold code."""
        return self.condition.code

    def bit(self) -> Bit:
        """Its name as evidence."""
        return Bit(self.name, self.code, self.name_score)


@dataclass(slots=True)
class Visit:
    """What every section of one record shares."""

    wording: Wording
    bank: Bank
    sex: Sex
    age: float
    stories: Sequence[Story]
    others: tuple[Condition, ...]
    """Codes the patient does not have, of which the record may still speak."""
    linked: frozenset[str]
    """Families that exclude those present, often other forms of one disease: not ruled out."""
    style: Style
    rng: Random
    """Of this admission."""
    past_rng: Random
    """Of the patient: what it decides is copied forward from admission to admission."""
    day: int
    """Of admission, in years of twelve months of 28 days."""
    consistency: Consistency
    stems: set[str]
    """What the diseases may show, what was said, and flags: sentences may be unfit for some."""
    unlikely: frozenset[str] = frozenset()
    """Stems of complaints that this patient would not have without a code for them."""
    withheld: frozenset[str] = frozenset()
    """Stems of medicines that this patient is not given."""
    words: Mapping[str, str] = field(default_factory=dict)
    said: list[Phrase] = field(default_factory=list)
    """Findings written so far, so that nothing denies them."""
    topics: set[str] = field(default_factory=set)
    """Topics of the fillers written so far."""
    unused: dict[str, list[Frame]] = field(default_factory=dict)
    """Frames of each kind not yet written: none comes again before all have been."""

    @property
    def young(self) -> bool:
        """Too young for habits, work and a family of their own."""
        return self.age < ADULT

    def frame(self, key: str, rng: Random) -> Frame:
        """A frame of this kind that the record has not used lately."""
        left = self.unused.get(key)
        if not left:
            left = self.unused[key] = list(self.wording.frames[self.bank][key])
        return left.pop(int(rng.random() * len(left)))

    def negatives(self, condition: Condition) -> list[Phrase]:
        """Pertinent negatives of its family that contradict nothing of this patient."""
        own = self.consistency.facts(condition.leaf)
        others = [
            self.consistency.facts(story.condition.leaf)
            for story in self.stories
            if story.code != condition.code
        ]
        return self.consistency.negatives(condition.family, own, others, self.said)

    def strays(self, other: Condition, *, own: bool) -> list[Phrase]:
        """Symptoms of a condition not present that the patient may mention all the same."""
        symptoms = self.consistency.lone_symptoms(other.leaf, own=own)
        return [p for p in self.fresh(symptoms) if p.stems.isdisjoint(self.unlikely)]

    def fresh(self, phrases: Sequence[Phrase]) -> list[Phrase]:
        """Those that do not repeat what was said."""
        return [phrase for phrase in phrases if not phrase.denies(self.said)]

    def tell(self, phrases: Sequence[Phrase]) -> None:
        """Remember that this was said."""
        self.said.extend(phrases)
        for phrase in phrases:
            self.stems |= phrase.stems

    def fill(self, phrase: Phrase, rng: Random) -> str:
        """The phrase in this hospital's words."""
        return fill(phrase.wording(self.bank, rng), rng, self.words)

    def bits(
        self, phrases: Sequence[Phrase], code: str, score: float, rng: Random, most: int
    ) -> list[Bit]:
        """Up to `most` of the phrases, in random order, as evidence for the code."""
        chosen = list(phrases)
        while len(chosen) > most:
            chosen.pop(int(rng.random() * len(chosen)))
        self.tell(chosen)
        return [Bit(self.fill(phrase, rng), code, score) for phrase in chosen]

    def findings(self, story: Story, rng: Random, most: int, *, leaf: float) -> list[Bit]:
        """Symptoms of the family, and with chance `leaf` those that tell the leaf."""
        bits = self.bits(
            self.fresh(story.condition.shared.symptoms), story.code, FAMILY_SCORE, rng, most
        )
        own = story.condition.shows.symptoms
        if own and rng.random() < leaf:
            bits += self.bits(self.fresh(own), story.code, LEAF_SCORE, rng, 1)
        return bits

    def drugs(self, story: Story, rng: Random, most: int) -> list[Bit]:
        """Medicines the condition is treated with, the leaf's own first."""
        own, shared = story.condition.shows.drugs, story.condition.shared.drugs
        if self.withheld and story.code[0] not in EPISODES:
            own, shared = self._given(own), self._given(shared)
        bits = self.bits(own, story.code, LEAF_SCORE, rng, 1) if rng.random() < 0.5 else []
        for bit in self.bits(shared, story.code, FAMILY_SCORE, rng, most - len(bits)):
            if _head(bit) not in map(_head, bits):
                bits.append(bit)
        if self.age < CHILD <= story.condition.family.age.mean:
            bits = [bit._replace(text=_without_dose(bit.text)) for bit in bits]
        return bits

    def _given(self, drugs: tuple[Phrase, ...]) -> tuple[Phrase, ...]:
        return tuple(drug for drug in drugs if drug.stems.isdisjoint(self.withheld))

    def date(self, rng: Random) -> str:
        """Month and day of a film: within the week of admission."""
        month, day = divmod(self.day + int(rng.random() * 6), 28)
        return f"{1 + month % 12:02d}-{1 + day:02d}"

    def other(self, rng: Random, *, over: bool = False) -> Condition | None:
        """A condition that this patient does not have, most often of an organ at hand.

        `over`: one that can have come and gone without leaving a code.
        """
        chapters = {story.code[0] for story in self.stories[:2]}
        found: Condition | None = None
        for _ in range(8 if self.others else 0):
            other = pick(self.others, rng)
            if over and (not other.family.resolves or other.family.id in self.linked):
                continue
            found = other
            if other.code[0] in chapters or rng.random() < 0.05:
                break
        return found

    def unlinked(self, rng: Random) -> Condition | None:
        """One that is neither there nor another form of what is, so that it can be ruled out.

        It is of a chapter at hand: nobody looks for bad teeth in a chest pain.
        """
        chapters = {story.code[0] for story in self.stories}
        for _ in range(6):
            other = self.other(rng)
            if (
                other is not None
                and other.code[0] in chapters
                and other.family.id not in self.linked
                and other.leaf.principal
            ):
                return other
        return None

    def name(self, other: Condition, rng: Random, *, standard: float = 0.45) -> str:
        """How the record names a condition that the patient does not have."""
        return fill(name_of(other, self.bank, rng, standard=standard), rng, self.words)


@lru_cache(maxsize=10_000)
def _without_dose(drug: str) -> str:
    """The medicine alone: a child's dose is not an adult's."""
    return re.split(r"[\s\d]*\d", drug, maxsplit=1)[0] or drug


def _head(drug: Bit) -> str:
    """Its first word: one medicine is not listed twice in two strengths."""
    return drug.text.partition(" ")[0].lower()


def name_of(condition: Condition, bank: Bank, rng: Random, *, standard: float) -> str:
    """The standard title, with chance `standard`, or an informal name."""
    if rng.random() < standard:
        return condition.leaf.title
    return pick(condition.leaf.names, rng).wording(bank, rng)
