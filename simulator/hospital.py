"""Stand-in hospital: EMRs with gold codes and evidence, each a pure function of (seed, index)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from label_config.errors import ConfigError, UnknownCode
from label_config.record import EMR, Coding, Diagnosis, EvidenceSpan, Sex
from simulator.consistency import Consistency
from simulator.examination import write_course, write_signs, write_tests
from simulator.knowledge import Family, Pack
from simulator.past_history import write_past
from simulator.patient import EPISODES, Condition, Patient, Population, visit_of
from simulator.personal_history import write_family, write_personal
from simulator.phrase import Bank, fill, pick
from simulator.present_illness import duration, end_history, write_complaint, write_history
from simulator.telling import Rates
from simulator.visit import ADULT, FAMILY_SCORE, NAME_SCORE, Story, Visit, name_of
from simulator.writer import SectionWriter, Style

CALIBRATION_VISITS = 400
"""Admissions drawn to learn how common the families are, before any text is written."""
WIDE = 60
"""Code sets above this size count as wide."""
MOST_NOTES = 9
FEW_NOTES = 3
"""After births and injuries."""
WORDS_PER_NOTE = 75
LONGEST_NOTE = 120
CALIBRATION_TEXTS = (60, 120, 480)
"""EMRs written, round by round, to learn how far the sentences at hand fall short of the length
wanted."""
HERITABLE = 6.0
"""How many times likelier a disease stands in the family history of those who have it."""
NOT_SUSPECTED = (*"OPSTVWXYZ", "E66", "H52")
"""Beginnings of codes that no differential, resolved disease or stray finding is taken from."""
SHORT = "CZ"
"""Chapters that nobody has lived with for decades, and for how many years at most."""
FEW_YEARS = 4.0


@dataclass(frozen=True, slots=True)
class SimulatedEMR:
    """An EMR with clean diagnosis names, and what only the simulator knows about it."""

    emr: EMR
    gold: Coding


@dataclass(frozen=True)
class Profile:
    """One kind of hospital record: how long it is and which sections it has."""

    name: str
    words: int
    """Mean length of the free text, in up to 60 codes."""
    words_wide: int | None = None
    """Mean length over larger code sets, if it differs."""
    mean_codes: float = 5.0
    with_signs: float = 0.63
    """Share of records with a specialist condition."""
    with_tests: float = 0.47
    """Share with an auxiliary examination."""
    with_course: float = 0.2
    """Share with course notes after the admission note."""
    standard_names: float = 0.62
    """Share of diagnosis entries written as the standard title."""

    def __post_init__(self) -> None:
        if self.words < 200:
            raise ConfigError(f"words must be at least 200, got {self.words}")
        for key in ("with_signs", "with_tests", "with_course", "standard_names"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ConfigError(f"{key} must lie in 0 to 1, got {getattr(self, key)}")


PROFILES = {
    "hph": Profile("hph", words=728),
    "aph": Profile(
        "aph",
        words=1472,
        words_wide=1051,
        with_signs=0.60,
        with_tests=0.74,
        with_course=1.0,
        mean_codes=5.5,
    ),
}
SECTION_SHARE = {
    "history": 0.13,
    "past": 0.06,
    "personal": 0.035,
    "signs": 0.27,
    "tests": 0.40,
}
"""Share of a full record's text to fill; the diseases' own sentences come on top."""


class Hospital:
    """Writes EMRs of one profile over one code set in one hospital's words."""

    def __init__(
        self,
        pack: Pack,
        *,
        profile: Literal["hph", "aph"] = "hph",
        codes: int | Sequence[str] = 50,
        seed: int = 0,
        bank: Bank = "A",
    ) -> None:
        """`codes`: how many of the most frequent, or a list of leaf codes of the pack.

        Raises ConfigError for an unknown profile or too few codes, UnknownCode for a foreign one.
        """
        if profile not in PROFILES:
            raise ConfigError(f"profile must be one of {sorted(PROFILES)}, got {profile!r}")
        self.pack, self.seed, self.bank = pack, seed, bank
        self.profile = PROFILES[profile]
        self.codes = _chosen(pack, codes)
        wide = self.profile.words_wide if len(self.codes) > WIDE else None
        self.words = wide or self.profile.words
        self.population = Population(pack, self.codes, mean_codes=self.profile.mean_codes)
        self._others = [
            Condition(*pack.by_code[code], known=False)
            for code in self.codes
            if not code.startswith(NOT_SUSPECTED)
        ]
        self._others_at: dict[tuple[str, int], tuple[Condition, ...]] = {}
        inherited = [family for family in pack.families if family.inherited]
        self._inherited_names = [(family.common_name, family.female) for family in inherited]
        self._linked = _linked(pack.families)
        self._consistency = Consistency(pack.wording)
        self.rates = self._calibrated()
        self._stretch = 1.0
        self._stretch = self._lengthened()

    def emrs(self, n: int, start: int = 0) -> Iterator[SimulatedEMR]:
        """Yield `n` EMRs from index `start` on; EMR i is the same however it is reached."""
        for index in range(start, start + n):
            yield self.emr(index)

    def emr(self, index: int) -> SimulatedEMR:
        """The EMR of one index."""
        number, earlier = visit_of(index)
        patient = self.population.patient(number, self._rng("patient", number))
        rng = self._rng("visit", index)
        conditions = self.population.admission(patient, earlier, rng)
        visit = self._visit(patient, earlier, conditions, rng)
        sections, spans = self._write(visit, rng)
        diagnoses = tuple(
            Diagnosis(name_of(c, self.bank, rng, standard=self.profile.standard_names))
            for c in conditions
        )
        emr_id = f"{self.profile.name.upper()}-{self.bank}{self.seed}-{index:07d}"
        emr = EMR(
            emr_id=emr_id,
            sections=sections,
            diagnoses=diagnoses,
            patient_id=f"P-{self.bank}{self.seed}-{number:07d}",
            sex=patient.sex,
            age=float(int(visit.age)),
        )
        codes = tuple(c.code for c in conditions)
        return SimulatedEMR(emr, Coding(emr_id, codes, "gold", evidence=tuple(spans)))

    def _visit(
        self, patient: Patient, earlier: int, conditions: list[Condition], rng: Random
    ) -> Visit:
        past_rng = self._rng("past", patient.number)
        age = self.population.age(patient, earlier)
        least = 10 if age > 45 else 2
        years = str(least + int(past_rng.random() * max(1, min(20, age - 20 - least))))
        own = {c.family.id for c in conditions}
        people = self.pack.wording.people[patient.sex]
        words = {**people, "age": str(int(age)), "years": years}
        if age < ADULT and "child" in people:
            words["person"] = people["child"]
        facts = (self._consistency.facts(c.leaf) for c in conditions)
        flags = _flags(patient.sex, age, conditions)
        return Visit(
            wording=self.pack.wording,
            bank=self.bank,
            sex=patient.sex,
            age=age,
            stories=[
                self._story(c, position == 0, patient, earlier, rng)
                for position, c in enumerate(conditions)
            ],
            others=tuple(
                o for o in self._thinkable(patient.sex, int(age)) if o.family.id not in own
            ),
            linked=frozenset().union(*(self._linked[family_id] for family_id in own)),
            style=Style.draw(rng, self.pack.wording),
            rng=rng,
            past_rng=past_rng,
            words=words,
            day=int(rng.random() * 336),
            consistency=self._consistency,
            stems=flags.union(*(f.stems for f in facts)),
            unlikely=_flagged(self.pack.wording.unlikely, flags),
            withheld=_flagged(self.pack.wording.withheld, flags),
        )

    def _thinkable(self, sex: Sex, age: int) -> tuple[Condition, ...]:
        """What one may suspect in, or hear from, a patient of that sex and age."""
        found = self._others_at.get((sex, age))
        if found is None:
            found = self._others_at[sex, age] = tuple(
                other
                for other in self._others
                if other.family.fits(sex, age) and other.family.usual(age)
            )
        return found

    def _story(
        self, condition: Condition, principal: bool, patient: Patient, earlier: int, rng: Random
    ) -> Story:
        if condition.known:
            rng = self._rng(f"known/{condition.code}", patient.number)
        family, drawn = condition.family, rng.random()
        most = FEW_YEARS if condition.code[0] in SHORT else min(20.0, patient.age * 0.3)
        years = 2 + earlier + int(rng.random() * max(1.0, most))
        name, score = "", NAME_SCORE
        if drawn < family.named_standard:
            name = condition.leaf.title
        elif (drawn := drawn - family.named_standard) < family.named_variant:
            name = pick(condition.leaf.names, rng).wording(self.bank, rng)
        elif drawn - family.named_variant < family.named_vague:
            name, score = family.common_name.wording(self.bank, rng), FAMILY_SCORE
        return Story(condition, principal, fill(name, rng, {}), score, years, rng)

    def _write(self, visit: Visit, rng: Random) -> tuple[dict[str, str], list[EvidenceSpan]]:
        profile, wording = self.profile, visit.wording
        scale = max(0.55, min(1.6, rng.gauss(1.0, 0.2)))
        full = self.words * scale * self._stretch / self._mean_share
        size = {key: int(full * share) for key, share in SECTION_SHARE.items()}
        writers = {
            k: SectionWriter(n, visit.style, rng, wording) for k, n in wording.sections.items()
        }
        story = visit.stories[0]
        complaints = story.condition.shared.complaint
        complaint, unit = pick(complaints, rng), pick(story.condition.onset, rng)
        years = story.years if story.condition.known else None
        lasted = duration(visit, unit, rng, years)
        visit.tell([complaint])
        visit.stems.add(f"#{unit}")
        write_complaint(writers["complaint"], visit, complaint, lasted, rng)
        write_history(writers["history"], visit, complaint, lasted, size["history"], self.rates)
        write_past(writers["past"], visit, size["past"], self.rates)
        write_personal(writers["personal"], visit, size["personal"], self.rates)
        write_family(writers["family"], visit, self._inherited_names, self.rates)
        if rng.random() < profile.with_signs:
            write_signs(writers["signs"], visit, size["signs"])
        if rng.random() < profile.with_tests:
            write_tests(writers["tests"], visit, size["tests"])
        shown = {span.code for w in writers.values() for span in w.spans}
        end_history(writers["history"], visit, size["history"], shown)
        if rng.random() < profile.with_course:
            short = self.words * scale * self._stretch - sum(w.size for w in writers.values())
            most = FEW_NOTES if story.code[0] in EPISODES else MOST_NOTES
            notes = max(1, min(most, int(short / WORDS_PER_NOTE)))
            each = max(WORDS_PER_NOTE, min(LONGEST_NOTE, int(short / notes)))
            write_course(writers["course"], visit, notes, each)
        written = [w for w in writers.values() if w.text]
        return {w.section: w.text for w in written}, [s for w in written for s in w.spans]

    @property
    def _mean_share(self) -> float:
        """The part of a full record that is there on average."""
        p = self.profile
        fixed = 0.05 + SECTION_SHARE["history"] + SECTION_SHARE["past"] + SECTION_SHARE["personal"]
        course = p.with_course * SECTION_SHARE["past"]
        return (
            fixed
            + course
            + p.with_signs * SECTION_SHARE["signs"]
            + p.with_tests * SECTION_SHARE["tests"]
        )

    def _calibrated(self) -> Rates:
        """Rates per record turned into chances for those who do not have the disease."""
        counts: Counter[str] = Counter()
        denied: Counter[str] = Counter()
        for index in range(CALIBRATION_VISITS):
            number, earlier = visit_of(index)
            patient = self.population.patient(number, self._rng("patient", number))
            rng = self._rng("visit", index)
            conditions = self.population.admission(patient, earlier, rng)
            counts.update(c.family.id for c in conditions)
            for denial in self.pack.wording.denials:
                denied[denial.name.a[0]] += any(c.code.startswith(denial.codes) for c in conditions)
        share = {key: count / CALIBRATION_VISITS for key, count in counts.items()}
        denials = {}
        for denial in self.pack.wording.denials:
            own = min(0.95, denied[denial.name.a[0]] / CALIBRATION_VISITS)
            denials[denial.name.a[0]] = min(0.99, denial.rate / (1.0 - own))
        inherited = {}
        for family in self.pack.families:
            if family.inherited:
                base = family.inherited / (1.0 + (HERITABLE - 1) * share.get(family.id, 0.0))
                inherited[family.id] = (min(0.9, HERITABLE * base), base)
        return replace(Rates(), denials=denials, inherited=inherited)

    def _lengthened(self) -> float:
        """What to ask for so that texts come out at the profile's mean length."""
        for texts in CALIBRATION_TEXTS:
            sizes = [self._size(self.emr(index).emr) for index in range(texts)]
            mean = sum(sizes) / len(sizes)
            self._stretch = min(4.0, self._stretch * self.words / mean)
        return self._stretch

    def _size(self, emr: EMR) -> int:
        text = emr.long_text
        return len(text.split()) if self.pack.wording.unit == "words" else len(text)

    def _rng(self, what: str, number: int) -> Random:
        return Random(f"{self.seed}/{self.bank}/{what}/{number}")


def _chosen(pack: Pack, codes: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(codes, int):
        if codes < 2:
            raise ConfigError(f"codes must be at least 2, got {codes}")
        return pack.codes[:codes]
    for code in codes:
        if code not in pack.by_code:
            raise UnknownCode(f"the knowledge pack has no leaf {code!r}")
    wanted = set(codes)
    return tuple(code for code in pack.codes if code in wanted)


def _flags(sex: str, age: float, conditions: Sequence[Condition]) -> set[str]:
    """What fillers may be unfit for, beside words: see `wording.unless_of`."""
    flags = {f"#{sex}", "#child" if age < 18 else "#old" if age > 66 else "#adult"}
    if any(c.known or c.family.chronic for c in conditions[1:]) or conditions[0].known:
        flags.add("#known")
    for kind, coded in (("code", conditions), ("main", conditions[:1])):
        for condition in coded:
            code = condition.code.replace(".", "").lower()
            flags |= {f"#{kind}{code[:length]}" for length in range(1, 6)}
    return flags


def _flagged(words: Mapping[str, frozenset[str]], flags: set[str]) -> frozenset[str]:
    """The stems of every flag that is set, and those of "always"."""
    found = (stems for key, stems in words.items() if key == "always" or f"#{key}" in flags)
    return frozenset().union(*found)


def _linked(families: Sequence[Family]) -> dict[str, frozenset[str]]:
    """Family -> those that exclude it or that it excludes: mostly other forms of one disease."""
    found: dict[str, set[str]] = {family.id: set(family.never_with) for family in families}
    for family in families:
        for other in family.never_with:
            if other in found:
                found[other].add(family.id)
    return {key: frozenset(others) for key, others in found.items()}
