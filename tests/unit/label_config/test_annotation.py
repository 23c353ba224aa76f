"""Annotations and exports to clean codings; what is left out is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.annotation import read_annotation, read_export
from label_config.errors import DataError
from label_config.record import EvidenceSpan
from label_config.task import build_task


@pytest.fixture
def task(stroke_emr, stroke_suggestions, small_taxonomy):
    made = build_task(stroke_emr, stroke_suggestions, small_taxonomy, batch="b", order=1)
    return json.loads(json.dumps({**made, "id": 12}))


@pytest.fixture
def annotation(task):
    """The prediction, submitted as it stands."""
    [prediction] = task["predictions"]
    result = [{**item, "origin": "prediction"} for item in copy.deepcopy(prediction["result"])]
    return {
        "id": 5,
        "completed_by": 3,
        "lead_time": 31.5,
        "was_cancelled": False,
        "updated_at": "2026-01-02T10:00:00Z",
        "result": result,
        "prediction": prediction,
    }


def item(annotation, name):
    return next(i for i in annotation["result"] if i["from_name"] == name)


def drawn(annotation, code, **changes):
    """A region that the coder drew over "Smoker" and labelled."""
    region = copy.deepcopy(item(annotation, "evidence"))
    region["value"] |= {
        "start": "/div[1]/section[2]/p[1]/text()[1]",
        "end": "/div[1]/section[2]/p[1]/text()[1]",
        "startOffset": 44,
        "endOffset": 50,
        "labels": [code],
    }
    region.pop("score")
    annotation["result"].append({**region, "id": "aB3", "origin": "manual", **changes})


def test_a_submitted_prediction_reads_as_clean_codes(task, annotation, stroke_suggestions) -> None:
    coding = read_annotation(task, annotation)
    assert coding.emr_id == "EMR-1"
    assert coding.codes == ("I10", "I63.9"), "the principal diagnosis first"
    assert coding.source == "clean"
    assert (coding.coder, coding.seconds, coding.quality) == ("3", 31.5, "clean")
    assert coding.suggested == ("I63.9", "I10")
    expected = [s for one in stroke_suggestions.ticked() for s in one.evidence]
    assert list(coding.evidence) == expected


def test_evidence_of_a_code_that_the_coder_unticked_does_not_bring_it_back(
    task, annotation
) -> None:
    item(annotation, "codes")["value"]["choices"].remove("I63.9")
    coding = read_annotation(task, annotation)
    assert coding.codes == ("I10",)
    assert {span.code for span in coding.evidence} == {"I10"}


@pytest.mark.parametrize("changes", [{}, {"origin": "prediction-changed"}, {"origin": None}])
def test_evidence_that_the_coder_drew_adds_its_code(task, annotation, changes) -> None:
    drawn(annotation, "E11.9", **changes)
    coding = read_annotation(task, annotation)
    assert coding.codes == ("I10", "I63.9", "E11.9")
    assert EvidenceSpan("E11.9", "Past history", 44, 50) in coding.evidence


def test_evidence_without_an_origin_is_the_models_if_it_stands_in_the_prediction(
    task, annotation
) -> None:
    for region in annotation["result"]:
        region.pop("origin")
    assert "E11.9" not in read_annotation(task, annotation).codes


def test_evidence_labelled_other_takes_the_code_chosen_for_it(task, annotation) -> None:
    drawn(annotation, "Other")
    chosen = copy.deepcopy(annotation["result"][-1])
    chosen |= {"from_name": "evidence_code", "type": "taxonomy"}
    chosen["value"] = {**chosen["value"], "taxonomy": [["9", "I48", "I48.9"]]}
    annotation["result"].append(chosen)
    assert read_annotation(task, annotation).codes[-1] == "I48.9"


def test_the_principal_diagnosis_may_be_an_added_code(task, annotation) -> None:
    other = {"from_name": "other", "to_name": "emr", "type": "taxonomy"}
    annotation["result"].append({**other, "value": {"taxonomy": [["9", "I48", "I48.9"]]}})
    item(annotation, "principal")["value"]["choices"] = ["Other"]
    assert read_annotation(task, annotation).codes == ("I48.9", "I63.9", "I10")


def test_a_principal_diagnosis_that_was_unticked_is_not_a_code(task, annotation) -> None:
    item(annotation, "codes")["value"]["choices"].remove("I10")
    assert read_annotation(task, annotation).codes == ("I63.9",)


def test_what_was_suggested_is_what_the_coder_saw(task, annotation) -> None:
    seen = {"id": 7, "result": [], "created_at": "2026-01-01"}
    copied = copy.deepcopy(annotation)
    copied["parent_prediction"] = 7
    assert read_annotation({**task, "predictions": [seen]}, copied).suggested == ()
    without = {**annotation, "prediction": {}, "created_at": "2026-01-02"}
    older = {"created_at": "2026-01-01", "result": annotation["prediction"]["result"]}
    later = {"created_at": "2026-01-03", "result": []}
    tasks = {**task, "predictions": [older, later, 3]}
    assert read_annotation(tasks, without).suggested == ("I63.9", "I10")


def test_a_skipped_annotation_is_reported_and_not_coded(task, annotation) -> None:
    annotation |= {"was_cancelled": True, "result": []}
    with pytest.raises(DataError, match="skipped"):
        read_annotation(task, annotation)
    report = read_export([{**task, "annotations": [annotation]}])
    assert report.records == []
    assert [str(p) for p in report.problems] == ["task 12 annotation 5: skipped by the coder"]


def test_a_bad_item_is_left_out_and_named(task, annotation) -> None:
    item(annotation, "evidence")["value"]["start"] = "/x"
    annotation["result"] += [{"from_name": "gone", "value": {}}, {"from_name": "codes"}, 7]
    report = read_export([{**task, "annotations": [annotation]}])
    assert report.records[0].codes == ("I10", "I63.9")
    assert len(report.records[0].evidence) == 2
    reasons = [problem.reason for problem in report.problems]
    assert len(reasons) == 4
    assert "the region has no place on this page" in reasons[-1]
    assert all(problem.where == "task 12 annotation 5" for problem in report.problems)


def test_the_latest_annotation_of_an_emr_wins_and_the_others_are_named(task, annotation) -> None:
    later = {**copy.deepcopy(annotation), "id": 6, "updated_at": "2026-01-02T11:00:00Z"}
    item(later, "codes")["value"]["choices"] = ["I63.9"]
    again = {**task, "id": 99, "annotations": [annotation]}  # the EMR was imported twice
    for tasks in (
        [{**task, "annotations": [later]}, again],
        [again, {**task, "annotations": [later]}],
    ):
        report = read_export(tasks)
        assert [c.codes for c in report.records] == [("I63.9",)]
        assert [p.where for p in report.problems] == ["task 99 annotation 5"]


def test_an_export_file_is_read_and_a_broken_one_refused(tmp_path: Path, task, annotation) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{**task, "annotations": [annotation]}, {"annotations": None}, 3]))
    report = read_export(path)
    assert len(report.records) == 1
    assert [p.where for p in report.problems] == ["export"]
    path.write_text("[{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_export(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="list of tasks"):
        read_export(path)
    with pytest.raises(DataError, match="cannot read"):
        read_export(tmp_path / "none.json")


def test_a_project_made_elsewhere_gives_problems_and_no_coding() -> None:
    path = Path(__file__).parents[2] / "contract" / "recorded"
    recorded = json.loads(
        (path / "023_POST_webhook_ANNOTATION_CREATED__ann_create.json").read_text()
    )
    body = recorded["body"]
    report = read_export([{**body["task"], "annotations": [body["annotation"]]}])
    assert report.records == []
    assert "not made by this project" in report.problems[0].reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["codes", "other", "evidence", "evidence_code", "principal", "quality", "note"]
)
VALUES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("choices", "taxonomy", "labels", "text", "start"), JSON),
)
ITEMS = st.fixed_dictionaries(
    {"from_name": NAMES, "value": VALUES}, optional={"id": JSON, "score": JSON, "origin": JSON}
)


@given(
    result=st.lists(ITEMS | JSON, max_size=6),
    rest=st.dictionaries(
        st.sampled_from(
            ["completed_by", "lead_time", "prediction", "parent_prediction", "updated_at", "id"]
        ),
        JSON,
    ),
)
def test_no_annotation_however_broken_raises_more_than_a_data_error(
    result, rest, stroke_emr, stroke_suggestions, small_taxonomy
) -> None:
    task = build_task(stroke_emr, stroke_suggestions, small_taxonomy, batch="b", order=1)
    report = read_export([{**task, "annotations": [{**rest, "result": result}]}])
    assert len(report.records) + len(report.problems) >= 1


@pytest.mark.parametrize("seconds", [10**400, float("inf"), float("nan"), -1, "31", True])
def test_a_time_that_cannot_be_is_none(task, annotation, seconds):
    assert read_annotation(task, annotation | {"lead_time": seconds}).seconds is None
