"""The history sections: complaint, present illness, past, personal and family history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from simulator.phrase import Phrase, pick, stems_of
from simulator.visit import FAMILY_SCORE, LEAF_SCORE, Story, Visit
from simulator.writer import Bit, Either, SectionWriter, Slot

FACTORS = "Z"
"""Chapters of circumstances, which are not found or suspected like diseases."""
STRAYS = 4
"""At most so many stray findings a record."""
STRAY_DRUGS = "GJKMN"
"""Chapters whose medicines people take without a diagnosis in the record."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How often a record speaks of what the patient does not have; measured per record."""

    denials: Mapping[str, float] = field(default_factory=dict)
    """Routine denial -> chance, given that the patient does not have it."""
    inherited: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Family -> chance to stand in the family history (patient has it, has not)."""
    ruled_out: float = 0.38
    """Differentials named and dropped."""
    planned: float = 0.26
    """Diseases still to be looked for."""
    resolved: float = 0.30
    """Earlier diseases, over by now."""
    stray: float = 0.9
    """Findings of diseases that the patient does not have, so that evidence is not proof."""
    told: float = 0.65
    """Further diseases without a name whose symptoms are told; of the others only the
    examination speaks, if it is there."""
    doubtful: float = 0.12
    """Share of positive names written with a question mark."""


def say(writer: SectionWriter, visit: Visit, key: str, rng: Random, **slots: Slot) -> None:
    """Write one of the bank's sentences for `key`."""
    writer.say(visit.frame(key, rng), {**visit.words, **slots})


def pad(writer: SectionWriter, visit: Visit, key: str, size: int, rng: Random) -> None:
    """Write sentences without evidence until the section has its size or none is left."""
    fillers = list(visit.wording.fillers[visit.bank].get(key, ()))
    stems = visit.flags.union(*(p.stems for p in visit.said))
    while writer.size < size and fillers:
        filler = fillers.pop(int(rng.random() * len(fillers)))
        if not filler.unless & stems and filler.topic not in visit.topics:
            writer.say(filler.frame, visit.words)
            if filler.topic:
                visit.topics.add(filler.topic)


def duration(visit: Visit, unit: str, rng: Random) -> str:
    """How long the complaint has lasted."""
    low, high, phrase = visit.wording.durations[unit]
    number = low + int(rng.random() * (high - low + 1))
    return phrase.wording(visit.bank, rng).replace("{n}", str(number))


def write_complaint(
    writer: SectionWriter, visit: Visit, complaint: Phrase, lasted: str, rng: Random
) -> None:
    """Chief complaint: a dozen words."""
    bit = Bit(visit.fill(complaint, rng), visit.stories[0].code, FAMILY_SCORE)
    frame = pick(visit.wording.frames[visit.bank]["complaint"], rng)
    writer.say(frame, {"complaint": bit, "duration": lasted})


def write_history(
    writer: SectionWriter,
    visit: Visit,
    complaint: Phrase,
    lasted: str,
    size: int,
    rates: Rates,
) -> None:
    """History of present illness: the principal disease, then whatever else is active."""
    rng, principal = visit.rng, visit.stories[0]
    opening = Bit(visit.fill(complaint, rng), principal.code, FAMILY_SCORE)
    say(writer, visit, "opening", rng, complaint=opening, duration=lasted)
    pad(writer, visit, "history_onset", int(size * 0.15), rng)
    say(writer, visit, "accompanied", rng, items=visit.findings(principal, rng, 2, leaf=0.5))
    if principal.name and not principal.condition.known:
        key = "told_factor" if principal.code[0] in FACTORS else "told_primary"
        say(writer, visit, key, rng, name=_doubtful(principal, visit, rates, rng))
    if rng.random() < 0.5:
        drugs = visit.drugs(principal, rng, 1)
        if drugs:
            say(writer, visit, "treated", rng, drugs=drugs)
    for story in visit.stories[1:]:
        _write_active(writer, visit, story, rates, rng)
    _write_stray(writer, visit, rates, rng)
    _write_negatives(writer, visit, rng)
    for key in ("ruled_out", "planned"):
        if rng.random() < getattr(rates, key):
            name = visit.other_name(rng)
            if name:
                frames = key if rng.random() < 0.7 else "differential"
                say(writer, visit, frames, rng, name=name)
    pad(writer, visit, "history_course", int(size * 0.85), rng)
    pad(writer, visit, "history_state", size, rng)
    pad(writer, visit, "history_end", writer.size + 1, rng)


def _write_active(
    writer: SectionWriter, visit: Visit, story: Story, rates: Rates, rng: Random
) -> None:
    """A further condition; one that was known before says little here."""
    if story.condition.known:
        if rng.random() < 0.3:
            say(writer, visit, "also", rng, items=visit.findings(story, rng, 1, leaf=0.3))
        return
    if story.name:
        key = "told_factor" if story.code[0] in FACTORS else "told"
        say(writer, visit, key, rng, name=_doubtful(story, visit, rates, rng))
    if rng.random() < (0.3 if story.name else rates.told):
        most = 1 if story.name or rng.random() < 0.7 else 2
        say(writer, visit, "also", rng, items=visit.findings(story, rng, most, leaf=0.35))
    if rng.random() < 0.25:
        drugs = visit.drugs(story, rng, 1)
        if drugs:
            say(writer, visit, "treated", rng, drugs=drugs)


def _write_stray(writer: SectionWriter, visit: Visit, rates: Rates, rng: Random) -> None:
    """Complaints that end up under no code."""
    for _ in range(STRAYS):
        other = visit.other(rng) if rng.random() < rates.stray else None
        if other is not None:
            own = other.leaf.shows.symptoms if rng.random() < 0.25 else ()
            items = visit.bits(own or other.family.shows.symptoms, "", 0.0, rng, 1)
            say(writer, visit, "also", rng, items=items)


def _doubtful(story: Story, visit: Visit, rates: Rates, rng: Random) -> Bit:
    bit = story.bit()
    if rng.random() >= rates.doubtful:
        return bit
    return Bit(pick(visit.wording.doubt, rng).replace("{name}", bit.text), bit.code, bit.score)


def _write_negatives(writer: SectionWriter, visit: Visit, rng: Random) -> None:
    possible = visit.possible()
    for story in visit.stories[:3]:
        negatives = [p for p in story.condition.family.shows.negatives if not p.denies(possible)]
        while len(negatives) > 3:
            negatives.pop(int(rng.random() * len(negatives)))
        if negatives and (story.principal or rng.random() < 0.4):
            items = [Bit(visit.fill(phrase, rng)) for phrase in negatives]
            say(writer, visit, "denied", rng, items=Either(items))


def write_past(writer: SectionWriter, visit: Visit, size: int, rates: Rates) -> None:
    """Past history; decided by the patient's own draws, so that admissions copy it forward."""
    rng = visit.past_rng
    for story in visit.stories:
        if story.condition.known:
            _write_known(writer, visit, story)
        own = story.condition.leaf.shows.past
        if own and rng.random() < 0.5:
            items = visit.bits(own, story.code, LEAF_SCORE, rng, 1)
            writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": items})
        elif rng.random() < 0.4:
            shared = visit.bits(story.condition.family.shows.past, story.code, FAMILY_SCORE, rng, 1)
            if shared:
                writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": shared})
    other = visit.other(rng) if rng.random() < rates.stray else None
    if other is not None and other.family.chronic and other.code[0] in STRAY_DRUGS:
        drugs = visit.bits(other.family.shows.drugs, "", 0.0, rng, 1)
        say(writer, visit, "takes", rng, drugs=drugs, years="2")
    _write_denials(writer, visit, rates, rng)
    if visit.age >= 20 and rng.random() < rates.resolved:
        name = visit.other_name(rng)
        years = str(2 + int(rng.random() * min(20, visit.age - 18)))
        if name:
            say(writer, visit, "resolved", rng, name=name, years=years)
            visit.flags |= stems_of("resolved")
    pad(writer, visit, "past", size, rng)


def _write_known(writer: SectionWriter, visit: Visit, story: Story) -> None:
    """A disease from before, in the same words at every admission."""
    rng, frames = story.rng, visit.wording.frames[visit.bank]
    years = str(story.years)
    slots: dict[str, Slot] = {**visit.words, "years": years}
    slots["drugs"] = visit.drugs(story, rng, 1 if rng.random() < 0.6 else 2)
    if story.name:
        writer.say(pick(frames["known"], rng), {**slots, "name": story.bit()})
        return
    writer.say(pick(frames["takes"], rng), slots)
    if rng.random() < 0.6:
        items = visit.findings(story, rng, 1, leaf=0.35)
        writer.say(pick(frames["lives_with"], rng), {**slots, "items": items})


def _write_denials(writer: SectionWriter, visit: Visit, rates: Rates, rng: Random) -> None:
    items = []
    for denial in visit.wording.denials:
        chance = rates.denials.get(denial.name.a[0], denial.rate)
        drawn = rng.random() < chance
        if drawn and not any(story.code.startswith(denial.codes) for story in visit.stories):
            items.append(Bit(visit.fill(denial.name, rng)))
    if items:
        say(writer, visit, "denials", rng, items=Either(items))


def write_personal(writer: SectionWriter, visit: Visit, size: int) -> None:
    """Personal history: habits that bear on a disease, else the usual lines."""
    rng = visit.past_rng
    told: set[str] = set()
    if visit.age < 16:
        pad(writer, visit, "personal_child", size, rng)
        return
    for story in visit.stories:
        for score, shows in (
            (LEAF_SCORE, story.condition.leaf.shows),
            (FAMILY_SCORE, story.condition.family.shows),
        ):
            for habit, phrases in shows.risks.items():
                if habit not in told and rng.random() < 0.55:
                    told.add(habit)
                    items = visit.bits(phrases, story.code, score, rng, 1)
                    writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": items})
    for habit, phrases in visit.wording.personal.items():
        if habit not in told and rng.random() < 0.8:
            said = Bit(visit.fill(pick(phrases, rng), rng))
            writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": said})
    if visit.sex == "female" and rng.random() < 0.6:
        pad(writer, visit, "personal_female", writer.size + 1, rng)
    if visit.age >= 24:
        pad(writer, visit, "personal_adult", size, rng)


def write_family(
    writer: SectionWriter, visit: Visit, families: Sequence[Phrase], rates: Rates
) -> None:
    """Family history: diseases of relatives, which are not the patient's."""
    rng = visit.past_rng
    own = {story.condition.family.id for story in visit.stories}
    wrote = False
    for phrase, family_id in zip(families, rates.inherited, strict=True):
        has, has_not = rates.inherited[family_id]
        if rng.random() < (has if family_id in own else has_not):
            relatives = visit.wording.relatives["female" if rng.random() < 0.5 else "male"]
            relative = visit.fill(relatives, rng)
            name = visit.fill(phrase, rng)
            say(writer, visit, "family", rng, relative=relative, name=name)
            wrote = True
    if not wrote or rng.random() < 0.3:
        say(writer, visit, "family_none", rng)
