"""Reads one file of a knowledge pack: its YAML, checked key by key, as families.

`knowledge/FORMAT.md` explains the files to the clinicians who write them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from label_config.errors import DataError
from label_config.taxonomy import Taxonomy
from simulator.pack import HABITS, SYSTEMS, UNITS_OF_TIME, VITALS, Family, Leaf, Signs
from simulator.phrase import Phrase, Range, Value, stems_of, words

_FAMILY_KEYS = frozenset(
    words(
        "weight age female chronic vague onset with never_with leaves background inherited naming "
        "principal needs resolves complaint symptoms negatives signs vitals tests imaging drugs "
        "risks past"
    )
)
_LEAF_KEYS = frozenset(
    words(
        "weight acute onset principal needs lacks names complaint symptoms negatives signs "
        "vitals tests imaging drugs risks past"
    )
)


def read_families(path: Path, taxonomy: Taxonomy) -> tuple[list[Family], list[str]]:
    """The families of a file, and of those that cannot be used the reasons, one a line.

    Raises DataError for a file that is no YAML mapping.
    """
    families: list[Family] = []
    problems: list[str] = []
    for family_id, raw in read_yaml(path).items():
        try:
            families.append(_family(f"{path.name}: {family_id}", family_id, raw, taxonomy))
        except DataError as error:
            known = str(error).startswith(path.name)
            problems.append(str(error) if known else f"{path.name}: {family_id}: {error}")
    return families, problems


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
    leaves = _mapping(values["leaves"], f"{where} leaves", None)
    chronic = bool(values.get("chronic", False))
    shared: dict[str, Any] = {key: values[key] for key in ("principal", "needs") if key in values}
    naming = _mapping(
        values.get("naming", {}), f"{where} naming", frozenset(("standard", "variant", "vague"))
    )
    return Family(
        id=family_id,
        weight=_number(values["weight"], f"{where} weight", 0.0, 1e6),
        age=Range.parse(values["age"], f"{where} age"),
        female=_number(values.get("female", 0.5), f"{where} female", 0.0, 1.0),
        chronic=chronic,
        onset=_onset(values, where),
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
        named_standard=_number(naming.get("standard", 0.21), f"{where} naming", 0.0, 1.0),
        named_variant=_number(naming.get("variant", 0.2), f"{where} naming", 0.0, 1.0),
        named_vague=_number(naming.get("vague", 0.0), f"{where} naming", 0.0, 1.0),
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
        onset=_onset(values, where),
        needs=frozenset(values.get("needs") or ()),
    )


def _onset(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    onset = tuple(values.get("onset") or ())
    if unknown := set(onset) - set(UNITS_OF_TIME):
        raise DataError(f"{where}: onset must be of {UNITS_OF_TIME}, got {sorted(unknown)}")
    return onset


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
