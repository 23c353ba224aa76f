"""How sections tell: sentences with evidence and without, and how often of what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from simulator.patient import Condition
from simulator.visit import Visit
from simulator.wording import Filler
from simulator.writer import SectionWriter, Slot

NO_STRAYS = "F"
"""Chapters whose complaints nobody leaves uncoded."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How often a record speaks of what the patient does not have; measured per record."""

    denials: Mapping[str, float] = field(default_factory=dict)
    """Routine denial -> chance, given that the patient does not have it."""
    inherited: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Family -> chance to stand in the family history (patient has it, has not)."""
    ruled_out: float = 0.44
    """Differentials named and dropped."""
    planned: float = 0.30
    """Diseases still to be looked for."""
    resolved: float = 0.30
    """Earlier diseases, over by now."""
    stray: float = 0.9
    """Findings of diseases that the patient does not have, so that evidence is not proof."""
    asked: float = 0.7
    """Pertinent negatives of a disease that the patient does not have."""
    habit: float = 0.7
    """Habits and exposures that bear on no disease of the patient."""
    medicine: float = 0.8
    """A medicine taken for long without a diagnosis in the record."""
    old_complaint: float = 0.8
    """A complaint of years' standing that ends up under no code."""
    told: float = 0.15
    """Further diseases without a name whose symptoms are told; of the others only the
    examination speaks, if it is there."""
    listed: float = 0.2
    """Known diseases without a name whose medicines are listed."""
    lived_with: float = 0.2
    """Known diseases without a name whose symptoms stand in the past history."""
    doubtful: float = 0.12
    """Share of positive names written with a question mark."""


def say(writer: SectionWriter, visit: Visit, key: str, rng: Random, **slots: Slot) -> None:
    """Write one of the bank's sentences for `key`."""
    writer.say(visit.frame(key, rng), {**visit.words, **slots})


def pad(
    writer: SectionWriter,
    visit: Visit,
    key: str,
    size: int,
    rng: Random,
    fillers: list[Filler] | None = None,
) -> None:
    """Write sentences without evidence until the section has its size or none is left.

    `fillers`: those still unused, from which the ones written are taken; by default all.
    """
    if fillers is None:
        fillers = list(visit.wording.fillers[visit.bank].get(key, ()))
    while writer.size < size and fillers:
        filler = fillers.pop(int(rng.random() * len(fillers)))
        if filler.unless.isdisjoint(visit.stems) and filler.topic not in visit.topics:
            writer.say(filler.frame, visit.words)
            if filler.topic:
                visit.topics.add(filler.topic)


def bearable(other: Condition, visit: Visit) -> bool:
    """Whether a symptom of it may stand in the record with no code to explain it."""
    return other.code[0] not in NO_STRAYS and other.family.id not in visit.linked
