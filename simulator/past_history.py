"""Past history: diseases known before, medicines, old complaints, and what the patient denies."""

from __future__ import annotations

from random import Random

from simulator.patient import EPISODES, Condition
from simulator.phrase import pick
from simulator.telling import Rates, bearable, pad, say
from simulator.visit import FAMILY_SCORE, LEAF_SCORE, Story, Visit
from simulator.writer import Bit, Either, SectionWriter, Slot

GROWN = 25.0
"""Years from which one may have taken a medicine or lived with a complaint for long."""
STRAY_DRUGS = "EGIJKMN"
"""Chapters whose medicines people take without a diagnosis in the record."""


def write_past(writer: SectionWriter, visit: Visit, size: int, rates: Rates) -> None:
    """Past history; decided by the patient's own draws, so that admissions copy it forward."""
    rng = visit.past_rng
    for story in visit.stories:
        if story.condition.known:
            _write_known(writer, visit, story, rates)
        own = story.condition.shows.past
        if own and rng.random() < 0.25:
            items = visit.bits(own, story.code, LEAF_SCORE, rng, 1)
            writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": items})
        elif rng.random() < 0.2:
            shared = visit.bits(story.condition.shared.past, story.code, FAMILY_SCORE, rng, 1)
            if shared:
                writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": shared})
    aged = visit.age >= GROWN and visit.stories[0].code[0] not in EPISODES
    if aged and rng.random() < rates.medicine:
        _write_stray_medicine(writer, visit, rng)
    if aged and rng.random() < rates.old_complaint:
        _write_old_complaint(writer, visit, rng)
    over: Condition | None = None
    if visit.age >= 20 and rng.random() < rates.resolved:
        over = visit.other(rng, over=True)
    _write_denials(writer, visit, rates, rng, over)
    if over is not None:
        years = str(2 + int(rng.random() * min(20, visit.age - 18)))
        say(writer, visit, "resolved", rng, name=visit.name(over, rng), years=years)
        visit.stems.add("#resolved")
        visit.stems.update(*(name.stems for name in over.leaf.names))
    pad(writer, visit, "past", size, rng)


def _write_known(writer: SectionWriter, visit: Visit, story: Story, rates: Rates) -> None:
    """A disease from before, in the same words at every admission."""
    rng, frames = story.rng, visit.wording.frames[visit.bank]
    years = str(story.years)
    slots: dict[str, Slot] = {**visit.words, "years": years}
    drugs = visit.drugs(story, rng, 2 if story.condition.shows.drugs else 1)
    slots["drugs"] = drugs
    if story.name:
        key = "known" if drugs else "known_bare"
        writer.say(pick(frames[key], rng), {**slots, "name": story.bit()})
        return
    if drugs and rng.random() < rates.listed:
        writer.say(pick(frames["takes"], rng), slots)
    if rng.random() < rates.lived_with:
        items = visit.findings(story, rng, 1, leaf=0.25)
        if items:
            writer.say(pick(frames["lives_with"], rng), {**slots, "items": items})


def _write_stray_medicine(writer: SectionWriter, visit: Visit, rng: Random) -> None:
    for _ in range(6):
        other = visit.other(rng)
        if other is None or any(other.code.startswith(d.codes) for d in visit.wording.denials):
            continue
        if other.family.chronic and other.code[0] in STRAY_DRUGS:
            drugs = visit.bits(other.shared.drugs, "", 0.0, rng, 1)
            say(writer, visit, "takes", rng, drugs=drugs, years="2")
            return


def _write_old_complaint(writer: SectionWriter, visit: Visit, rng: Random) -> None:
    other = visit.other(rng)
    if other is not None and other.family.chronic and bearable(other, visit):
        items = visit.bits(visit.strays(other, own=False), "", 0.0, rng, 1)
        if items:
            frame = pick(visit.wording.frames[visit.bank]["lives_with"], rng)
            writer.say(frame, {**visit.words, "items": items})


def _write_denials(
    writer: SectionWriter, visit: Visit, rates: Rates, rng: Random, over: Condition | None
) -> None:
    codes = [story.code for story in visit.stories] + ([over.code] if over else [])
    items = []
    for denial in visit.wording.denials:
        chance = rates.denials.get(denial.name.a[0], denial.rate)
        drawn = rng.random() < chance
        if drawn and not any(code.startswith(denial.codes) for code in codes):
            items.append(Bit(visit.fill(denial.name, rng)))
    if items:
        say(writer, visit, "denials", rng, items=Either(items))
