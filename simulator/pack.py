"""What a knowledge pack is: disease families, their codes, and what each shows in a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from label_config.taxonomy import Taxonomy
from simulator.phrase import Phrase, Range, Value, words
from simulator.wording import Wording

SYSTEMS = words(
    "general skin eyes ent neck breast lungs heart abdomen back kidneys pelvis limbs joints neuro "
    "mental obstetric"
)
HABITS = words("smoking alcohol diet exposure travel work family_contact drugs_use other")
VITALS = words("temperature pulse respiration systolic diastolic saturation weight")
SEEN = 2.2
"""Standard deviations around the usual age within which a disease is thought of."""
UNITS_OF_TIME = ("hours", "days", "weeks", "months", "years")


@dataclass(frozen=True, slots=True)
class Signs:
    """What a family or a leaf shows; a leaf's come on top of its family's."""

    complaint: tuple[Phrase, ...] = ()
    symptoms: tuple[Phrase, ...] = ()
    negatives: tuple[Phrase, ...] = ()
    signs: Mapping[str, tuple[Phrase, ...]] = field(default_factory=dict)
    vitals: Mapping[str, Value] = field(default_factory=dict)
    tests: Mapping[Phrase, Value] = field(default_factory=dict)
    imaging: Mapping[str, tuple[Phrase, ...]] = field(default_factory=dict)
    drugs: tuple[Phrase, ...] = ()
    risks: Mapping[str, tuple[Phrase, ...]] = field(default_factory=dict)
    past: tuple[Phrase, ...] = ()

    def evidence_kinds(self) -> list[str]:
        """Which of the keys that can support a code hold something."""
        kinds = ("symptoms", "signs", "vitals", "tests", "imaging", "drugs", "risks", "past")
        return [kind for kind in kinds if getattr(self, kind)]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One code of a family: its informal names and what tells it from its siblings."""

    code: str
    title: str
    names: tuple[Phrase, ...]
    weight: float
    shows: Signs
    """Its own."""
    shared: Signs
    """Its family's, less what its own replaces and what it `lacks`."""
    acute: bool = False
    """A passing state of a chronic disease: it never stands in the past history as known."""
    principal: bool = True
    """Whether it can be the reason for admission; organisms and status codes cannot."""
    onset: tuple[str, ...] = ()
    """Its own units of time, if they differ from the family's."""
    needs: frozenset[str] = frozenset()
    """Families of which one must be present: what it is secondary to."""


@dataclass(frozen=True, slots=True)
class Family:
    """Codes that look alike in a record."""

    id: str
    weight: float
    age: Range
    female: float
    chronic: bool
    onset: tuple[str, ...]
    shows: Signs
    leaves: tuple[Leaf, ...]
    vague: Mapping[str, tuple[Phrase, ...]]
    """Ancestor code -> informal names at that level."""
    odds: Mapping[str, float]
    """Other family -> how many times likelier than by chance they come together."""
    never_with: frozenset[str] = frozenset()
    resolves: bool = True
    """Whether it may be told as an earlier disease, over by now."""
    background: float = 0.0
    """Share of all admissions in which it is present; 0 leaves it to weight and odds."""
    inherited: float = 0.0
    """Share of records that name it in the family history."""
    named_standard: float = 0.21
    """How often the record gives the code's title,"""
    named_variant: float = 0.2
    """an informal name of the code,"""
    named_vague: float = 0.0
    """or a name of the family, which does not tell the code."""

    @property
    def chapter(self) -> str:
        """The letter its codes begin with."""
        return self.leaves[0].code[0]

    @property
    def common_name(self) -> Phrase:
        """Its first vague name: what one says of a relative, or without looking closely."""
        return next(iter(self.vague.values()))[0]

    def fits(self, sex: str, age: float) -> bool:
        """True when a patient of that sex and age can have it."""
        share = self.female if sex == "female" else 1.0 - self.female
        return share > 0.0 and self.age.low <= age <= self.age.high

    def usual(self, age: float) -> bool:
        """True near the ages at which it is seen, so that one would think of it."""
        return abs(age - self.age.mean) <= SEEN * self.age.sd


@dataclass(frozen=True)
class Pack:
    """Every family of one language, with its wording and the taxonomy its titles come from."""

    language: str
    families: tuple[Family, ...]
    wording: Wording
    taxonomy: Taxonomy

    @cached_property
    def by_code(self) -> dict[str, tuple[Family, Leaf]]:
        """Leaf code -> its family and leaf."""
        return {leaf.code: (family, leaf) for family in self.families for leaf in family.leaves}

    @cached_property
    def by_id(self) -> dict[str, Family]:
        """Family id -> family."""
        return {family.id: family for family in self.families}

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Every leaf code, the most frequent first."""
        weights = {
            leaf.code: family.weight * leaf.weight / sum(other.weight for other in family.leaves)
            for family in self.families
            for leaf in family.leaves
        }
        return tuple(sorted(weights, key=lambda code: (-weights[code], code)))
