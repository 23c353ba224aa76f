"""One admission as the section writers see it: who, which conditions, how each is to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from label_config.record import Sex
from simulator.patient import Condition
from simulator.phrase import Bank, Phrase, fill, pick
from simulator.wording import Frame, Wording
from simulator.writer import Bit, Style

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
        return Bit(self.name, self.code, NAME_SCORE)


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
    style: Style
    rng: Random
    """Of this admission."""
    past_rng: Random
    """Of the patient: what it decides is copied forward from admission to admission."""
    words: Mapping[str, str] = field(default_factory=dict)
    said: list[Phrase] = field(default_factory=list)
    """Findings written so far, so that nothing denies them."""
    topics: set[str] = field(default_factory=set)
    """Topics of the fillers written so far."""
    unused: dict[str, list[Frame]] = field(default_factory=dict)
    """Frames of each kind not yet written: none comes again before all have been."""
    flags: frozenset[str] = frozenset()
    """Sex, time of life and how fast it began: fillers may be unfit for some."""

    def frame(self, key: str, rng: Random) -> Frame:
        """A frame of this kind that the record has not used lately."""
        left = self.unused.get(key)
        if not left:
            left = self.unused[key] = list(self.wording.frames[self.bank][key])
        return left.pop(int(rng.random() * len(left)))

    def possible(self) -> list[Phrase]:
        """Whatever the patient's diseases may show: nothing of it is to be denied."""
        found = list(self.said)
        for story in self.stories:
            for shows in (story.condition.family.shows, story.condition.leaf.shows):
                found += shows.complaint
                found += shows.symptoms
            found += story.condition.leaf.names
        return found

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
        self.said.extend(chosen)
        return [Bit(self.fill(phrase, rng), code, score) for phrase in chosen]

    def findings(self, story: Story, rng: Random, most: int, *, leaf: float) -> list[Bit]:
        """Symptoms of the family, and with chance `leaf` those that tell the leaf."""
        shows = story.condition.family.shows.symptoms
        bits = self.bits(shows, story.code, FAMILY_SCORE, rng, most)
        own = story.condition.leaf.shows.symptoms
        if own and rng.random() < leaf:
            bits += self.bits(own, story.code, LEAF_SCORE, rng, 1)
        return bits

    def drugs(self, story: Story, rng: Random, most: int) -> list[Bit]:
        """Medicines the condition is treated with, the leaf's own first."""
        own, shared = story.condition.leaf.shows.drugs, story.condition.family.shows.drugs
        bits = self.bits(own, story.code, LEAF_SCORE, rng, 1) if rng.random() < 0.5 else []
        return bits + self.bits(shared, story.code, FAMILY_SCORE, rng, most - len(bits))

    def other(self, rng: Random) -> Condition | None:
        """A condition that this patient does not have, most often of an organ at hand."""
        if not self.others:
            return None
        other = pick(self.others, rng)
        chapters = {story.code[0] for story in self.stories[:2]}
        for _ in range(6):
            if other.code[0] in chapters or rng.random() < 0.05:
                break
            other = pick(self.others, rng)
        return other

    def other_name(self, rng: Random, *, standard: float = 0.45) -> str | None:
        """Its name."""
        other = self.other(rng)
        return name_of(other, self.bank, rng, standard=standard) if other else None


def name_of(condition: Condition, bank: Bank, rng: Random, *, standard: float) -> str:
    """The standard title, with chance `standard`, or an informal name."""
    if rng.random() < standard:
        return condition.leaf.title
    return pick(condition.leaf.names, rng).wording(bank, rng)
