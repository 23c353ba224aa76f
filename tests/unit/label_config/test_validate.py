"""Nothing that would break the editor or be dropped without a word passes."""

from __future__ import annotations

import copy

import pytest

from label_config.errors import DataError
from label_config.task import build_task
from label_config.validate import keep_answer, keep_valid, validate_result


@pytest.fixture
def task(stroke_emr, stroke_suggestions, small_taxonomy):
    return build_task(stroke_emr, stroke_suggestions, small_taxonomy, batch="b", order=1)


@pytest.fixture
def result(task):
    return copy.deepcopy(task["predictions"][0]["result"])


def by_name(result, name):
    return next(item for item in result if item["from_name"] == name)


def test_what_we_build_is_valid(task, result) -> None:
    assert validate_result(result, task["data"]) == []


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("codes", {"from_name": "gone"}, "names no control"),
        ("codes", {"from_name": ["codes"]}, "names no control"),
        ("codes", {"to_name": "other"}, "to_name"),
        ("codes", {"type": "labels"}, "type of codes"),
        ("codes", {"value": None}, "value is missing"),
        ("codes", {"value": {}}, "must hold a list"),
        ("codes", {"value": {"choices": []}}, "must hold a list"),
        ("codes", {"value": {"choices": ["I48.9"]}}, "does not offer"),
        ("codes", {"value": {"choices": ["I10", "I10"]}}, "repeats a choice"),
        ("codes", {"value": {"choices": [1]}}, "must hold texts"),
        ("codes", {"score": float("nan")}, "score must lie"),
        ("codes", {"score": float("inf")}, "score must lie"),
        ("codes", {"score": 1.5}, "score must lie"),
        ("codes", {"score": "high"}, "score must be a number"),
        ("codes", {"score": None}, "score must be a number"),
        ("codes", {"score": True}, "score must be a number"),
        ("principal", {"value": {"choices": ["I10", "I63.9"]}}, "takes one choice"),
        ("evidence", {"id": None}, "needs an id"),
        ("evidence", {"value": {"labels": ["I10"]}}, "no place on this page"),
    ],
)
def test_a_bad_item_is_named_and_the_others_are_kept(task, result, name, change, reason) -> None:
    by_name(result, name).update(change)
    good, problems = keep_valid(result, task["data"])
    assert len(good) == len(result) - 1
    [problem] = problems
    assert reason in problem.reason
    assert problem.where.startswith("item ")


def test_offsets_outside_the_text_are_refused(task, result) -> None:
    by_name(result, "evidence")["value"]["endOffset"] = 10_000
    assert "offset must be at most" in validate_result(result, task["data"])[0].reason


def test_a_region_id_may_not_stand_twice(task, result) -> None:
    result.append(copy.deepcopy(by_name(result, "evidence")))
    assert "repeats a region id" in validate_result(result, task["data"])[0].reason


def test_a_control_answers_once(task, result) -> None:
    result.append(copy.deepcopy(by_name(result, "codes")))
    assert "stands twice" in validate_result(result, task["data"])[0].reason


def test_a_code_without_its_region_is_refused(task, result) -> None:
    region = by_name(result, "evidence")
    value = {**region["value"], "taxonomy": [["9", "I10"]]}
    orphan = {"from_name": "evidence_code", "to_name": "emr", "type": "taxonomy", "id": "x"}
    result.append({**orphan, "value": value})
    assert "must follow its region" in validate_result(result, task["data"])[0].reason


@pytest.mark.parametrize("path", [[], ["A", ""], "I10", [1], None])
def test_a_tree_path_must_be_codes(task, path) -> None:
    item = {"from_name": "other", "to_name": "emr", "type": "taxonomy"}
    problems = validate_result([{**item, "value": {"taxonomy": [path]}}], task["data"])
    assert "paths of codes" in problems[0].reason


@pytest.mark.parametrize("result", [None, {}, "x", 3])
def test_a_result_that_is_no_list_is_refused_whole(task, result) -> None:
    assert keep_valid(result, task["data"])[0] == []
    assert "must be a list" in validate_result(result, task["data"])[0].reason


def test_items_that_are_no_objects_are_refused(task) -> None:
    assert len(validate_result([None, 1, "x", []], task["data"])) == 4


def test_a_foreign_task_cannot_be_checked() -> None:
    with pytest.raises(DataError, match="not made by this project"):
        validate_result([], {"text": "abc"})


# -- answers to an open editor --------------------------------------------------------------------

FRESH = "5f3a9c0b7d21"


@pytest.fixture
def drawn(result):
    """The region that a coder has just drawn."""
    return {**copy.deepcopy(by_name(result, "evidence")), "id": "Tl4u2mpfeH", "origin": "manual"}


def answered(items, task, *drawn, fresh=FRESH):
    return keep_answer(items, task, {"result": list(drawn)}, fresh=fresh)


def test_an_answer_may_change_classifications_and_add_a_region_with_a_fresh_id(
    task, result
) -> None:
    region = {**by_name(result, "evidence"), "id": f"s9_I10_k1_1{FRESH}"}
    answer = [by_name(result, "codes"), region]
    assert answered(answer, task) == (answer, [])


def test_an_answer_never_repeats_a_region_that_the_editor_holds(task, result) -> None:
    region = by_name(result, "evidence")
    good, [problem] = answered([region], task)
    assert good == []
    assert "id that the editor may hold" in problem.reason


@pytest.mark.parametrize("where", ["predictions", "drafts", "annotations"])
def test_a_fresh_text_that_is_not_fresh_is_no_protection(task, result, where) -> None:
    region = {**by_name(result, "evidence"), "id": f"s9_I10_k1_1{FRESH}"}
    seen = {**task, where: [{"id": 1, "result": [region]}]}
    assert answered([region], seen)[0] == []


@pytest.mark.parametrize("fresh", ["", "s", "s9_I10"])
def test_a_short_fresh_text_is_none(task, result, fresh) -> None:
    region = {**by_name(result, "evidence"), "id": f"new{fresh}"}
    assert answered([region], task, fresh=fresh)[0] == []


def test_the_drawn_region_may_be_echoed_with_another_label_where_it_was_drawn(task, drawn) -> None:
    echo = copy.deepcopy(drawn)
    echo["value"]["labels"] = ["I10"]
    assert answered([echo], task, drawn) == ([echo], [])
    echo["value"]["startOffset"] += 1
    assert answered([echo], task, drawn)[0] == []


def test_a_code_whose_region_was_refused_is_refused_with_it(task, result) -> None:
    region = by_name(result, "evidence")
    region = {**region, "value": {**region["value"], "labels": ["Other"]}}
    value = {k: v for k, v in region["value"].items() if k != "labels"}
    code = {**region, "from_name": "evidence_code", "type": "taxonomy"}
    code["value"] = {**value, "taxonomy": [["9", "I10"]]}
    assert answered([region, code], task)[0] == []


def test_a_bad_item_in_an_answer_is_dropped_like_anywhere_else(task) -> None:
    answer = [{"from_name": "ask", "to_name": "emr", "type": "textarea"}, {"x": 1}, None]
    good, problems = answered(answer, task)
    assert good == [] and len(problems) == 3
