"""Personal and family history: habits, work and relatives, with or without a disease to them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from simulator.phrase import Phrase, pick
from simulator.telling import Rates, pad, say
from simulator.visit import FAMILY_SCORE, LEAF_SCORE, Visit
from simulator.writer import Bit, SectionWriter

KIN = "family_contact"
"""The habit that stands in the family history."""
WORK = "work"
RETIRED = 68.0
"""Years from which a record no longer tells of work."""
ELDERS = 30.0
"""Years up to which only relatives of an older generation have the diseases of adults."""
STRAY_HABITS = 2
"""At most so many habits a record that bear on no disease of the patient."""


def write_personal(writer: SectionWriter, visit: Visit, size: int, rates: Rates) -> None:
    """Personal history: habits that bear on a disease, else the usual lines."""
    rng = visit.past_rng
    told: set[str] = set()
    if visit.young:
        pad(writer, visit, "personal_child", size, rng)
        return
    for story in visit.stories:
        for score, shows in (
            (LEAF_SCORE, story.condition.shows),
            (FAMILY_SCORE, story.condition.shared),
        ):
            for habit, phrases in shows.risks.items():
                fits = habit not in told and habit != KIN and (habit != WORK or visit.age < RETIRED)
                told.add(habit)
                if fits and rng.random() < 0.3:
                    items = visit.bits(phrases, story.code, score, rng, 1)
                    writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": items})
    for _ in range(STRAY_HABITS):
        other = visit.other(rng) if rng.random() < rates.habit else None
        risks = other.shared.risks if other else {}
        habits = tuple(sorted(risks.keys() - told - {KIN, WORK}))
        if habits:
            habit = pick(habits, rng)
            told.add(habit)
            items = visit.bits(risks[habit], "", 0.0, rng, 1)
            writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": items})
    for habit, usual in visit.wording.personal.items():
        said = pick(usual, rng)
        if habit not in told and rng.random() < 0.8 and said.unless.isdisjoint(visit.stems):
            bit = Bit(visit.fill(said.phrase, rng))
            writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": bit})
    if visit.sex == "female" and rng.random() < 0.6:
        pad(writer, visit, "personal_female", writer.size + 1, rng)
    if visit.age >= 24:
        pad(writer, visit, "personal_adult", size, rng)


def write_family(
    writer: SectionWriter, visit: Visit, families: Sequence[tuple[Phrase, float]], rates: Rates
) -> None:
    """Family history: what bears on a disease, and diseases of relatives, not the patient's.

    `families`: name and share of women of each family of `rates.inherited`.
    """
    rng = visit.past_rng
    own = {story.condition.family.id for story in visit.stories}
    wrote = _write_kin(writer, visit, rng)
    for (phrase, female), family_id in zip(families, rates.inherited, strict=True):
        has, has_not = rates.inherited[family_id]
        if rng.random() < (has if family_id in own else has_not):
            drawn = rng.random()
            woman = drawn < 0.5 if 0.0 < female < 1.0 else female == 1.0
            relative = visit.fill(_relatives(visit, "female" if woman else "male"), rng)
            name = visit.fill(phrase, rng)
            say(writer, visit, "family", rng, relative=relative, name=name)
            wrote = True
    if not wrote:
        say(writer, visit, "family_none", rng)


def _relatives(visit: Visit, sex: str) -> Phrase:
    relatives = visit.wording.relatives
    return relatives.get(f"elder_{sex}", relatives[sex]) if visit.age < ELDERS else relatives[sex]


def _write_kin(writer: SectionWriter, visit: Visit, rng: Random) -> bool:
    """What relatives have or pass on that bears on the first disease of which there is any."""
    for story in visit.stories:
        for score, shows in (
            (LEAF_SCORE, story.condition.shows),
            (FAMILY_SCORE, story.condition.shared),
        ):
            phrases = shows.risks.get(KIN)
            if phrases:
                told = rng.random() < 0.3
                if told:
                    items = visit.bits(phrases, story.code, score, rng, 1)
                    writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": items})
                return told
    return False
