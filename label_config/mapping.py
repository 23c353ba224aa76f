"""Annotations of another interface: which data fields hold the record, which controls the codes.

A mapping is a YAML file:

    emr_id: admission_no            # data field; without it "task-<id>"
    sections:                       # the section's name: its data field
      Chief complaint: complaint
      History of present illness: history
    diagnoses: dx_names             # optional: a list, or one name a line
    sex: sex                        # optional, "female" or "male"
    age: age                        # optional, years
    codes:
      - control: icd                # Choices, Taxonomy, TextArea, or Labels over a text
        section: History of present illness     # where Labels count their characters
        pattern: '^([^ ]+)'         # optional: the code is its first group, or all of it
        map: {Hypertension: I10}    # optional: a value's code, or list of codes
        separator: ';'              # optional: several codes in one text
    principal: main_icd             # optional: the control that holds the principal diagnosis
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from label_config.annotation import coder_of, number_of
from label_config.errors import ConfigError, DataError, UnknownCode
from label_config.files import emr_from_dict
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import Taxonomy

MAX_CODE_CHARACTERS = 30
_VALUE_KEYS = ("labels", "choices", "taxonomy", "text")
_FEMALE_MALE = {"f": "female", "female": "female", "m": "male", "male": "male"}


@dataclass(frozen=True, slots=True)
class CodeControl:
    """One control whose values are codes."""

    control: str
    """Its name: `from_name` in a result."""
    section: str = ""
    """The section that Labels point into; not needed where there is only one."""
    pattern: str = ""
    """Regular expression that finds the code in a value: its first group, or all of it."""
    map: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    """Values that stand for a code or several."""
    separator: str = ""
    """What stands between several codes in one value."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"pattern of control {self.control!r}: {error}") from None

    def codes(self, value: str) -> list[str]:
        """The codes that one value stands for, as they are spelled there."""
        if value in self.map:
            found = self.map[value]
            return [found] if isinstance(found, str) else [str(code) for code in found]
        if not self.pattern:
            return [value.strip()]
        match = re.search(self.pattern, value)
        if match is None:
            return []
        return [match[1] if match.re.groups and match[1] is not None else match[0]]

    def parts(self, value: str) -> list[str]:
        """The value, cut at the separator."""
        parts = value.split(self.separator) if self.separator else [value]
        return [part.strip() for part in parts if part.strip()]


@dataclass(frozen=True, slots=True)
class ExportMapping:
    """How tasks of another interface become EMRs, and their annotations codes."""

    sections: Mapping[str, str]
    codes: tuple[CodeControl, ...]
    emr_id: str = ""
    diagnoses: str = ""
    sex: str = ""
    age: str = ""
    principal: str = ""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if not self.sections and not self.diagnoses:
            raise ConfigError("a mapping needs sections or diagnoses, got neither")
        if not self.codes:
            raise ConfigError("a mapping needs at least one control with codes, got none")
        for control in self.codes:
            if control.section and control.section not in self.sections:
                raise ConfigError(
                    f"control {control.control!r} names section {control.section!r}; "
                    f"the mapping has: {', '.join(self.sections)}"
                )

    @classmethod
    def from_yaml(cls, path: Path) -> ExportMapping:
        """Read a mapping file. Raises ConfigError, which says what is wrong with it."""
        try:
            values = yaml.safe_load(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            raise ConfigError(f"{path} is not valid YAML") from None
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ConfigError(f"{path}: {where}: {first['msg']}") from None

    @property
    def controls(self) -> tuple[str, ...]:
        """Every control that is read."""
        names = [control.control for control in self.codes]
        return tuple(dict.fromkeys([*names, self.principal] if self.principal else names))

    def emr(self, task: Mapping[str, Any]) -> EMR:
        """The record of a task. Raises DataError where its fields hold none."""
        data = task.get("data")
        if not isinstance(data, dict):
            raise DataError("a task needs data, got none")
        texts = {name: data.get(key) for name, key in self.sections.items()}
        values = {
            "emr_id": self._id(task, data),
            "sections": {name: text for name, text in texts.items() if isinstance(text, str)},
            "diagnoses": _names(data.get(self.diagnoses)),
            "sex": _FEMALE_MALE.get(str(data.get(self.sex)).strip().lower()),
            "age": _years(data.get(self.age)),
        }
        return emr_from_dict(values)

    def _id(self, task: Mapping[str, Any], data: Mapping[str, Any]) -> str:
        value = data.get(self.emr_id) if self.emr_id else None
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
        if self.emr_id:
            raise DataError(f"the task has no {self.emr_id!r}, which is its emr_id")
        if not isinstance(task.get("id"), int):
            raise DataError("the task has no number")
        return f"task-{task['id']}"

    def coding(
        self, emr: EMR, annotation: Mapping[str, Any], taxonomy: Taxonomy
    ) -> tuple[Coding, list[str]]:
        """The coding of one annotation, and what had to be left out of it.

        It is "unsure" where a value held no code: it lacks what the coder gave. Raises DataError
        for a skipped annotation.
        """
        if annotation.get("was_cancelled"):
            raise DataError("skipped by the coder")
        codes, spans, problems = dict[str, None](), list[EvidenceSpan](), list[str]()
        is_whole = True
        for number, item, control in self._items(annotation):
            found, unknown = _codes(item, control, taxonomy)
            codes |= dict.fromkeys(found)
            if unknown:
                is_whole = False
                problems.append(
                    f"item {number} of {control.control!r}: no code in {unknown} values"
                )
            if "labels" in item["value"]:
                try:
                    spans += self._spans(emr, item["value"], control, found)
                except DataError as error:
                    problems.append(f"item {number} of {control.control!r}: {error}")
        main = self._principal(annotation, taxonomy)
        coding = Coding(
            emr.emr_id,
            tuple(sorted(codes, key=lambda code: code not in main)),
            "clean",
            evidence=tuple(spans),
            coder=coder_of(annotation.get("completed_by")),
            seconds=number_of(annotation.get("lead_time")),
            quality="clean" if is_whole else "unsure",
        )
        return coding, problems

    def _items(
        self, annotation: Mapping[str, Any]
    ) -> Iterator[tuple[int, Mapping[str, Any], CodeControl]]:
        """Each item of a control with codes, with its place in the result."""
        by_name = {control.control: control for control in self.codes}
        result = annotation.get("result")
        for number, item in enumerate(result if isinstance(result, list) else []):
            name = item.get("from_name") if isinstance(item, dict) else None
            if isinstance(name, str) and name in by_name and isinstance(item.get("value"), dict):
                yield number, item, by_name[name]

    def _principal(self, annotation: Mapping[str, Any], taxonomy: Taxonomy) -> list[str]:
        if not self.principal:
            return []
        same = replace(self.codes[0], control=self.principal, section="")
        alone = replace(self, codes=(same,), principal="")
        return [c for _, item, control in alone._items(annotation)
                for c in _codes(item, control, taxonomy)[0]]  # fmt: skip

    def _spans(
        self, emr: EMR, value: Mapping[str, Any], control: CodeControl, codes: Sequence[str]
    ) -> list[EvidenceSpan]:
        """The evidence that a labelled region gives. Raises DataError where it fits no text."""
        start, end = value.get("start"), value.get("end")
        if isinstance(start, str) and isinstance(value.get("globalOffsets"), dict):
            start, end = (value["globalOffsets"].get(key) for key in ("start", "end"))
        section = control.section or next(iter(self.sections), "")
        text = emr.sections.get(section, "")
        if not isinstance(start, int) or not isinstance(end, int):
            raise DataError("its region has no place in a text")
        if (
            not 0 <= start < end <= len(text)
            or value.get("text", text[start:end]) != text[start:end]
        ):
            raise DataError("its region does not fit the section's text")
        return [EvidenceSpan(code, section, start, end) for code in codes]


def _codes(
    item: Mapping[str, Any], control: CodeControl, taxonomy: Taxonomy
) -> tuple[list[str], int]:
    """The codes that an item holds, as the taxonomy spells them, and how many values hold none."""
    codes, unknown = [], 0
    for value in _values(item["value"], control):
        named = [spelled(taxonomy, code) for code in control.codes(value)]
        codes += [code for code in named if code is not None]
        unknown += not named or None in named
    return codes, unknown


@lru_cache(maxsize=50_000)
def spelled(taxonomy: Taxonomy, code: str) -> str | None:
    """The code as the taxonomy spells it; None for what is no code."""
    if len(code) > MAX_CODE_CHARACTERS:
        return None
    try:
        return taxonomy.normalise(code)
    except UnknownCode:
        return None


def _values(value: Mapping[str, Any], control: CodeControl) -> Iterator[str]:
    """Labels, choices, ends of paths, or texts; with labels, `text` is what was highlighted."""
    key = next((key for key in _VALUE_KEYS if value.get(key)), "")
    found = value.get(key)
    for part in found if isinstance(found, list) else [found]:
        end = part[-1] if isinstance(part, list) and part else part
        if isinstance(end, str):
            yield from control.parts(end)


def _names(value: Any) -> list[str]:
    parts = value.splitlines() if isinstance(value, str) else value
    return [p for p in parts if isinstance(p, str) and p.strip()] if isinstance(parts, list) else []


def _years(value: Any) -> float | None:
    try:
        years = float(value)
    except (TypeError, ValueError):
        return None
    return years if 0 <= years <= 130 else None
