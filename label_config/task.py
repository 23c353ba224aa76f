"""EMR and suggestions to a Label Studio task, prediction or result; and a task to its EMR.

Results are lists of items {from_name, to_name, type, value, ...}. A region's id is
`s9_I63_9_k2_1`: tenths of its score, code, place among the candidates (0 = none), running number;
the interface's style sheet reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from label_config import cards
from label_config.advice import advice_html, default_rules
from label_config.errors import DataError
from label_config.files import emr_from_dict, to_dict
from label_config.html import RecordPage
from label_config.interface import DEFAULT_SHOWN
from label_config.record import DIAGNOSIS_SECTION, EMR, EvidenceSpan, Quality
from label_config.rules import RuleBook
from label_config.suggestion import SuggestionSet
from label_config.taxonomy import Taxonomy

OBJECT = "emr"
"""Name of the object tag that every control refers to."""


def build_task(
    emr: EMR,
    suggestions: SuggestionSet | None,
    taxonomy: Taxonomy,
    *,
    batch: str,
    order: int,
    reason: str = "",
    rules: RuleBook | None = None,
    always: Sequence[str] = (),
) -> dict[str, Any]:
    """The task for `import_tasks`: {data, meta, predictions}; no prediction without suggestions.

    `order` is the EMR's place in its batch; `reason` says why it was chosen. `rules` advise the
    coder, every built-in one by default. Codes in `always` are listed even if nobody suggests
    them: for a small code set, all of it.
    """
    chosen = cards.choose_candidates(suggestions, always)
    codes = [s.code for s in chosen]
    confidence = {s.code: s.confidence for s in suggestions.suggestions} if suggestions else {}
    data = {
        "emr_id": emr.emr_id,
        "batch": batch,
        "order": order,
        "reason": reason,
        "about": _about(emr),
        "emr_html": RecordPage(emr).html,
        "candidates": cards.candidate_rows(chosen, taxonomy),
        "labels": cards.labels(codes, taxonomy),
        "principal_options": cards.principal_options(codes, taxonomy),
        "advice": advice_html(emr, codes, confidence, rules or default_rules(taxonomy)),
        "similar": cards.similar_html(suggestions.similar if suggestions else (), taxonomy),
        "record": {k: v for k, v in to_dict(emr).items() if k != "patient_id"},
    }
    predictions = []
    if suggestions is not None:
        predictions.append(build_prediction(emr, suggestions, taxonomy, candidates=codes))
    meta = {"emr_id": emr.emr_id, "batch": batch, "order": order, "reason": reason}
    return {"data": data, "meta": meta, "predictions": predictions}


def build_prediction(
    emr: EMR,
    suggestions: SuggestionSet,
    taxonomy: Taxonomy,
    *,
    candidates: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The prediction {result, score, model_version} for a task that shows `candidates`.

    Without `candidates`, those that `build_task` would show. Ticked codes that are not among them
    go to the `other` control; unlisted codes that the taxonomy does not hold are left out. The
    score is the mean confidence of the ticked codes, 0 to 1.
    """
    if candidates is None:
        candidates = [s.code for s in cards.choose_candidates(suggestions)]
    listed = {code: place for place, code in enumerate(candidates, start=1)}
    ticked = [s for s in suggestions.ticked() if s.code in listed or s.code in taxonomy]
    shown = [s for s in suggestions.suggestions if s.code in listed or s in ticked]
    writer = ResultWriter(emr, listed, taxonomy)
    spans = [span for s in shown for span in s.evidence]
    principal = _principal(emr, [(s.code, s.evidence) for s in ticked])
    result = [_item("show", "choices", {"choices": [DEFAULT_SHOWN]})]
    result += writer.codes([s.code for s in ticked]) + writer.principal(principal)
    result += writer.evidence(spans)
    confidences = {s.code: s.confidence for s in ticked}
    for item in result:
        if item["from_name"] == "codes":
            chosen = [confidences[code] for code in item["value"]["choices"]]
            item["score"] = round(sum(chosen) / len(chosen), 4)
    score = sum(confidences.values()) / len(confidences) if confidences else 0.0
    return {
        "result": result,
        "score": round(score, 4),
        "model_version": suggestions.model_version,
    }


def build_result(
    emr: EMR,
    codes: Sequence[str],
    evidence: Iterable[EvidenceSpan],
    *,
    candidates: Sequence[str],
    principal: str | None,
    quality: Quality,
    note: str = "",
    taxonomy: Taxonomy | None = None,
) -> list[dict[str, Any]]:
    """The result that Submit would send for these codes, highlights and answers.

    Without a taxonomy the path of a code outside `candidates` is the code alone.
    """
    listed = {code: place for place, code in enumerate(candidates, start=1)}
    writer = ResultWriter(emr, listed, taxonomy)
    result = writer.codes(codes) + writer.principal(principal) + writer.evidence(evidence)
    result.append(_item("quality", "choices", {"choices": [quality]}))
    if note.strip():
        result.append(_item("note", "textarea", {"text": [note]}))
    return [{**item, "origin": "manual"} for item in result]


def read_emr(task: Mapping[str, Any]) -> EMR:
    """The EMR that a task shows. Raises DataError for a task that `build_task` did not make."""
    record = _data(task).get("record")
    if not isinstance(record, dict):
        raise DataError("the task holds no record: it was not made by this project")
    return emr_from_dict(record)


def candidate_codes(task: Mapping[str, Any]) -> list[str]:
    """The codes that the task's `codes` control lists, in their order."""
    rows = _data(task).get("candidates")
    rows = rows if isinstance(rows, list) else []
    codes = [row.get("alias", row.get("value")) for row in rows if isinstance(row, dict)]
    return [code for code in codes if isinstance(code, str)]


class ResultWriter:
    """Writes the items of a result for one EMR and one list of candidates."""

    def __init__(
        self,
        emr: EMR,
        listed: Mapping[str, int],
        taxonomy: Taxonomy | None,
        *,
        suffix: str = "",
    ) -> None:
        """`listed` maps each candidate code to its place, counted from 1.

        Region ids end on `suffix`, so that an answer's cannot be those that the editor holds.
        """
        self._page = RecordPage(emr)
        self._listed = listed
        self._taxonomy = taxonomy
        self._suffix = suffix

    def codes(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """The `codes` item, and the `other` item for codes that are not listed."""
        ticked = [c for c in codes if c in self._listed]
        added = [self._path(c) for c in codes if c not in self._listed]
        items = []
        if ticked:
            items.append(_item("codes", "choices", {"choices": ticked}))
        if added:
            items.append(_item("other", "taxonomy", {"taxonomy": added}))
        return items

    def principal(self, code: str | None) -> list[dict[str, Any]]:
        """The `principal` item; none without a code."""
        if code is None:
            return []
        choice = code if code in self._listed else cards.OTHER
        return [_item("principal", "choices", {"choices": [choice]})]

    def evidence(self, spans: Iterable[EvidenceSpan]) -> list[dict[str, Any]]:
        """One region per span, without repeats; spans that lie outside the text are left out."""
        items: list[dict[str, Any]] = []
        seen: set[tuple[str, str, int, int]] = set()
        for span in spans:
            key = (span.code, span.section, span.start, span.end)
            try:
                value = self._page.region(span.section, span.start, span.end)
            except DataError:
                continue
            if key not in seen:
                seen.add(key)
                items += self._region(span, value, number=len(seen))
        return items

    def _region(
        self, span: EvidenceSpan, value: dict[str, Any], *, number: int
    ) -> list[dict[str, Any]]:
        place = self._listed.get(span.code, 0)
        region = _region_id(span, place, number) + self._suffix
        common = {"id": region, "score": round(span.score, 4)}
        label = span.code if place else cards.OTHER
        items = [_item("evidence", "labels", {**value, "labels": [label]}, **common)]
        if not place:
            code = {**value, "taxonomy": [self._path(span.code)]}
            items.append(_item("evidence_code", "taxonomy", code, **common))
        return items

    def relabel(self, region: Mapping[str, Any], code: str) -> list[dict[str, Any]]:
        """The same region as evidence for another code."""
        place = {k: v for k, v in region["value"].items() if k != "labels"}
        label = code if code in self._listed else cards.OTHER
        items = [_item("evidence", "labels", {**place, "labels": [label]}, id=region["id"])]
        if label == cards.OTHER:
            path = {**place, "taxonomy": [self._path(code)]}
            items.append(_item("evidence_code", "taxonomy", path, id=region["id"]))
        return items

    def _path(self, code: str) -> list[str]:
        """From the chapter down to the code, as the taxonomy control stores it."""
        if self._taxonomy is None or code not in self._taxonomy:
            return [code]
        return [*reversed(self._taxonomy.ancestors(code)), code]


def _item(name: str, kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": OBJECT, "type": kind, "value": value, **more}


def _region_id(span: EvidenceSpan, place: int, number: int) -> str:
    tenths = min(int(span.score * 10), 9)
    slug = re.sub(r"[^A-Za-z0-9]+", "_", span.code)
    return f"s{tenths}_{slug}_k{place}_{number}"


def _principal(emr: EMR, ticked: Sequence[tuple[str, Sequence[EvidenceSpan]]]) -> str | None:
    """The code with evidence in the first diagnosis name, else the most confident one.

    Records put the principal diagnosis first.
    """
    first_line = emr.diagnosis_text.partition("\n")[0]
    for code, spans in ticked:
        if any(s.section == DIAGNOSIS_SECTION and s.start < len(first_line) for s in spans):
            return code
    return ticked[0][0] if ticked else None


def _about(emr: EMR) -> str:
    age = f"{emr.age:g} years" if emr.age is not None else None
    return " · ".join(part for part in (emr.emr_id, emr.sex, age) if part)


def _data(task: Mapping[str, Any]) -> Mapping[str, Any]:
    data = task.get("data")
    if not isinstance(data, dict):
        raise DataError("a task needs data, got none")
    return data
