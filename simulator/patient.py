"""Patients and what they have: sex, age, chronic diseases and the codes of each admission."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from label_config.errors import ConfigError
from label_config.record import Sex
from simulator.knowledge import Family, Leaf, Pack, Signs

ADMISSIONS = (1, 1, 2, 1, 1, 3, 1, 1, 2, 1, 4, 1, 1, 2, 1)
"""How often the patients of one round come; the round then starts again with other patients."""
_ROUND = sum(ADMISSIONS)
_STARTS = tuple(accumulate(ADMISSIONS, initial=0))
ZIPF_EXPONENT = 1.0
TRIES = 60
PARTNER_SHARE = 0.45
"""Share of further diagnoses that come from the comorbidity graph, the others from Zipf's law."""
LINKED = 1.5
"""Odds from which two families count as linked."""
UNLINKED = 0.5
"""Chance that one drawn by Zipf's law stays when nothing present is linked with it."""
CALIBRATION_PATIENTS = 500
CALIBRATION_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Condition:
    """One gold code of an admission."""

    family: Family
    leaf: Leaf
    known: bool
    """It was there before: its story stands in the past history."""

    @property
    def code(self) -> str:
        """The leaf's code."""
        return self.leaf.code

    @property
    def onset(self) -> tuple[str, ...]:
        """Units of time in which it begins."""
        return self.leaf.onset or self.family.onset

    @property
    def shows(self) -> Signs:
        """What only this code shows."""
        return self.leaf.shows

    @property
    def shared(self) -> Signs:
        """What it shows like others of its family."""
        return self.leaf.shared


@dataclass(frozen=True, slots=True)
class Patient:
    """What stays the same from one admission to the next."""

    number: int
    sex: Sex
    age: float
    """Years at the first admission."""
    anchor: Condition
    """The reason for the first admission."""
    chronic: tuple[Condition, ...]


def visit_of(index: int) -> tuple[int, int]:
    """EMR index -> (patient number, number of earlier admissions)."""
    rounds, place = divmod(index, _ROUND)
    slot = bisect(_STARTS, place) - 1
    return rounds * len(ADMISSIONS) + slot, place - _STARTS[slot]


class Population:
    """Draws patients and admissions for one code set.

    The reason for admission follows Zipf's law over the codes' frequency ranks,
    P(rank r) ∝ r^-1, as far as sex and age allow.
    """

    def __init__(self, pack: Pack, codes: Sequence[str], *, mean_codes: float) -> None:
        """`codes`: the most frequent first. Raises ConfigError for a set that cannot be drawn."""
        if len(codes) < 2:
            raise ConfigError(f"a hospital needs at least 2 codes, got {len(codes)}")
        self.mean_codes = mean_codes
        self._conditions = [Condition(*pack.by_code[code], known=False) for code in codes]
        zipf = [(rank + 1) ** -ZIPF_EXPONENT for rank in range(len(codes))]
        self._cumulative = list(accumulate(zipf))
        at_hand = {condition.family.id for condition in self._conditions}
        reasons = [
            (condition, weight)
            for condition, weight in zip(self._conditions, zipf, strict=True)
            if condition.leaf.principal
            and (not condition.leaf.needs or condition.leaf.needs & at_hand)
        ]
        self._reasons = [condition for condition, _ in reasons]
        if not reasons:
            raise ConfigError("a hospital needs a code that can be the reason for admission")
        self._cumulative_reasons = list(accumulate(weight for _, weight in reasons))
        members: dict[str, list[tuple[Condition, float]]] = {}
        for condition, weight in zip(self._conditions, zipf, strict=True):
            members.setdefault(condition.family.id, []).append((condition, weight))
        self._members = {
            key: ([c for c, _ in rows], list(accumulate(w for _, w in rows)))
            for key, rows in members.items()
        }
        self._background = [
            rows[0][0].family for rows in members.values() if rows[0][0].family.background
        ]
        self._chance = {family.id: family.background for family in self._background}
        by_id = {key: rows[0][0].family for key, rows in members.items()}
        self._partners = {key: _cumulative_odds(by_id[key], members) for key in members}
        self._links = {
            key: frozenset(other for other in ids if _odds(by_id[key], by_id[other]) >= LINKED)
            for key, (ids, _) in self._partners.items()
        }
        for _ in range(CALIBRATION_ROUNDS):
            self._calibrate()

    def patient(self, number: int, rng: Random) -> Patient:
        """A new patient: the first admission's reason gives the likely sex and age."""
        anchor = self._reason(rng)
        family = anchor.family
        sex: Sex = "female" if rng.random() < family.female else "male"
        age = round(family.age.draw(rng), 1)
        chronic: list[Condition] = []
        taken = [family]
        for other in self._background:
            chance = self._chance[other.id] * _age_fit(other, age) if other.fits(sex, age) else 0
            chance *= min(2.5, _odds(family, other))
            if rng.random() < chance and _compatible(other, taken):
                found = self._leaf_of(other.id, rng, known=True)
                if _supported(found.leaf, taken):
                    chronic.append(found)
                    taken.append(other)
        for _ in range(_poisson(0.22 * self.mean_codes, rng)):
            present = [anchor, *chronic]
            condition = self._partner(rng, present, sex, age, taken, chronic=True)
            if condition is not None:
                known = not condition.leaf.acute
                chronic.append(Condition(condition.family, condition.leaf, known))
                taken.append(condition.family)
        return Patient(number, sex, age, anchor, tuple(chronic))

    def admission(self, patient: Patient, earlier: int, rng: Random) -> list[Condition]:
        """The conditions of one admission, the principal one first."""
        age = self.age(patient, earlier)
        principal, chronic = patient.anchor, list(patient.chronic)
        if earlier and principal.family.chronic and not principal.leaf.acute:
            principal = Condition(principal.family, principal.leaf, known=True)
        if earlier and rng.random() < 0.6:
            taken = [principal.family, *(c.family for c in chronic)]
            found = self._fitting(rng, patient.sex, age, taken, as_partner=False)
            if found is not None:
                chronic += [principal] if principal.known else []
                principal = found
        conditions = [principal, *chronic]
        if not _supported(principal.leaf, [c.family for c in chronic]):
            cause = self._cause(principal, patient.sex, age, conditions, rng)
            conditions += [cause] if cause else []
        taken = [c.family for c in conditions]
        wanted = 2 + _poisson(self.mean_codes - 2.0, rng)
        while len(conditions) < wanted:
            partner = self._partner(rng, conditions, patient.sex, age, taken)
            if partner is None:
                break
            conditions.append(partner)
            taken.append(partner.family)
        return conditions

    def age(self, patient: Patient, earlier: int) -> float:
        """Age at an admission, one year after the other, within what the anchor allows."""
        limits = [c.family.age.high for c in (patient.anchor, *patient.chronic)]
        return min(patient.age + earlier, *limits, 105.0)

    def _calibrate(self) -> None:
        """Move the chances so that each background family stands in its share of admissions."""
        counts = dict.fromkeys(self._chance, 0)
        for number in range(CALIBRATION_PATIENTS):
            rng = Random(f"calibration/{number}")
            patient = self.patient(number, rng)
            for family_id in {c.family.id for c in (patient.anchor, *patient.chronic)}:
                if family_id in counts:
                    counts[family_id] += 1
        for family in self._background:
            share = max(counts[family.id], 1) / CALIBRATION_PATIENTS
            chance = self._chance[family.id] * family.background / share
            self._chance[family.id] = min(1.0, max(0.001, chance))

    def _cause(
        self, principal: Condition, sex: str, age: float, present: list[Condition], rng: Random
    ) -> Condition | None:
        """What the principal condition is secondary to; known before."""
        families = sorted(principal.leaf.needs & self._members.keys())
        rng.shuffle(families)
        for family_id in families:
            found = self._leaf_of(family_id, rng)
            others = [c.family for c in present]
            if found.family.fits(sex, age) and _compatible(found.family, others):
                return Condition(found.family, found.leaf, known=not found.leaf.acute)
        return None

    def _linked(self, family: Family, taken: Sequence[Family]) -> bool:
        links = self._links[family.id]
        return any(other.id in links for other in taken)

    def _reason(self, rng: Random) -> Condition:
        place = bisect(self._cumulative_reasons, rng.random() * self._cumulative_reasons[-1])
        return self._reasons[place]

    def _by_zipf(self, rng: Random) -> Condition:
        return self._conditions[bisect(self._cumulative, rng.random() * self._cumulative[-1])]

    def _leaf_of(self, family_id: str, rng: Random, *, known: bool = False) -> Condition:
        conditions, cumulative = self._members[family_id]
        found = conditions[bisect(cumulative, rng.random() * cumulative[-1])]
        return Condition(found.family, found.leaf, known and not found.leaf.acute)

    def _partner(
        self,
        rng: Random,
        present: list[Condition],
        sex: str,
        age: float,
        taken: list[Family],
        *,
        chronic: bool = False,
    ) -> Condition | None:
        if rng.random() < PARTNER_SHARE:
            family = present[int(rng.random() * len(present))].family
            ids, cumulative = self._partners[family.id]
            if ids:
                found = self._leaf_of(ids[bisect(cumulative, rng.random() * cumulative[-1])], rng)
                if (
                    found.family.fits(sex, age)
                    and not found.family.background
                    and (found.family.chronic or not chronic)
                    and _compatible(found.family, taken)
                    and _supported(found.leaf, taken)
                ):
                    return found
        return self._fitting(rng, sex, age, taken, chronic=chronic)

    def _fitting(
        self,
        rng: Random,
        sex: str,
        age: float,
        taken: list[Family],
        *,
        chronic: bool = False,
        as_partner: bool = True,
    ) -> Condition | None:
        """A condition that sex, age and the others allow; None after TRIES vain draws."""
        for _ in range(TRIES):
            found = self._by_zipf(rng) if as_partner else self._reason(rng)
            family = found.family
            if chronic and not family.chronic:
                continue
            if (
                family.fits(sex, age)
                and rng.random() < _age_fit(family, age)
                and (self._linked(family, taken) or rng.random() < UNLINKED)
                and _compatible(family, taken)
                and (not as_partner or _supported(found.leaf, taken))
                and not (family.background and as_partner)
            ):
                return found
        return None


def _odds(one: Family, other: Family) -> float:
    """How many times likelier than by chance they come together, whichever names the other."""
    return max(one.odds.get(other.id, 1.0), other.odds.get(one.id, 1.0))


def _cumulative_odds(
    family: Family, members: dict[str, list[tuple[Condition, float]]]
) -> tuple[list[str], list[float]]:
    """The families it comes with more often than by chance, with their cumulative weights."""
    ids: list[str] = []
    weights: list[float] = []
    for key, rows in members.items():
        odds = _odds(family, rows[0][0].family)
        if odds > 1.0:
            ids.append(key)
            weights.append((odds - 1.0) * math.sqrt(sum(weight for _, weight in rows)))
    return ids, list(accumulate(weights))


def _compatible(family: Family, taken: list[Family]) -> bool:
    """Whether a family may join those present, of which the first is the reason for admission."""
    for other in taken:
        if other is family or other.id in family.never_with or family.id in other.never_with:
            return False
    reason = taken[0] if taken else family
    if family.id in reason.odds or reason.id in family.odds:
        return True
    if family.chapter in EPISODES:
        return family.chapter == reason.chapter
    return reason.chapter != "O" or (family.chronic and family.age.mean < 50)


def _supported(leaf: Leaf, taken: Sequence[Family]) -> bool:
    """Whether what the code is secondary to is present."""
    return not leaf.needs or any(family.id in leaf.needs for family in taken)


EPISODES = "OST"
"""Pregnancy and injury: present only when they, or what goes with them, are why one came."""


def _age_fit(family: Family, age: float) -> float:
    """1 at the usual age, falling to both sides; chronic diseases stay with the old."""
    distance = (age - family.age.mean) / family.age.sd
    if family.chronic and distance > 0:
        return 1.0
    return math.exp(-0.5 * distance * distance)


def _poisson(mean: float, rng: Random) -> int:
    """Knuth's method; means here are small."""
    limit, product, count = math.exp(-max(mean, 0.0)), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
