"""Interfaces that others have made: each kind of control that can hold codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from label_config.errors import ConfigError, DataError
from label_config.mapping import ExportMapping
from label_config.record import EvidenceSpan

TEXT = "Hypertension for 15 years. Had a stroke in May."
YAML = """
emr_id: admission
sections:
  History: note
diagnoses: names
sex: gender
age: years
codes:
  - control: icd
    pattern: '^(\\S+)'
  - control: tree
  - control: free
    separator: ';'
  - control: marks
    map: {Stroke: I63.9, Both: [I10, e119]}
principal: main
"""


@pytest.fixture
def mapping(tmp_path: Path) -> ExportMapping:
    (tmp_path / "mapping.yaml").write_text(YAML)
    return ExportMapping.from_yaml(tmp_path / "mapping.yaml")


@pytest.fixture
def task() -> dict:
    data = {"admission": 81, "note": TEXT, "names": "HTN\nStroke\n", "gender": "F", "years": "71"}
    return {"id": 3, "data": data}


def item(control: str, **value: object) -> dict:
    return {"from_name": control, "to_name": "x", "value": value}


def test_fields_become_the_record(mapping: ExportMapping, task: dict) -> None:
    emr = mapping.emr(task)
    assert (emr.emr_id, dict(emr.sections)) == ("81", {"History": TEXT})
    assert [d.name for d in emr.diagnoses] == ["HTN", "Stroke"]
    assert (emr.sex, emr.age) == ("female", 71.0)


def test_choices_taxonomy_text_and_labels_become_codes(
    mapping: ExportMapping, task: dict, small_taxonomy
) -> None:
    start = TEXT.index("stroke")
    place = {"start": start, "end": start + 6, "text": "stroke"}
    annotation = {
        "result": [
            item("icd", choices=["I10 Essential hypertension"]),
            item("tree", taxonomy=[["9", "I48", "I48.9"]]),
            item("free", text=["i10; E11.9"]),
            item("marks", **place, labels=["Stroke"]),
            item("main", choices=["I63.9 Cerebral infarction"]),
            item("elsewhere", choices=["E11"]),
        ],
        "completed_by": {"id": 4, "email": "x@y.z"},
        "lead_time": 12,
    }
    coding, problems = mapping.coding(mapping.emr(task), annotation, small_taxonomy)
    assert coding.codes == ("I63.9", "I10", "I48.9", "E11.9"), "the principal one first"
    assert coding.evidence == (EvidenceSpan("I63.9", "History", start, start + 6),)
    assert (coding.source, coding.coder, coding.seconds) == ("clean", "4", 12.0)
    assert problems == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (item("icd", choices=["Nora Secret"]), "item 0 of 'icd': no code in 1 values"),
        (item("free", text=["I10;" + "Nora " * 50]), "item 0 of 'free': no code in 1 values"),
        (item("marks", start=0, end=999, labels=["Stroke"]), "does not fit"),
        (item("marks", start=0, end=4, text="Nora", labels=["Stroke"]), "does not fit"),
        (item("marks", start="/p[1]", labels=["Stroke"]), "has no place"),
    ],
)
def test_a_value_that_is_no_code_or_place_is_named_and_never_quoted(
    mapping: ExportMapping, task: dict, small_taxonomy, bad: dict, reason: str
) -> None:
    coding, problems = mapping.coding(mapping.emr(task), {"result": [bad]}, small_taxonomy)
    [problem] = problems
    assert coding.quality == ("unsure" if "no code" in reason else "clean")
    assert reason in problem
    assert "Nora" not in problem


def test_labels_on_a_page_are_placed_by_their_offsets_in_the_whole_text(
    mapping: ExportMapping, task: dict, small_taxonomy
) -> None:
    offsets = {"start": 0, "end": 12}
    marks = item("marks", start="/x[1]", globalOffsets=offsets, text=TEXT[:12], labels=["Both"])
    coding, _ = mapping.coding(mapping.emr(task), {"result": [marks]}, small_taxonomy)
    assert coding.codes == ("I10", "E11.9")
    assert {(s.start, s.end) for s in coding.evidence} == {(0, 12)}


def test_a_task_without_its_id_or_text_is_refused(mapping: ExportMapping, task: dict) -> None:
    for broken in ({}, {"data": {"note": TEXT}}, {"data": {"admission": 81}}, {"data": 3}):
        with pytest.raises(DataError):
            mapping.emr(broken)
    by_number = ExportMapping({"History": "note"}, mapping.codes)
    assert by_number.emr(task).emr_id == "task-3"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sections: {A: a}", "codes: Field required"),
        ("sections: {A: a}\ncodes: []", "at least one control"),
        ("codes: [{control: x}]", "sections"),
        ("sections: {A: a}\ncodes: [{control: x, section: B}]", "section 'B'; the mapping has: A"),
        ("sections: {A: a}\ncodes: [{control: x, pattern: '('}]", "pattern of control 'x'"),
        ("sections: {A: a}\ncodes: [{control: x, colour: red}]", "colour"),
        ("sections: {A: a}\ncodes: [{control: x, map: {1: 2}}]", "codes.0.map"),
        ("- a", "the file"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_mapping_that_cannot_work_says_why(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        ExportMapping.from_yaml(tmp_path / "m.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        ExportMapping.from_yaml(tmp_path / "none.yaml")
