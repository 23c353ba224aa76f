"""Knowledge pack: what each disease family looks like in a record, read from YAML and checked.

`knowledge/FORMAT.md` explains the files to the clinicians who write them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from label_config.errors import DataError
from label_config.taxonomy import Taxonomy
from simulator.phrase import Phrase, Range, Value, stems_of, words
from simulator.wording import Wording, load_wording

FOLDER = Path(__file__).parent / "knowledge"
WORDING_FILE = "_wording.yaml"
TITLES_FILE = "titles.csv"
"""The codes' titles in the pack's language; without it they are those of ICD-10-CM."""

SYSTEMS = words(
    "general skin eyes ent neck breast lungs heart abdomen back kidneys pelvis limbs joints neuro "
    "mental obstetric"
)
HABITS = words("smoking alcohol diet exposure travel work family_contact drugs_use other")
VITALS = words("temperature pulse respiration systolic diastolic saturation weight")
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
    named_standard: float = 0.25
    named_variant: float = 0.25

    @property
    def chapter(self) -> str:
        """The letter its codes begin with."""
        return self.leaves[0].code[0]

    def fits(self, sex: str, age: float) -> bool:
        """True when a patient of that sex and age can have it."""
        share = self.female if sex == "female" else 1.0 - self.female
        return share > 0.0 and self.age.low <= age <= self.age.high


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


def load_pack(
    language: str = "en",
    *,
    wards: Iterable[str] | None = None,
    taxonomy: Taxonomy | None = None,
    folder: Path = FOLDER,
) -> Pack:
    """Read and check `folder/language/*.yaml`, or only the files of the `wards` named.

    Raises DataError that names every problem found, one a line.
    """
    titles = folder / language / TITLES_FILE
    if taxonomy is None:
        taxonomy = Taxonomy.from_csv(titles) if titles.is_file() else Taxonomy.icd10cm()
    files = sorted(p for p in (folder / language).glob("*.yaml") if p.name != WORDING_FILE)
    if wards is not None:
        chosen = set(wards)
        files = [path for path in files if path.stem in chosen]
    if not files:
        raise DataError(f"no knowledge pack for language {language!r} in {folder}")
    wording = load_wording(folder / language / WORDING_FILE)
    families: list[Family] = []
    problems: list[str] = []
    for path in files:
        for family_id, raw in read_yaml(path).items():
            try:
                families.append(_family(f"{path.name}: {family_id}", family_id, raw, taxonomy))
            except DataError as error:
                known = str(error).startswith(path.name)
                problems.append(str(error) if known else f"{path.name}: {family_id}: {error}")
    problems.extend(problems_of(families))
    if problems:
        raise DataError("the knowledge pack needs mending:\n" + "\n".join(problems))
    return Pack(language, tuple(families), wording, taxonomy)


def problems_of(families: Iterable[Family]) -> list[str]:
    """What no single family can see and no hospital can live with: repeated families or codes."""
    seen: dict[str, str] = {}
    problems: list[str] = []
    for family in families:
        for key in (f"family {family.id}", *(f"code {leaf.code}" for leaf in family.leaves)):
            if key in seen:
                problems.append(f"{key} stands under {seen[key]} and again under {family.id}")
            seen[key] = family.id
    return problems


def blemishes_of(families: Iterable[Family], taxonomy: Taxonomy) -> list[str]:
    """Names that two leaves share, vague names that reach no leaf, links to unknown families.

    None of them breaks a hospital: shared names are ambiguous, the others have no effect.
    """
    families = list(families)
    ids = {family.id for family in families}
    owner: dict[str, str] = {}
    found: list[str] = []
    for family in families:
        for leaf in family.leaves:
            texts = sorted({t.lower() for name in leaf.names for t in (*name.a, *name.b)})
            found += [
                f"{family.id}: {leaf.code} and {owner[text]} share a name: {text}"
                for text in texts
                if owner.setdefault(text, leaf.code) != leaf.code
            ]
        above = {a for leaf in family.leaves for a in taxonomy.ancestors(leaf.code)}
        found += [
            f"{family.id}: vague {c} is above no leaf" for c in family.vague if c not in above
        ]
        needs = {other for leaf in family.leaves for other in leaf.needs}
        links = sorted({*family.odds, *family.never_with, *needs} - ids)
        found += [f"{family.id}: names the unknown family {other!r}" for other in links]
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises DataError with the line of a syntax error."""
    try:
        values = yaml.load(path.read_text("utf-8"), Loader=_loader())  # noqa: S506  (a safe loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise DataError(f"{path.name} line {line}: {error.problem}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path.name} must hold a mapping")
    return values


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_FAMILY_KEYS = frozenset(
    words(
        "weight age female chronic vague onset with never_with leaves background inherited naming "
        "principal needs resolves complaint symptoms negatives signs vitals tests imaging drugs "
        "risks past"
    )
)
_LEAF_KEYS = frozenset(
    words(
        "weight acute principal needs lacks names complaint symptoms negatives signs vitals tests "
        "imaging drugs risks past"
    )
)


def _family(where: str, family_id: str, raw: Any, taxonomy: Taxonomy) -> Family:
    values = _mapping(raw, where, _FAMILY_KEYS)
    for key in ("weight", "age", "leaves", "complaint", "onset", "vague"):
        if not values.get(key):
            raise DataError(f"{where} needs {key}")
    shows = _signs(values, where)
    for key in ("symptoms", "negatives", "signs", "drugs"):
        if not getattr(shows, key):
            raise DataError(f"{where} needs evidence under {key}")
    if not shows.tests and not shows.imaging:
        raise DataError(f"{where} needs tests or imaging for the auxiliary examination")
    onset = tuple(values["onset"])
    if unknown := set(onset) - set(UNITS_OF_TIME):
        raise DataError(f"{where}: onset must be of {UNITS_OF_TIME}, got {sorted(unknown)}")
    leaves = _mapping(values["leaves"], f"{where} leaves", None)
    chronic = bool(values.get("chronic", False))
    shared: dict[str, Any] = {key: values[key] for key in ("principal", "needs") if key in values}
    naming = _mapping(
        values.get("naming", {}), f"{where} naming", frozenset(("standard", "variant"))
    )
    return Family(
        id=family_id,
        weight=_number(values["weight"], f"{where} weight", 0.0, 1e6),
        age=Range.parse(values["age"], f"{where} age"),
        female=_number(values.get("female", 0.5), f"{where} female", 0.0, 1.0),
        chronic=chronic,
        onset=onset,
        shows=shows,
        leaves=tuple(
            _leaf(f"{where} {code}", str(code), raw_leaf, shared, shows, taxonomy)
            for code, raw_leaf in leaves.items()
        ),
        vague={
            str(code): _phrases(names, f"{where} vague {code}")
            for code, names in _mapping(values["vague"], f"{where} vague", None).items()
        },
        odds={k: float(v) for k, v in _mapping(values.get("with", {}), where, None).items()},
        never_with=frozenset(values.get("never_with") or ()),
        resolves=bool(values.get("resolves", not chronic)),
        background=_number(values.get("background", 0.0), f"{where} background", 0.0, 1.0),
        inherited=_number(values.get("inherited", 0.0), f"{where} inherited", 0.0, 1.0),
        named_standard=_number(naming.get("standard", 0.25), f"{where} naming", 0.0, 1.0),
        named_variant=_number(naming.get("variant", 0.25), f"{where} naming", 0.0, 1.0),
    )


def _leaf(
    where: str,
    code: str,
    raw: Any,
    inherited: Mapping[str, Any],
    family: Signs,
    taxonomy: Taxonomy,
) -> Leaf:
    values = {**inherited, **_mapping(raw, where, _LEAF_KEYS)}
    if not taxonomy.is_leaf(code):
        raise DataError(f"{where}: {code} is not a leaf, its children are more specific")
    shows = _signs(values, where)
    if not shows.evidence_kinds():
        raise DataError(
            f"{where} is unreachable: it needs something that tells it from its siblings"
        )
    names = _phrases(values.get("names"), f"{where} names")
    if not names:
        raise DataError(f"{where} needs informal names")
    weight = _number(values.get("weight", 1.0), f"{where} weight", 1e-6, 1e6)
    return Leaf(
        code,
        taxonomy.title(code),
        names,
        weight,
        shows,
        _left_over(family, shows, stems_of(values.get("lacks", "")), where),
        acute=bool(values.get("acute", False)),
        principal=bool(values.get("principal", True)),
        needs=frozenset(values.get("needs") or ()),
    )


def _left_over(family: Signs, own: Signs, lacks: frozenset[str], where: str) -> Signs:
    """What a leaf shares with its family.

    Its own complaints, tests, vital signs, and what it shows in one body system or by one method
    replace the family's; phrases with a word that it lacks are left out.
    """

    def kept(phrases: Iterable[Phrase]) -> tuple[Phrase, ...]:
        return tuple(phrase for phrase in phrases if phrase.stems.isdisjoint(lacks))

    def kept_by_key(
        shared: Mapping[str, tuple[Phrase, ...]], replaced: Mapping[str, Any]
    ) -> dict[str, tuple[Phrase, ...]]:
        left = {key: kept(phrases) for key, phrases in shared.items() if key not in replaced}
        return {key: phrases for key, phrases in left.items() if phrases}

    complaint = own.complaint or kept(family.complaint)
    if not complaint:
        raise DataError(f"{where} lacks every complaint of its family and needs its own")
    measured = {name.a[0] for name in own.tests}
    return replace(
        family,
        complaint=complaint,
        symptoms=kept(family.symptoms),
        signs=kept_by_key(family.signs, own.signs),
        vitals={key: value for key, value in family.vitals.items() if key not in own.vitals},
        tests={
            name: value
            for name, value in family.tests.items()
            if name.a[0] not in measured and name.stems.isdisjoint(lacks)
        },
        imaging=kept_by_key(family.imaging, own.imaging),
        past=kept(family.past),
    )


def _signs(values: Mapping[str, Any], where: str) -> Signs:
    return Signs(
        complaint=_phrases(values.get("complaint"), f"{where} complaint"),
        symptoms=_phrases(values.get("symptoms"), f"{where} symptoms", two_banks=True),
        negatives=_phrases(values.get("negatives"), f"{where} negatives"),
        signs=_by_key(values.get("signs"), f"{where} signs", SYSTEMS, two_banks=True),
        vitals={
            key: Value.parse(value, f"{where} vitals {key}")
            for key, value in _mapping(
                values.get("vitals", {}), f"{where} vitals", frozenset(VITALS)
            ).items()
        },
        tests={
            Phrase.parse(name, f"{where} tests"): Value.parse(value, f"{where} tests {name}")
            for name, value in _mapping(values.get("tests", {}), f"{where} tests", None).items()
        },
        imaging=_by_key(values.get("imaging"), f"{where} imaging", None, two_banks=True),
        drugs=_phrases(values.get("drugs"), f"{where} drugs"),
        risks=_by_key(values.get("risks"), f"{where} risks", HABITS),
        past=_phrases(values.get("past"), f"{where} past"),
    )


def _phrases(raw: Any, where: str, *, two_banks: bool = False) -> tuple[Phrase, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise DataError(f"{where} needs a list, got {raw!r}")
    phrases = tuple(Phrase.parse(text, where) for text in raw)
    for phrase in phrases:
        if two_banks and phrase.a == phrase.b:
            raise DataError(f"{where} needs a second wording after a bar: {phrase.a[0]!r}")
    return phrases


def _by_key(
    raw: Any, where: str, known: tuple[str, ...] | None, *, two_banks: bool = False
) -> dict[str, tuple[Phrase, ...]]:
    values = _mapping(raw or {}, where, frozenset(known) if known else None)
    return {k: _phrases(v, f"{where} {k}", two_banks=two_banks) for k, v in values.items()}


def _mapping(raw: Any, where: str, known: frozenset[str] | None) -> dict[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise DataError(f"{where} needs a mapping, got {raw!r}")
    if known is not None and (unknown := set(map(str, raw)) - known):
        raise DataError(f"{where} has no key {sorted(unknown)[0]!r}; it has {sorted(known)}")
    return raw


def _number(raw: Any, where: str, low: float, high: float) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
        raise DataError(f"{where} must be a number in {low:g} to {high:g}, got {raw!r}")
    return float(raw)


def main() -> None:
    """Check one language's pack: `python -m simulator.knowledge en`; exit code 1 with problems."""
    try:
        pack = load_pack(sys.argv[1] if len(sys.argv) > 1 else "en")
    except DataError as error:
        sys.exit(str(error))
    blemishes = blemishes_of(pack.families, pack.taxonomy)
    for line in blemishes:
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"{len(pack.families)} families, {len(pack.codes)} codes\n")
    sys.exit(1 if blemishes else 0)


if __name__ == "__main__":
    main()
