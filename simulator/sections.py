"""The history sections: complaint, present illness, past, personal and family history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from random import Random

from simulator.patient import EPISODES, Condition
from simulator.phrase import Phrase, pick
from simulator.visit import FAMILY_SCORE, LEAF_SCORE, Story, Visit
from simulator.wording import Filler
from simulator.writer import Bit, Either, SectionWriter, Slot

KIN = "family_contact"
"""The habit that stands in the family history."""
WORK = "work"
RETIRED = 68.0
"""Years from which a record no longer tells of work."""
GROWN = 25.0
"""Years from which one may have taken a medicine or lived with a complaint for long."""
ELDERS = 30.0
"""Years up to which only relatives of an older generation have the diseases of adults."""
FACTORS = "Z"
"""Chapters of circumstances, which are not found or suspected like diseases."""
STRAYS = 6
"""At most so many stray findings a record."""
STRAY_HABITS = 2
"""At most so many habits a record that bear on no disease of the patient."""
NO_STRAYS = "F"
"""Chapters whose complaints nobody leaves uncoded."""
STRAY_DRUGS = "EGIJKMN"
"""Chapters whose medicines people take without a diagnosis in the record."""


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
        if other is not None and _bearable(other, visit):
            own = rng.random() < 0.25
            symptoms = visit.strays(other, own=own) or visit.strays(other, own=False)
            if any(other.code.startswith(denial.codes) for denial in visit.wording.denials):
                symptoms = [phrase for phrase in symptoms if not phrase.measures]
            stray = visit.bits(symptoms, "", 0.0, rng, 1)
            if stray:
                say(writer, visit, "also", rng, items=stray)


def _bearable(other: Condition, visit: Visit) -> bool:
    """Whether a symptom of it may stand in the record with no code to explain it."""
    return other.code[0] not in NO_STRAYS and other.family.id not in visit.linked


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
    if other is not None and other.family.chronic and _bearable(other, visit):
        items = visit.bits(visit.strays(other, own=False), "", 0.0, rng, 1)
        if items:
            frame = pick(visit.wording.frames[visit.bank]["lives_with"], rng)
            writer.say(frame, {**visit.words, "items": items})


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
