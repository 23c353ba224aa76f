"""Annotations and exports back to clean codes, evidence spans and effort.

Skipped annotations, bad items and superseded ones are reported by task and annotation id.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from label_config.cards import OTHER
from label_config.errors import DataError
from label_config.export_file import stream_tasks
from label_config.files import Problem, ReadReport
from label_config.html import RecordPage
from label_config.interface import CONTROLS
from label_config.record import Coding, EvidenceSpan, Quality
from label_config.task import read_emr

Item = dict[str, Any]
NO_TASK = Problem("export", "holds an entry that is not a task")


def read_annotation(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> Coding:
    """The clean coding of one submitted annotation; items that cannot be read are left out.

    Raises DataError for a skipped annotation, or a task that `build_task` did not make.
    """
    return read_with_problems(task, annotation)[0]


def read_with_problems(
    task: Mapping[str, Any], annotation: Mapping[str, Any]
) -> tuple[Coding, list[str]]:
    """The same, and what had to be left out."""
    reader = _AnnotationReader(task, annotation)
    return reader.coding(), reader.problems


@dataclass(slots=True)
class Export(ReadReport[Coding]):
    """Codings and problems, and the EMRs that every coder who saw them skipped."""

    skipped: list[str] = field(default_factory=list)


def read_export(source: Path | Iterable[Mapping[str, Any]]) -> Export:
    """Every EMR's starred or else latest annotation in a JSON export (a file, or its tasks).

    Raises DataError if the file is not a JSON export.
    """
    report, skipped = Export(), dict[str, None]()
    latest: dict[str, tuple[tuple[bool, str, int], str, Coding]] = {}
    for task in stream_tasks(source, CONTROLS) if isinstance(source, Path) else source:
        if not isinstance(task, Mapping):
            report.problems.append(NO_TASK)
            continue
        for annotation in annotations_of(task):
            where = place_of(task, annotation)
            if annotation.get("was_cancelled"):
                skipped[_emr_id(task)] = None
            try:
                coding, left_out = read_with_problems(task, annotation)
            except DataError as error:
                report.problems.append(Problem(where, str(error)))
                continue
            report.problems += [Problem(where, reason) for reason in left_out]
            known = latest.get(coding.emr_id)
            found = (age_of(annotation), where, coding)
            newer, older = (
                (found, known) if known is None or found[0] > known[0] else (known, found)
            )
            latest[coding.emr_id] = newer
            if older is not None:
                reason = f"EMR {coding.emr_id} has a later or starred one, {newer[1]}"
                report.problems.append(Problem(older[1], reason))
    report.records = [coding for _, _, coding in latest.values()]
    report.skipped = [emr_id for emr_id in skipped if emr_id and emr_id not in latest]
    return report


class _AnnotationReader:
    """Reads one annotation; `problems` names what had to be left out."""

    def __init__(self, task: Mapping[str, Any], annotation: Mapping[str, Any]) -> None:
        if annotation.get("was_cancelled"):
            raise DataError("skipped by the coder")
        self.problems: list[str] = []
        self._annotation = annotation
        self._emr = read_emr(task)
        self._page = RecordPage(self._emr)
        self._predicted = self._items(_prediction_result(task, annotation), report=False)
        self._items_by_name: dict[str, list[Item]] = {name: [] for name in CONTROLS}
        for item in self._items(annotation.get("result"), report=True):
            self._items_by_name[item["from_name"]].append(item)

    def coding(self) -> Coding:
        """Codes in order: the principal one, then as listed, then added, then highlighted."""
        listed = self._choices("codes")
        added = [code for item in self._items_by_name["other"] for code in _codes_of(item)]
        spans = self._spans()
        highlighted = [span.code for span, by_hand in spans if by_hand]
        codes = list(dict.fromkeys([*listed, *added, *highlighted]))
        principal = next(iter(self._choices("principal")), None)
        if principal == OTHER and added:
            principal = added[0]
        codes.sort(key=lambda code: code != principal)
        quality = next(iter(self._choices("quality")), "clean")
        return Coding(
            emr_id=self._emr.emr_id,
            codes=tuple(codes),
            source="clean",
            evidence=tuple(span for span, _ in spans if span.code in codes),
            coder=coder_of(self._annotation.get("completed_by")),
            seconds=number_of(self._annotation.get("lead_time")),
            quality=self._quality(quality),
            note="\n".join(t for i in self._items_by_name["note"] for t in _texts(i, "text")),
            suggested=tuple(self._suggested()),
        )

    def _items(self, result: object, *, report: bool) -> list[Item]:
        """The items whose outer shape can be read; the `show` radio is no answer."""
        good = []
        for index, item in enumerate(result if isinstance(result, list) else []):
            name = item.get("from_name") if isinstance(item, dict) else None
            if isinstance(name, str) and name in CONTROLS and isinstance(item.get("value"), dict):
                good.append(item)
            elif report:
                self.problems.append(f"item {index} belongs to no control of the interface")
        return good

    def _choices(self, name: str) -> list[str]:
        return [c for item in self._items_by_name[name] for c in _texts(item, "choices")]

    def _spans(self) -> list[tuple[EvidenceSpan, bool]]:
        """Every highlight, and whether a coder drew or changed it.

        A highlight that only the model made does not bring back a code that the coder unticked.
        """
        untouched = [_label_of(item) for item in self._predicted]
        found: list[tuple[EvidenceSpan, bool]] = []
        for item in self._items_by_name["evidence"]:
            origin = item.get("origin")
            by_hand = origin == "prediction-changed" or (
                origin != "prediction" and _label_of(item) not in untouched
            )
            try:
                code = self._code_of_region(item)
                spans = self._page.spans(item["value"])
            except DataError as error:
                self.problems.append(f"evidence {item.get('id')}: {error}")
                continue
            score = _score(item)
            found += [(EvidenceSpan(code, *span, score), by_hand) for span in spans]
        return found

    def _code_of_region(self, item: Item) -> str:
        label = next(iter(_texts(item, "labels")), None)
        if label is None:
            raise DataError("the region has no label")
        if label != OTHER:
            return label
        for other in self._items_by_name["evidence_code"]:
            if other.get("id") == item.get("id"):
                for code in _codes_of(other):
                    return code
        raise DataError("no code was chosen for it")

    def _quality(self, value: str) -> Quality:
        if value not in ("clean", "unsure", "bad"):
            self.problems.append("quality is not one of clean, unsure, bad")
            return "unsure"
        return value  # type: ignore[return-value]  # one of the three by the check above

    def _suggested(self) -> list[str]:
        codes = []
        for item in self._predicted:
            if item["from_name"] == "codes":
                codes += _texts(item, "choices")
            elif item["from_name"] == "other":
                codes += _codes_of(item)
        return list(dict.fromkeys(codes))


def _emr_id(task: Mapping[str, Any]) -> str:
    data = task.get("data")
    return str(data.get("emr_id") or "") if isinstance(data, Mapping) else ""


def _prediction_result(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> object:
    """What the coder saw: the prediction that the annotation names, else the copy that it holds,
    else the latest one made before it.

    The copy is of the version that the project showed at Submit, so it comes second.
    """
    found = task.get("predictions")
    predictions = [p for p in found if isinstance(p, dict)] if isinstance(found, list) else []
    parent = annotation.get("parent_prediction")
    for prediction in predictions:
        if parent is not None and prediction.get("id") == parent:
            return prediction.get("result")
    copy = annotation.get("prediction")
    if isinstance(copy, dict) and copy.get("result"):
        return copy["result"]
    begun = str(annotation.get("draft_created_at") or annotation.get("created_at") or "")
    earlier = [p for p in predictions if str(p.get("created_at") or "") <= begun]
    latest = max(earlier, key=lambda p: str(p.get("created_at") or ""), default={})
    return latest.get("result")


def _texts(item: Item, key: str) -> list[str]:
    values = item["value"].get(key)
    if isinstance(values, str):
        values = [values]
    return [v for v in values if isinstance(v, str) and v] if isinstance(values, list) else []


def _label_of(item: Item) -> tuple[str, list[str]]:
    """What tells a region: its id and its label."""
    return str(item.get("id")), _texts(item, "labels")


def _codes_of(item: Item) -> list[str]:
    """The last step of each path."""
    paths = item["value"].get("taxonomy")
    ends = [p[-1] for p in paths if isinstance(p, list) and p] if isinstance(paths, list) else []
    return [code for code in ends if isinstance(code, str) and code]


def _score(item: Item) -> float:
    score = number_of(item.get("score"))
    return score if score is not None and score <= 1.0 else 1.0


def coder_of(value: object) -> str | None:
    """Label Studio's user id, or the address that a table holds instead."""
    if isinstance(value, dict):
        value = value.get("id")
    return None if value is None else str(value)


def number_of(value: object) -> float | None:
    """A finite number from 0 up, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= sys.float_info.max else None


def age_of(annotation: Mapping[str, Any]) -> tuple[bool, str, int]:
    """Sorts later annotations last (ISO time of the last change, then the id), starred ones behind.

    Label Studio's star, "ground truth", is how an adjudicator settles a dispute between coders.
    """
    number = annotation.get("id")
    return (
        annotation.get("ground_truth") is True,
        str(annotation.get("updated_at") or ""),
        number if isinstance(number, int) else 0,
    )


def annotations_of(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The task's annotations, skipped ones included, drafts not."""
    found = task.get("annotations") or []
    return [a for a in found if isinstance(a, Mapping)] if isinstance(found, list) else []


def place_of(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> str:
    """Names an annotation by Label Studio's numbers; what is no number is not repeated."""
    ids = [v if isinstance(v, int) else "?" for v in (task.get("id"), annotation.get("id"))]
    return f"task {ids[0]} annotation {ids[1]}"
