"""Coding rules as explained warnings: they advise, name their source, and never block.

Real coders break the printed rules often and with reason, so each rule can be switched off. Some
rules are read from the classification's own notes; the others are conditions in `rules.yaml`, and
a team's own file has the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from label_config.code_refs import CodeRange, named_in, references
from label_config.errors import ConfigError
from label_config.record import Sex
from label_config.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class Coded:
    """What a rule looks at: one EMR's codes, and what is known beside them."""

    codes: tuple[str, ...]
    """In order, the principal diagnosis first."""
    sex: Sex | None = None
    age: float | None = None
    """Years."""
    supported: Mapping[str, float] = field(default_factory=dict)
    """Codes that the record supports, each with the model's confidence, 0 to 1."""


@dataclass(frozen=True, slots=True)
class RuleWarning:
    """One piece of advice."""

    rule: str
    codes: tuple[str, ...]
    """The codes it is about, the one to look at first."""
    text: str
    source: str


Rule = Callable[[Coded, Taxonomy], Iterator[RuleWarning]]
SUPPORTED = 0.5
"""From this confidence on, the record is said to support a code."""


class RuleBook:
    """The rules of one project: built in, its own, and those it has switched off."""

    def __init__(
        self, taxonomy: Taxonomy, *, own: Path | None = None, off: Collection[str] = ()
    ) -> None:
        """`off` names rules ("excludes1", "symptom/fever") or families of them ("symptom").

        Raises ConfigError for a rule that nobody wrote, or a file that is not in the form.
        """
        self.taxonomy = taxonomy
        builtin = files("label_config").joinpath("rules.yaml").read_text("utf-8")
        conditions = _conditions(builtin, "rules.yaml")
        if own is not None:
            conditions += _conditions(_read(own), str(own))
        self._rules: dict[str, Rule] = {**_FROM_NOTES, **{c.id: c.check for c in conditions}}
        if len(self._rules) < len(_FROM_NOTES) + len(conditions):
            raise ConfigError("two coding rules have the same id")
        self._principal = frozenset(c.id for c in conditions if c.principal)
        known = {name for rule in self._rules for name in (rule, rule.split("/")[0])}
        for name in off:
            if name not in known:
                raise ConfigError(f"no coding rule {name!r}; there are: {', '.join(sorted(known))}")
        self._off = frozenset(off)

    @property
    def rules(self) -> tuple[str, ...]:
        """The ids of the rules that speak."""
        return tuple(r for r in self._rules if not {r, r.split("/")[0]} & self._off)

    @property
    def order_rules(self) -> tuple[str, ...]:
        """Those of `rules` that ask which code stands first."""
        return tuple(r for r in self.rules if r == "code-first" or r in self._principal)

    def check(self, coded: Coded, *, only: Collection[str] | None = None) -> list[RuleWarning]:
        """Every warning for one EMR; codes that the taxonomy does not hold are passed over.

        `only` names the rules that are asked, all of them by default.
        """
        known = tuple(code for code in coded.codes if code in self.taxonomy)
        seen = Coded(known, coded.sex, coded.age, coded.supported)
        asked = [rule for rule in self.rules if only is None or rule in only]
        return [w for rule in asked for w in self._rules[rule](seen, self.taxonomy)]


# -- rules read from the classification's notes ---------------------------------------------------


def excludes1(coded: Coded, taxonomy: Taxonomy) -> Iterator[RuleWarning]:
    """Two codes that a note says are not coded together; each pair once."""
    said: set[frozenset[str]] = set()
    for code in coded.codes:
        for holder in (code, *taxonomy.ancestors(code)):
            notes = taxonomy[holder].excludes1
            for other in coded.codes:
                pair = frozenset((code, other))
                if other in (code, holder) or pair in said or _related(code, other, taxonomy):
                    continue
                if named_in(other, notes):
                    said.add(pair)
                    text = f"{code} and {other} are usually not coded together"
                    yield RuleWarning("excludes1", (code, other), text, f"Excludes1 at {holder}")


def code_first(coded: Coded, taxonomy: Taxonomy) -> Iterator[RuleWarning]:
    """A manifestation that stands first, or before the disease that its note names."""
    for place, code in enumerate(coded.codes):
        holder, note = _note(code, "code_first", taxonomy)
        if not note or "if applicable" in note:
            continue
        first = [c for c in coded.codes if c != code and named_in(c, [note])]
        source = f"Code first at {holder}"
        if first and place < coded.codes.index(first[0]):
            text = f"{first[0]} comes before {code}"
            yield RuleWarning("code-first", (code, first[0]), text, source)
        elif not first and place == 0:
            text = f"{code} is a manifestation: the underlying disease comes first"
            yield RuleWarning("code-first", (code,), text, source)


def use_additional(coded: Coded, taxonomy: Taxonomy) -> Iterator[RuleWarning]:
    """A second code that a note asks for, where the record supports one that is not coded."""
    for code in coded.codes:
        holder, note = _note(code, "use_additional", taxonomy)
        wanted = references(note)
        if any(c in reference for c in coded.codes for reference in wanted):
            continue
        for other, confidence in coded.supported.items():
            if confidence >= SUPPORTED and any(other in reference for reference in wanted):
                text = f"{code} takes {other} as an additional code; the record supports it"
                source = f"Use additional code at {holder}"
                yield RuleWarning("use-additional", (code, other), text, source)


def parent_and_child(coded: Coded, taxonomy: Taxonomy) -> Iterator[RuleWarning]:
    """A code beside one of its own ancestors: the more specific one is enough."""
    for code in coded.codes:
        for ancestor in taxonomy.ancestors(code):
            if ancestor in coded.codes:
                text = f"{code} says all that {ancestor} says"
                yield RuleWarning("parent-and-child", (ancestor, code), text, "one code, one fact")


def not_specific(coded: Coded, taxonomy: Taxonomy) -> Iterator[RuleWarning]:
    """A code with more specific ones below it, or an unspecified one whose sibling is supported."""
    for code in coded.codes:
        if not taxonomy.is_leaf(code):
            text = f"{code} has more specific codes below it"
            source = "ICD-10-CM Official Guidelines, section I.B.2"
            yield RuleWarning("not-specific/level", (code,), text, source)
        elif "unspecified" in taxonomy.title(code).lower():
            for other in taxonomy.siblings(code):
                if other not in coded.codes and coded.supported.get(other, 0.0) >= SUPPORTED:
                    text = f"the record supports {other}, which is more specific than {code}"
                    source = "ICD-10-CM Official Guidelines, section I.B.18"
                    yield RuleWarning("not-specific/sibling", (code, other), text, source)


_FROM_NOTES: dict[str, Rule] = {
    "excludes1": excludes1,
    "code-first": code_first,
    "use-additional": use_additional,
    "parent-and-child": parent_and_child,
    "not-specific": not_specific,
}


def _note(code: str, kind: str, taxonomy: Taxonomy) -> tuple[str, str]:
    """The nearest note of a kind at the code or above it, and where it stands."""
    for holder in (code, *taxonomy.ancestors(code)):
        note = getattr(taxonomy[holder], kind)
        if note:
            return holder, note
    return code, ""


def _related(one: str, other: str, taxonomy: Taxonomy) -> bool:
    return one in taxonomy.ancestors(other) or other in taxonomy.ancestors(one)


# -- rules that are conditions --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of a rules file."""

    id: str
    codes: tuple[CodeRange, ...]
    say: str
    source: str
    sex: Sex | None = None
    below: float | None = None
    from_: float | None = None
    principal: bool = False
    with_: tuple[CodeRange, ...] = ()
    without: tuple[CodeRange, ...] = ()

    def check(self, coded: Coded, taxonomy: Taxonomy) -> Iterator[RuleWarning]:
        """One warning per code that the rule is about, if every condition holds."""
        if not self._fits_patient(coded):
            return
        if any(code in r for code in coded.codes for r in self.without):
            return
        for code in coded.codes[:1] if self.principal else coded.codes:
            if not any(code in r for r in self.codes):
                continue
            others = [c for c in coded.codes if c != code and any(c in r for r in self.with_)]
            if self.with_ and not others:
                continue
            other = others[0] if others else ""
            text = self.say.format(code=code, title=taxonomy.title(code), other=other)
            yield RuleWarning(self.id, (code, *others[:1]), text, self.source)

    def _fits_patient(self, coded: Coded) -> bool:
        if self.sex is not None and coded.sex != self.sex:
            return False
        if self.below is not None and (coded.age is None or coded.age >= self.below):
            return False
        return self.from_ is None or (coded.age is not None and coded.age >= self.from_)


def _conditions(text: str, where: str) -> list[Condition]:
    try:
        entries = yaml.safe_load(text) or []
    except yaml.YAMLError:
        raise ConfigError(f"{where} is not valid YAML") from None
    if not isinstance(entries, list):
        raise ConfigError(f"{where} must hold a list of rules")
    return [_condition(entry, f"rule {n} of {where}") for n, entry in enumerate(entries, start=1)]


def _condition(entry: Any, where: str) -> Condition:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} must be a mapping")
    values = {
        ("from_" if k == "from" else "with_" if k == "with" else k): v for k, v in entry.items()
    }
    for key in ("codes", "with_", "without"):
        if key in values:
            values[key] = _ranges(values[key], where)
    try:
        condition = Condition(**values)
        condition.say.format(code="", title="", other="")
    except (TypeError, AttributeError, KeyError, IndexError):
        needed = "id, codes, say, source; optional sex, below, from, principal, with, without"
        raise ConfigError(f"{where} needs {needed}, got {', '.join(map(str, entry))}") from None
    if not condition.codes or condition.sex not in (None, "female", "male"):
        raise ConfigError(f"{where} needs codes, and sex as female or male")
    return condition


def _ranges(value: Any, where: str) -> tuple[CodeRange, ...]:
    texts = value if isinstance(value, list) else [value]
    found = tuple(reference for text in texts for reference in references(str(text)))
    if len(found) != len(texts):
        raise ConfigError(f"{where} has a code that cannot be read: {texts}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"cannot read the rules file {path}") from None
