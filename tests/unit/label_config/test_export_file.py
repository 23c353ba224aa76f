"""Label Studio's own converter writes the tables; what comes back is what JSON says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from label_studio_sdk.converter import Converter

from label_config.annotation import read_export
from label_config.errors import DataError
from label_config.export_file import stream_tasks
from label_config.interface import CONTROLS, build_interface
from label_config.task import build_task

PLACE = {
    "start": "/div[1]/section[2]/p[1]/text()[1]",
    "end": "/div[1]/section[2]/p[1]/text()[1]",
    "startOffset": 44,
    "endOffset": 50,
}


@pytest.fixture
def tasks(stroke_emr, stroke_suggestions, small_taxonomy) -> list[dict]:
    """An annotated task, as `exportType=JSON` has it, and one that nobody has opened."""
    made = build_task(stroke_emr, stroke_suggestions, small_taxonomy, batch="b", order=1)
    task = json.loads(json.dumps({**made, "id": 12}))
    [prediction] = task["predictions"]
    result = [{**item, "origin": "prediction"} for item in copy.deepcopy(prediction["result"])]
    other = {**PLACE, "text": "Smoker"}
    result += [
        {
            "from_name": "evidence", "type": "labels", "id": "x",
            "value": {**other, "labels": ["Other"]},
        },
        {
            "from_name": "evidence_code", "type": "taxonomy", "id": "x",
            "value": {**other, "taxonomy": [["9", "I48", "I48.9"]]},
        },
        {"from_name": "other", "type": "taxonomy", "value": {"taxonomy": [["9", "I48", "I48.9"]]}},
        {"from_name": "quality", "type": "choices", "value": {"choices": ["clean"]}},
        {"from_name": "note", "type": "textarea", "value": {"text": ["[see the film"]}},
    ]  # fmt: skip
    annotation = {
        "id": 5,
        "completed_by": 3,
        "lead_time": 31.5,
        "was_cancelled": False,
        "created_at": "2026-01-02T09:00:00Z",
        "updated_at": "2026-01-02T10:00:00Z",
        "result": [{**item, "to_name": "emr"} for item in result],
        "prediction": prediction,
    }
    return [
        {**task, "annotations": [annotation], "predictions": [7]},
        {**task, "id": 13, "annotations": []},
    ]


@pytest.fixture
def convert(tmp_path: Path, tasks: list[dict]) -> Callable[[str], Path]:
    """Writes the tasks as Label Studio would, in one of its formats."""

    def convert(kind: str) -> Path:
        source = tmp_path / "source.json"
        source.write_text(json.dumps(tasks))
        converter = Converter(build_interface(taxonomy_url="http://x/t.json"), str(tmp_path))
        out = tmp_path / kind
        converter.convert(str(source), str(out), kind.upper(), is_dir=False)
        [made] = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
        return made.rename(
            tmp_path / f"export.{'json' if 'json' in kind.lower() else kind.lower()}"
        )

    return convert


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN", "CSV", "TSV"])
def test_every_format_gives_the_same_codes_and_highlights(
    convert: Callable[[str], Path], tasks: list[dict], kind: str
) -> None:
    [expected] = read_export(tasks).records
    report = read_export(convert(kind))
    [found] = report.records
    assert found.codes == expected.codes == ("I10", "I63.9", "I48.9")
    assert [(s.code, s.section, s.start, s.end) for s in found.evidence] == [
        (s.code, s.section, s.start, s.end) for s in expected.evidence
    ]
    assert (found.quality, found.note, found.seconds, found.coder) == (
        "clean", "[see the film", 31.5, "3"
    )  # fmt: skip
    assert found.suggested == (expected.suggested if kind == "JSON" else ())
    assert report.problems == []


@pytest.mark.parametrize("kind", ["JSON_MIN", "CSV"])
def test_a_table_s_highlight_for_an_unticked_code_brings_nothing_back(
    convert: Callable[[str], Path], tasks: list[dict], kind: str
) -> None:
    [codes] = [i for i in tasks[0]["annotations"][0]["result"] if i["from_name"] == "codes"]
    codes["value"]["choices"] = ["I10"]
    report = read_export(convert(kind))
    assert report.records[0].codes == ("I10", "I48.9")
    assert {span.code for span in report.records[0].evidence} == {"I10", "I48.9"}


def test_a_data_field_named_as_a_control_keeps_its_own_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"_data_text","annotation_id","id","text"\n"long",5,3,"I10"\n')
    [task] = stream_tasks(tmp_path / "a.csv", ["text"])
    assert task["data"] == {"text": "long"}
    assert task["annotations"][0]["result"][0]["value"]["text"] == ["I10"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b"", "list of tasks"),
        ("a.json", b'{"tasks": []}', "list of tasks"),
        ("a.json", b'[{"id": 1}, {"id', "not valid JSON after 1 entries"),
        ("a.json", b'[{"id": "\xff"}]', "not valid JSON after 0 entries|must be UTF-8"),
        ("a.csv", b"a,b\n1,2\n", "column annotation_id"),
        ("a.csv", b'annotation_id\n1\n"2', "not a valid table after 1 rows"),
        ("a.csv", b"annotation_id\n\xff\n", "must be UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_on_says_where(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        list(stream_tasks(tmp_path / name, CONTROLS))


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf [{"id": 1}]')
    assert list(stream_tasks(tmp_path / "a.json", CONTROLS)) == [{"id": 1}]
