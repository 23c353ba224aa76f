"""Answers to a coder who asks from the open editor."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.errors import CheckpointError, DataError
from label_config.record import EMR, Diagnosis
from label_config.rules import RuleBook
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.task import build_task
from label_config.taxonomy import CodeEntry, Taxonomy
from label_config.validate import validate_result
from ml_backend import interactive

TREE = {
    "9": ("Circulatory", None),
    "I10": ("Essential (primary) hypertension", "9"),
    "I48.91": ("Unspecified atrial fibrillation", "9"),
    "I63.9": ("Cerebral infarction, unspecified", "9"),
    "13": ("Musculoskeletal", None),
    "M10": ("Gout", "13"),
    "M10.9": ("Gout, unspecified", "M10"),
}
TAXONOMY = Taxonomy("small", (CodeEntry(c, t, p, "block") for c, (t, p) in TREE.items()))
RULES = RuleBook(TAXONOMY)
RECORD = EMR(
    "EMR-1",
    {"Past history": "Gout for 9 years. Hypertension. No gout since May.", "Exam": "Weak."},
    (Diagnosis("Acute cerebral infarction"),),
)
SAID = SuggestionSet(
    "EMR-1",
    (Suggestion("I63.9", 0.9, {"names": 0.9}), Suggestion("I10", 0.6), Suggestion("I48.91", 0.35)),
    "v1",
)


def suggest(emrs: Sequence[EMR]) -> list[SuggestionSet]:
    """The model knows the record, and of selected text only the word stroke."""
    found = []
    for emr in emrs:
        if emr.emr_id == RECORD.emr_id:
            found.append(SAID)
        else:
            heard = "stroke" in emr.diagnosis_text.lower()
            said = (Suggestion("I63.9", 0.8 if heard else 0.1),)
            found.append(SuggestionSet(emr.emr_id, said, "v1"))
    return found


@pytest.fixture
def task() -> dict[str, Any]:
    return build_task(RECORD, SAID, TAXONOMY, batch="b", order=1)


@pytest.fixture
def ask(task: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Submit lines of the questions' field, as the editor does; return the answer by control."""

    def send(
        *lines: str, codes: Sequence[str] = ("I63.9", "I10"), added: Sequence[str] = ()
    ) -> dict[str, Any]:
        result = [
            {"from_name": "codes", "type": "choices", "value": {"choices": list(codes)}},
            {"from_name": "ask", "type": "textarea", "value": {"text": list(lines)}},
        ]
        if added:
            paths = [["13", code] for code in added]
            result.append({"from_name": "other", "type": "taxonomy", "value": {"taxonomy": paths}})
        found = answer(task, {"result": [{**item, "to_name": "emr"} for item in result]})
        assert validate_result(found, task["data"]) == []
        return {item["from_name"]: item["value"] for item in found}

    return send


def answer(task: dict[str, Any], context: Any) -> list[dict[str, Any]]:
    return interactive.answer(
        task, context, suggest=suggest, taxonomy=TAXONOMY, rules=RULES, fresh="5f3a9c0b7d21"
    )


def draw(task: dict[str, Any], text: str, label: str) -> dict[str, Any]:
    """The region that a coder draws over the first place with `text`."""
    region = copy.deepcopy(REGION)
    start = RECORD.sections["Past history"].index(text)
    region["value"] |= {"startOffset": start, "endOffset": start + len(text), "text": text}
    region["value"]["labels"] = [label]
    return region


NODE = "/div[1]/section[1]/p[1]/text()[1]"
REGION: dict[str, Any] = {
    "id": "Tl4u2mpfeH",
    "from_name": "evidence",
    "to_name": "emr",
    "type": "labels",
    "origin": "manual",
    "value": {"start": NODE, "end": NODE, "globalOffsets": {"start": 12, "end": 16}},
}


@pytest.mark.parametrize(
    ("question", "codes"),
    [
        ("30", ["I63.9", "I10", "I48.91"]),
        ("0.3", ["I63.9", "I10", "I48.91"]),
        ("≥ 70 %", ["I63.9"]),
        ("50%", ["I63.9", "I10"]),
    ],
)
def test_a_number_is_a_new_threshold(
    ask: Callable[..., dict[str, Any]], question: str, codes: list[str]
) -> None:
    assert ask(question)["codes"]["choices"] == codes


def test_a_threshold_that_no_code_reaches_changes_nothing_and_says_so(
    ask: Callable[..., dict[str, Any]],
) -> None:
    found = ask("100")
    assert found["codes"]["choices"] == ["I63.9", "I10"]
    assert found["ask"]["text"] == ["≥ 50 %: kept, no code would stay ticked"]


def test_a_new_threshold_leaves_what_the_coder_decided_on_either_side(
    ask: Callable[..., dict[str, Any]],
) -> None:
    kept = ask("30", codes=["I10"])["codes"]["choices"]
    assert kept == ["I10", "I48.91"], "I63.9 was refused, and stays so"
    lower = ask("≥ 30 %: 2 listed codes ticked", "40", codes=["I10", "I48.91"])
    assert lower["codes"]["choices"] == ["I10"]


def test_a_code_or_its_name_is_added_with_its_path_and_named_in_the_answer(
    ask: Callable[..., dict[str, Any]],
) -> None:
    for question in ("M10.9", "m109", "gout unspec"):
        found = ask(question)
        assert found["other"]["taxonomy"] == [["13", "M10", "M10.9"]]
        assert found["codes"]["choices"] == ["I63.9", "I10"]
        assert found["ask"]["text"][0].startswith(f"{question} → M10.9 Gout, unspecified")


def test_what_the_model_reads_in_the_words_comes_before_names_alike(
    ask: Callable[..., dict[str, Any]],
) -> None:
    assert ask("stroke", codes=["I10"])["codes"]["choices"] == ["I10", "I63.9"]


def test_added_codes_stay_when_the_next_question_is_asked(
    ask: Callable[..., dict[str, Any]],
) -> None:
    found = ask("fibrillation", added=["M10.9"])
    assert found["other"]["taxonomy"] == [["13", "M10", "M10.9"]]
    assert found["codes"]["choices"] == ["I63.9", "I10", "I48.91"]


def test_words_that_stand_in_the_record_are_highlighted_with_new_ids(
    task: dict[str, Any],
) -> None:
    asked = [{"from_name": "ask", "value": {"text": ["gout"]}}]
    regions = [i for i in answer(task, {"result": asked}) if i["from_name"] == "evidence"]
    assert [r["value"]["text"] for r in regions] == ["Gout", "gout"]
    assert len({r["id"] for r in regions}) == 2
    assert all(r["id"].endswith("5f3a9c0b7d21") for r in regions)


def test_questions_that_came_too_fast_are_all_answered(
    ask: Callable[..., dict[str, Any]],
) -> None:
    found = ask("30", "gout", "hypertension")
    assert found["codes"]["choices"] == ["I63.9", "I10", "I48.91"]
    assert found["other"]["taxonomy"] == [["13", "M10", "M10.9"]]
    assert len(found["ask"]["text"]) == 3
    again = ask(*found["ask"]["text"], "zebra")
    assert again["ask"]["text"][0] == "zebra → nothing found"
    assert again["ask"]["text"][1:] == found["ask"]["text"]


def test_a_question_mark_asks_the_rules_about_the_coder_s_codes(
    ask: Callable[..., dict[str, Any]],
) -> None:
    assert ask("?")["ask"]["text"] == ["? no rule has anything to say"]
    [line] = ask("?", added=["M10"])["ask"]["text"]
    assert line == "⚠ M10 has more specific codes below it"


def test_adding_a_code_says_what_the_rules_think_of_it(
    ask: Callable[..., dict[str, Any]],
) -> None:
    assert "⚠ M10 has more specific codes below it" in ask("M10")["ask"]["text"]


@pytest.mark.parametrize(
    ("text", "label", "code"),
    [("Gout", "Other", "M10.9"), ("Hypertension", "I10", None), ("since", "Other", None)],
)
def test_selected_text_gets_a_code_where_one_is_known(
    task: dict[str, Any], text: str, label: str, code: str | None
) -> None:
    region = draw(task, text, label)
    found = answer(task, {"result": [region]})
    if code is None:
        assert found == []
    else:
        [echo, chosen] = found
        assert echo["id"] == chosen["id"] == region["id"]
        assert echo["value"] == region["value"]
        assert chosen["value"]["taxonomy"] == [["13", "M10", code]]


def test_selected_text_of_a_listed_code_takes_that_code_s_label(task: dict[str, Any]) -> None:
    [echo] = answer(task, {"result": [draw(task, "Hypertension", "Other")]})
    assert echo["value"]["labels"] == ["I10"]


def test_codes_can_be_searched_before_the_first_model(task: dict[str, Any]) -> None:
    def nobody(_: Sequence[EMR]) -> list[SuggestionSet]:
        raise CheckpointError("no model yet")

    def asked(text: str) -> list[dict[str, Any]]:
        result = [{"from_name": "ask", "value": {"text": [text]}}]
        return interactive.answer(
            task, {"result": result}, suggest=nobody, taxonomy=TAXONOMY, rules=RULES
        )

    [found] = [item for item in asked("gout") if item["from_name"] == "other"]
    assert found["value"]["taxonomy"] == [["13", "M10", "M10.9"]]
    assert asked("30")[0]["value"]["text"] == ["? no model serves yet"]


def test_nothing_is_answered_to_nothing(task: dict[str, Any]) -> None:
    for context in ({}, {"result": []}, {"result": None}, {"result": [None, {"value": 3}]}):
        assert answer(task, context) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
items = st.fixed_dictionaries(
    {},
    optional={
        "from_name": st.sampled_from(["ask", "evidence", "codes", "other", "principal", "x"]),
        "id": values,
        "value": st.dictionaries(
            st.sampled_from(["text", "choices", "taxonomy", "labels", "start", "startOffset"]),
            values | st.lists(st.sampled_from(["?", "30", "gout", "Other", "I10"])),
        ),
    },
)


@given(st.lists(items, max_size=4))
def test_whatever_the_editor_sends_the_answer_cannot_break_it(result: list[Any]) -> None:
    task = build_task(RECORD, SAID, TAXONOMY, batch="b", order=1)
    found = answer(task, {"result": result})
    assert validate_result(found, task["data"]) == []
    held = json.dumps([task, result])
    drawn = [item.get("id") for item in result]
    for item in found:
        if "id" in item:
            assert item["id"] in drawn or item["id"] not in held


def test_a_task_of_another_project_is_refused() -> None:
    with pytest.raises(DataError):
        answer({"data": {"text": "x"}}, {"result": [{"from_name": "ask", "value": {"text": "?"}}]})
