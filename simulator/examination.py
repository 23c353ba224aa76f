"""The examination sections: specialist condition, auxiliary examination and course notes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random

from simulator.knowledge import VITALS, Signs
from simulator.phrase import Phrase, Value, pick
from simulator.telling import pad, say
from simulator.visit import CHILD, FAMILY_SCORE, LEAF_SCORE, Story, Visit
from simulator.wording import Filler
from simulator.writer import Bit, Findings, SectionWriter

SELDOM = 0.6
FEW = 10
"""With fewer routine sentences left, a course note starts over."""
MOST_DIASTOLIC = 0.8
"""Of the systolic pressure."""


def write_signs(writer: SectionWriter, visit: Visit, size: int) -> None:
    """Specialist condition: vital signs, the diseases' signs, and normal findings elsewhere."""
    rng, frame = visit.rng, visit.wording.frames[visit.bank]["signs"][0]
    _write_vitals(writer, visit, rng)
    shown: list[list[Bit]] = []
    owner: set[str] = set()
    """Body systems that a disease speaks for; a leaf's signs replace its family's."""
    for story in visit.stories:
        chance = 0.8 if story.principal else 0.2
        for score, shows in _shows(story):
            for system, phrases in shows.signs.items():
                if not story.principal:
                    phrases = tuple(p for p in phrases if not visit.consistency.refers(p))
                if phrases and system not in owner:
                    owner.add(system)
                    if rng.random() < chance * _told(score):
                        shown.append(visit.bits(phrases, story.code, score, rng, 1))
    normal = [
        finding
        for system, findings in visit.wording.normal_signs.items()
        if system not in owner
        for finding in findings
    ]
    before = int(len(normal) * 0.4)
    for position, finding in enumerate(normal):
        if position == before:
            _write_all(writer, visit, shown)
            shown = []
        if (
            writer.size < size
            and finding.unless.isdisjoint(visit.stems)
            and not finding.phrase.denies(visit.said)
        ):
            writer.say(frame, {"items": Bit(visit.fill(finding.phrase, rng))})
    _write_all(writer, visit, shown)


def _write_all(writer: SectionWriter, visit: Visit, shown: Sequence[list[Bit]]) -> None:
    for items in shown:
        if visit.style.by_line:
            writer.line()
        writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": items})


def _write_vitals(writer: SectionWriter, visit: Visit, rng: Random) -> None:
    found: dict[str, tuple[Value, str, float]] = {}
    for story in visit.stories:
        eased = story.condition.known and rng.random() >= 0.6
        for score, shows in _shows(story):
            for key, value in shows.vitals.items():
                if key == "weight" and score == LEAF_SCORE:
                    found[key] = value, story.code, score
                elif not eased:
                    found.setdefault(key, (value, story.code, score))
    items: list[Bit] = []
    upper, systolic = Bit(""), 0.0
    for key in VITALS:
        name, healthy = visit.wording.vitals[key]
        if visit.age < CHILD:
            healthy = visit.wording.vitals_child.get(key, healthy)
        if key == "weight" and visit.age < 18:
            continue
        value, code, score = found.get(key, (healthy, "", 0.0))
        drawn = _drawn(value, rng) if code else _within(healthy, rng)
        if key == "diastolic":
            drawn = min(drawn, systolic * MOST_DIASTOLIC)
        if healthy.normal(drawn) and key != "weight":
            code = ""  # it points to nothing
        label, shown = name.wording(visit.bank, rng), healthy.show(drawn)
        if key == "systolic":
            upper, systolic = Bit(f"{label} {shown}/", code, score), drawn
        elif key == "diastolic":
            owner, its_score = (upper.code, upper.score) if upper.code else (code, score)
            items.append(Bit(f"{upper.text}{shown}{_unit(healthy, visit, rng)}", owner, its_score))
        else:
            items.append(Bit(f"{label} {shown}{_unit(healthy, visit, rng)}", code, score))
    writer.say(visit.wording.frames[visit.bank]["signs"][0], {"items": Findings(items)})


def write_tests(writer: SectionWriter, visit: Visit, size: int) -> None:
    """Auxiliary examination: abnormal values and films first, then normal panels."""
    rng = visit.rng
    measured: set[str] = set()
    abnormal = {
        name.a[0]
        for story in visit.stories
        for _, shows in _shows(story)
        for name, value in shows.tests.items()
        if not value.normal(value.mean)
    }
    for story in visit.stories:
        chance = 0.75 if story.principal else 0.18
        items: list[Bit] = []
        for score, shows in _shows(story):
            for name, value in shows.tests.items():
                if name.a[0] in abnormal and value.normal(value.mean):
                    continue
                if name.a[0] not in measured and rng.random() < chance * _told(score):
                    measured.add(name.a[0])
                    items.append(_measured(name, value, story.code, score, visit, rng))
        if items:
            _new_line(writer, visit)
            say(writer, visit, "test", rng, items=Findings(items))
    methods: set[str] = set()
    for story in visit.stories:
        _write_imaging(writer, visit, story, methods, rng)
    _write_normal(writer, visit, measured, methods, size, rng)


def _write_imaging(
    writer: SectionWriter, visit: Visit, story: Story, methods: set[str], rng: Random
) -> None:
    own, shared = story.condition.shows.imaging, story.condition.shared.imaging
    chance = 0.75 if story.principal else 0.18
    for method in dict.fromkeys((*own, *shared)):
        likely = _told(LEAF_SCORE if method in own else FAMILY_SCORE)
        if method in methods or rng.random() >= chance * likely:
            continue
        methods.add(method)
        if method in own:
            items = visit.bits(own[method], story.code, LEAF_SCORE, rng, 1)
        else:
            items = visit.bits(shared[method], story.code, FAMILY_SCORE, rng, 1)
        _new_line(writer, visit)
        date = visit.date(rng)
        say(writer, visit, "imaging", rng, method=method, items=Findings(items), date=date)
        if story.name and method in own and rng.random() < 0.25:
            say(writer, visit, "named_finding", rng, name=story.bit())


def _write_normal(
    writer: SectionWriter,
    visit: Visit,
    measured: set[str],
    methods: set[str],
    size: int,
    rng: Random,
) -> None:
    owned_tests = {
        name.a[0] for story in visit.stories for _, shows in _shows(story) for name in shows.tests
    }
    owned_methods = {
        m for story in visit.stories for _, shows in _shows(story) for m in shows.imaging
    }
    groups: list[tuple[str, Phrase]] = [("panel", group) for group in visit.wording.panel]
    groups += [("imaging", _method(m)) for m in visit.wording.normal_imaging]
    rng.shuffle(groups)
    for kind, group in groups:
        if writer.size >= size:
            return
        if kind == "panel":
            if visit.age < CHILD and group.a[0] in visit.wording.panel_adult:
                continue
            tests = visit.wording.panel[group]
            left = owned_tests - measured
            items = [
                _measured(name, _in_health(name, value, visit), "", 0.0, visit, rng)
                for name, value in tests.items()
                if name.a[0] not in measured
            ]
            if items and left.isdisjoint(name.a[0] for name in tests):
                head = group.wording(visit.bank, rng) + visit.wording.label
                _new_line(writer, visit)
                say(
                    writer,
                    visit,
                    "test",
                    rng,
                    items=Findings([Bit(head + items[0].text), *items[1:]]),
                )
        elif group.a[0] not in owned_methods and group.a[0] not in methods:
            finding = pick(visit.wording.normal_imaging[group.a[0]], rng)
            if not finding.unless.isdisjoint(visit.stems):
                continue
            phrase = finding.phrase
            _new_line(writer, visit)
            say(
                writer,
                visit,
                "imaging",
                rng,
                method=group.a[0],
                items=Bit(visit.fill(phrase, rng)),
                date=visit.date(rng),
            )


def write_course(writer: SectionWriter, visit: Visit, notes: int, size: int) -> None:
    """Course notes: entries of about `size` each that copy the first ones forward."""
    rng, principal = visit.rng, visit.stories[0]
    copied = visit.findings(principal, rng, 2, leaf=0.25)
    treated = visit.drugs(principal, rng, 1)
    named = tuple(story for story in visit.stories if story.name)
    states = visit.wording.fillers[visit.bank]["course_state"]
    fillers: list[Filler] = []
    for note in range(notes):
        if len(fillers) < FEW:
            fillers = list(visit.wording.fillers[visit.bank]["course"])
        if note:
            writer.line()
        start = writer.size
        state = "".join(pick(states, rng).frame.parts)
        say(writer, visit, "course_day", rng, n=str(2 + note * 3), state=state)
        if copied and (note < 2 or rng.random() < 0.5):
            say(writer, visit, "course_same", rng, items=copied)
        if treated and rng.random() < 0.7:
            say(writer, visit, "treated_on", rng, drugs=treated)
        if named and rng.random() < 0.5:
            say(writer, visit, "course_named", rng, name=pick(named, rng).bit())
        pad(writer, visit, "course", start + size, rng, fillers)


@lru_cache(maxsize=1_000)
def _method(name: str) -> Phrase:
    return Phrase.parse(name, "method")


def _told(score: float) -> float:
    """What tells a code from its siblings is looked for less often than what they share."""
    return SELDOM if score == LEAF_SCORE else 1.0


def _shows(story: Story) -> tuple[tuple[float, Signs], tuple[float, Signs]]:
    """What the leaf shows, then what its family shows, each with its evidence score."""
    return (
        (LEAF_SCORE, story.condition.shows),
        (FAMILY_SCORE, story.condition.shared),
    )


def _measured(
    name: Phrase, value: Value, code: str, score: float, visit: Visit, rng: Random
) -> Bit:
    shown = value.show(_drawn(value, rng) if code else _within(value, rng))
    drawn = float(shown)
    mark = ""
    if value.high is not None and drawn > value.high:
        mark = visit.style.high
    elif value.low is not None and drawn < value.low:
        mark = visit.style.low
    text = f"{name.wording(visit.bank, rng)} {shown}{_unit(value, visit, rng)}{mark}"
    return Bit(text, code, score)


def _in_health(name: Phrase, value: Value, visit: Visit) -> Value:
    return visit.wording.panel_child.get(name.a[0], value) if visit.age < CHILD else value


def _drawn(value: Value, rng: Random) -> float:
    """A patient's value; a share of a whole ends at 100 %."""
    drawn = value.draw(rng)
    return min(drawn, 100.0) if value.unit == "%" and value.mean < 100.0 else drawn


def _within(value: Value, rng: Random) -> float:
    drawn = value.draw(rng)
    if value.low is not None:
        drawn = max(value.low, drawn)
    return drawn if value.high is None else min(value.high, drawn)


def _unit(value: Value, visit: Visit, rng: Random) -> str:
    if not value.unit or rng.random() < visit.style.drops_units:
        return ""
    return value.unit if value.unit in "%℃" else visit.wording.space + value.unit


def _new_line(writer: SectionWriter, visit: Visit) -> None:
    if visit.style.by_line:
        writer.line()
