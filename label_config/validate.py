"""Check every item of a result before it leaves: Label Studio does not, and a bad one can make a
task unusable.

An item without a value destroys the editor, a score that is not a number makes the task answer
HTTP 400, and unknown names or offsets are dropped without a word. An answer to an open editor must
not name a region that is there already: that destroys it as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from label_config.cards import OTHER
from label_config.errors import DataError
from label_config.files import Problem
from label_config.html import RecordPage
from label_config.interface import CONTROLS, THRESHOLDS
from label_config.task import OBJECT, candidate_codes, read_emr

Item = dict[str, Any]
_QUALITIES = ("clean", "unsure", "bad")
_REGION_CONTROLS = ("evidence", "evidence_code")
_PLACE = ("start", "end", "startOffset", "endOffset")
SHORTEST_FRESH = 8


def validate_result(result: object, data: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a result for the task that holds `data`; empty if nothing is."""
    return keep_valid(result, data)[1]


def keep_valid(result: object, data: Mapping[str, Any]) -> tuple[list[Item], list[Problem]]:
    """The items that may be sent, and the problems of the others, by their index.

    Raises DataError if `data` was not made by `build_task`.
    """
    if not isinstance(result, list):
        return [], [Problem("result", f"must be a list, got {type(result).__name__}")]
    checker = _Checker(data)
    good: list[Item] = []
    problems: list[Problem] = []
    for index, item in enumerate(result):
        try:
            checker.check(item)
        except DataError as error:
            problems.append(Problem(f"item {index}", str(error)))
        else:
            good.append(item)
    return good, problems


def keep_answer(
    result: object, task: Mapping[str, Any], context: Mapping[str, Any], *, fresh: str
) -> tuple[list[Item], list[Problem]]:
    """Of an answer to the open editor, what may be sent, and the problems of the rest.

    A region must be the drawn one of `context`, where it was drawn, or bear an id with the random
    text `fresh`, which no region that the editor holds can have. Raises DataError as `keep_valid`.
    """
    good, problems = keep_valid(result, task["data"])
    drawn = {str(i.get("id")): i.get("value") for i in items_of(context.get("result"), "evidence")}
    is_new = len(fresh) >= SHORTEST_FRESH and fresh not in json.dumps([task, context], default=str)
    kept: list[Item] = []
    for item in good:
        is_safe = item["from_name"] not in _REGION_CONTROLS or _is_echo(item, drawn)
        if is_safe or (is_new and fresh in item["id"]):
            kept.append(item)
        else:
            problems.append(Problem("answer", "a region bears an id that the editor may hold"))
    return kept, problems


def items_of(result: object, name: str) -> list[Item]:
    """The items of one control in a result, those with a value."""
    found = [i for i in result if isinstance(i, dict)] if isinstance(result, list) else []
    return [i for i in found if i.get("from_name") == name and isinstance(i.get("value"), dict)]


def _is_echo(item: Item, drawn: Mapping[str, Any]) -> bool:
    value = drawn.get(item["id"])
    return value is not None and all(item["value"].get(k) == value.get(k) for k in _PLACE)


class _Checker:
    """Knows what one task can show, and which ids and controls earlier items have taken."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        task = {"data": dict(data)}
        self._page = RecordPage(read_emr(task))
        codes = candidate_codes(task)
        self._choices: dict[str, tuple[str, ...]] = {
            "codes": tuple(codes),
            "principal": (*codes, OTHER),
            "quality": _QUALITIES,
            "show": (*THRESHOLDS, "all"),
            "evidence": (*codes, OTHER),
        }
        self._taken: set[tuple[str, str]] = set()

    def check(self, item: object) -> None:
        """Raise DataError if the item must not be sent."""
        if not isinstance(item, dict):
            raise DataError(f"must be an object, got {type(item).__name__}")
        name = item.get("from_name")
        if not isinstance(name, str) or name not in CONTROLS:
            raise DataError("from_name names no control of the interface")
        if item.get("to_name") != OBJECT:
            raise DataError(f"to_name must be {OBJECT!r}")
        kind = CONTROLS[name]
        if item.get("type") != kind:
            raise DataError(f"type of {name} must be {kind!r}")
        value = item.get("value")
        if not isinstance(value, dict):
            raise DataError("value is missing")
        self._check_score(item)
        self._check_value(name, kind, value)
        self._take(name, item)

    def _check_score(self, item: Item) -> None:
        score = item.get("score", 0.0)
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise DataError(f"score must be a number, got {type(score).__name__}")
        if not math.isfinite(score) or not 0.0 <= score <= 1.0:
            raise DataError("score must lie in 0 to 1")

    def _check_value(self, name: str, kind: str, value: Item) -> None:
        content = value.get(kind if kind != "textarea" else "text")
        if not isinstance(content, list) or not content:
            raise DataError(f"value of {name} must hold a list")
        if kind == "taxonomy":
            if not all(_is_path(path) for path in content):
                raise DataError(f"{name} must hold paths of codes")
        elif not all(isinstance(part, str) for part in content):
            raise DataError(f"{name} must hold texts")
        elif name in self._choices and not set(content) <= set(self._choices[name]):
            raise DataError(f"{name} holds a choice that the task does not offer")
        if name in ("principal", "quality", "show", *_REGION_CONTROLS) and len(content) != 1:
            raise DataError(f"{name} takes one choice, got {len(content)}")
        if len({str(part) for part in content}) != len(content):
            raise DataError(f"{name} repeats a choice")
        if name in _REGION_CONTROLS:
            self._page.spans(value)

    def _take(self, name: str, item: Item) -> None:
        """Each control answers once; of a region's id there is one label and one code."""
        region = item.get("id")
        if name in _REGION_CONTROLS:
            if not isinstance(region, str) or not region:
                raise DataError("a region needs an id")
            if name == "evidence_code" and ("evidence", region) not in self._taken:
                raise DataError("a code for evidence must follow its region")
        key = (name, region if name in _REGION_CONTROLS and isinstance(region, str) else "")
        if key in self._taken:
            raise DataError(f"{name} repeats a region id" if key[1] else f"{name} stands twice")
        self._taken.add(key)


def _is_path(path: object) -> bool:
    return isinstance(path, list) and bool(path) and all(isinstance(p, str) and p for p in path)
