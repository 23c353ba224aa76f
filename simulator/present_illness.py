"""Chief complaint and present illness: the principal disease, what else is active, the course."""

from __future__ import annotations

from collections.abc import Set
from random import Random

from simulator.patient import EPISODES
from simulator.phrase import Phrase, pick
from simulator.telling import Rates, bearable, pad, say
from simulator.visit import FAMILY_SCORE, Story, Visit
from simulator.writer import Bit, Either, SectionWriter

FACTORS = "Z"
"""Chapters of circumstances, which are not found or suspected like diseases."""
STRAYS = 6
"""At most so many stray findings a record."""


def duration(visit: Visit, unit: str, rng: Random, years: int | None = None) -> str:
    """How long the complaint has lasted; no other number of years than it has been known for."""
    low, high, phrase = visit.wording.durations[unit]
    number = low + int(rng.random() * (high - low + 1))
    if unit == "years" and years is not None:
        number = years
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
    """History of present illness: the principal disease, then whatever else is active.

    `end_history` goes on, once it is known what the other sections tell.
    """
    rng, principal = visit.rng, visit.stories[0]
    opening = Bit(visit.fill(complaint, rng), principal.code, FAMILY_SCORE)
    say(writer, visit, "opening", rng, complaint=opening, duration=lasted)
    pad(writer, visit, "history_onset", int(size * 0.15), rng)
    found = visit.findings(principal, rng, 2, leaf=0.25)
    if found:
        say(writer, visit, "accompanied", rng, items=found)
    if principal.name and not principal.condition.known:
        key = "told_factor" if principal.code[0] in FACTORS else "told_primary"
        say(writer, visit, key, rng, name=_doubtful(principal, visit, rates, rng))
    if principal.code[0] not in EPISODES and rng.random() < 0.5:
        drugs = visit.drugs(principal, rng, 1)
        if drugs:
            say(writer, visit, "treated", rng, drugs=drugs)
    for story in visit.stories[1:]:
        _write_active(writer, visit, story, rates, rng)
    _write_stray(writer, visit, rates, rng)
    _write_negatives(writer, visit, rates, rng)
    suspected = ""
    for key in ("ruled_out", "planned"):
        other = visit.unlinked(rng) if rng.random() < getattr(rates, key) else None
        if other is not None and other.family.id != suspected:
            suspected = other.family.id
            frames = key if rng.random() < 0.7 else "differential"
            say(writer, visit, frames, rng, name=visit.name(other, rng))


def end_history(writer: SectionWriter, visit: Visit, size: int, shown: Set[str]) -> None:
    """What nothing else in the record speaks of, then the course up to admission.

    `shown`: codes with evidence somewhere.
    """
    rng = visit.rng
    for story in visit.stories:
        if story.code not in shown:
            items = visit.findings(story, rng, 1, leaf=0.25)
            drugs = [] if items else visit.drugs(story, rng, 1)
            if items or drugs:
                say(
                    writer,
                    visit,
                    "also" if items else "takes",
                    rng,
                    items=items,
                    drugs=drugs,
                    years=str(story.years),
                )
    pad(writer, visit, "history_course", int(size * 0.85), rng)
    pad(writer, visit, "history_state", size, rng)
    pad(writer, visit, "history_end", writer.size + 1, rng)


def _write_active(
    writer: SectionWriter, visit: Visit, story: Story, rates: Rates, rng: Random
) -> None:
    """A further condition; one that was known before says little here."""
    if story.condition.known:
        if rng.random() < 0.2:
            _also(writer, visit, story, 1, rng)
        return
    if story.name:
        key = "told_factor" if story.code[0] in FACTORS else "told"
        say(writer, visit, key, rng, name=_doubtful(story, visit, rates, rng))
    if rng.random() < (0.2 if story.name else rates.told):
        most = 1 if story.name or rng.random() < 0.7 else 2
        _also(writer, visit, story, most, rng)
    if rng.random() < 0.15:
        drugs = visit.drugs(story, rng, 1)
        if drugs:
            say(writer, visit, "treated", rng, drugs=drugs)


def _also(writer: SectionWriter, visit: Visit, story: Story, most: int, rng: Random) -> None:
    items = visit.findings(story, rng, most, leaf=0.25)
    if items:
        say(writer, visit, "also", rng, items=items)


def _write_stray(writer: SectionWriter, visit: Visit, rates: Rates, rng: Random) -> None:
    """Complaints that end up under no code; nothing measured of what the record may deny."""
    for _ in range(STRAYS):
        other = visit.other(rng) if rng.random() < rates.stray else None
        if other is not None and bearable(other, visit):
            own = rng.random() < 0.25
            symptoms = visit.strays(other, own=own) or visit.strays(other, own=False)
            if any(other.code.startswith(denial.codes) for denial in visit.wording.denials):
                symptoms = [phrase for phrase in symptoms if not phrase.measures]
            stray = visit.bits(symptoms, "", 0.0, rng, 1)
            if stray:
                say(writer, visit, "also", rng, items=stray)


def _doubtful(story: Story, visit: Visit, rates: Rates, rng: Random) -> Bit:
    bit = story.bit()
    if rng.random() >= rates.doubtful:
        return bit
    return Bit(pick(visit.wording.doubt, rng).replace("{name}", bit.text), bit.code, bit.score)


def _write_negatives(writer: SectionWriter, visit: Visit, rates: Rates, rng: Random) -> None:
    """What the patient was asked about and does not have."""
    asked = [s.condition for s in visit.stories[:3] if s.principal or rng.random() < 0.4]
    other = visit.other(rng) if rng.random() < rates.asked else None
    asked += [other] if other else []
    done: list[Phrase] = []
    for condition in asked:
        negatives = [p for p in visit.negatives(condition) if not p.denies(done)]
        while len(negatives) > 3:
            negatives.pop(int(rng.random() * len(negatives)))
        if negatives:
            done += negatives
            items = [Bit(visit.fill(phrase, rng)) for phrase in negatives]
            say(writer, visit, "denied", rng, items=Either(items))
