"""EMR and suggestions to a task, a prediction and a submitted result."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config import cards
from label_config.annotation import read_annotation
from label_config.errors import DataError
from label_config.record import EMR, Diagnosis, EvidenceSpan
from label_config.suggestion import SimilarCase, Suggestion, SuggestionSet
from label_config.task import build_prediction, build_result, build_task, candidate_codes, read_emr
from label_config.taxonomy import CodeEntry, Taxonomy
from label_config.validate import validate_result

HOSTILE = (
    '<img src=x onerror="alert(1)"><script>alert(1)</script>\n\n[x](javascript:alert(1)) `"\'&'
)


@pytest.fixture
def task(stroke_emr, stroke_suggestions, small_taxonomy):
    return build_task(
        stroke_emr, stroke_suggestions, small_taxonomy, batch="b01", order=3, reason="I10 needs 2"
    )


def items(prediction, name):
    return [item for item in prediction["result"] if item["from_name"] == name]


def test_a_task_names_its_emr_batch_and_reason(task) -> None:
    assert task["meta"] == {"emr_id": "EMR-1", "batch": "b01", "order": 3, "reason": "I10 needs 2"}
    assert task["data"]["emr_id"] == "EMR-1"
    assert task["data"]["about"] == "EMR-1 · male · 71 years"
    json.dumps(task, allow_nan=False)


def test_a_task_gives_its_emr_back_without_the_patient(task, stroke_emr) -> None:
    assert read_emr(json.loads(json.dumps(task))) == replace(stroke_emr, patient_id=None)
    assert "P-7" not in json.dumps(task)


def test_the_prediction_ticks_what_is_sure_and_shows_evidence_for_all(task) -> None:
    [prediction] = task["predictions"]
    [ticked] = items(prediction, "codes")
    assert ticked["value"]["choices"] == ["I63.9", "I10"]
    assert ticked["score"] == prediction["score"] == pytest.approx(0.825)
    labelled = {(i["value"]["text"], *i["value"]["labels"]) for i in items(prediction, "evidence")}
    assert labelled == {
        ("left limbs", "I63.9"),
        ("Acute cerebral infarction", "I63.9"),
        ("Hypertension grade 3", "I10"),
        ("Type 2 diabetes", "E11.9"),
    }
    assert prediction["model_version"] == "v1"


def test_region_ids_carry_score_code_and_the_place_of_the_candidate(task) -> None:
    [prediction] = task["predictions"]
    ids = [item["id"] for item in items(prediction, "evidence")]
    assert ids == ["s8_I63_9_k1_1", "s9_I63_9_k1_2", "s9_I10_k2_3", "s4_E11_9_k3_4"]


def test_the_principal_diagnosis_is_the_one_that_the_record_names_first(task) -> None:
    [prediction] = task["predictions"]
    assert items(prediction, "principal")[0]["value"]["choices"] == ["I10"]


def test_without_suggestions_a_task_has_the_record_and_an_empty_form(
    stroke_emr, small_taxonomy
) -> None:
    task = build_task(stroke_emr, None, small_taxonomy, batch="b", order=1)
    assert task["predictions"] == []
    assert candidate_codes(task) == []
    assert [label["value"] for label in task["data"]["labels"]] == [cards.OTHER]


def test_candidates_say_who_spoke(task) -> None:
    first, second, third = (row["html"] for row in task["data"]["candidates"])
    assert '<em class="dx">' in first and '<em class="text">' in first
    assert '<em class="dx">' in second and '<em class="text mute">' in second
    assert '<em class="dx mute">' in third and '<em class="text">' in third
    hint = task["data"]["candidates"][0]["hint"]
    assert hint == (
        "I63.9 Cerebral infarction, unspecified · 95% · diagnosis names 97% · lexicon 80%"
    )


def test_what_the_names_say_stands_apart_from_what_only_the_text_says(
    stroke_emr, small_taxonomy
) -> None:
    said = [("I48.9", {"sparse": 0.9}), ("I10", {"names": 0.8}), ("I63.9", {"names": 0.7})]
    suggestions = SuggestionSet(
        "EMR-1", tuple(Suggestion(c, 0.9 - i / 10, m) for i, (c, m) in enumerate(said)), "v1"
    )
    task = build_task(stroke_emr, suggestions, small_taxonomy, batch="b", order=1)
    assert candidate_codes(task) == ["I10", "I63.9", "I48.9"]
    opens = ["first" in row["html"] for row in task["data"]["candidates"]]
    assert opens == [True, False, True]
    assert "dx-group" in task["data"]["candidates"][0]["html"]
    assert "text-group" in task["data"]["candidates"][2]["html"]


def test_codes_that_are_always_listed_follow_the_suggested_ones_unticked(
    stroke_emr, stroke_suggestions, small_taxonomy
) -> None:
    always = ["I48.9", "I10", "I63.9", "E11.9"]
    task = build_task(
        stroke_emr, stroke_suggestions, small_taxonomy, batch="b", order=1, always=always
    )
    assert sorted(candidate_codes(task)) == sorted(always)
    assert candidate_codes(task)[-1] == "I48.9"
    [ticked] = items(task["predictions"][0], "codes")
    assert "I48.9" not in ticked["value"]["choices"]
    assert validate_result(task["predictions"][0]["result"], task["data"]) == []


def test_a_row_can_be_found_by_code_and_title_and_stores_the_code(task) -> None:
    row = task["data"]["candidates"][0]
    assert row["value"] == "I63.9 Cerebral infarction, unspecified"
    assert row["alias"] == "I63.9"


def test_candidates_below_a_threshold_carry_its_class(task) -> None:
    classes = [re.search('class="c ([^"]*)"', row["html"])[1] for row in task["data"]["candidates"]]
    looks = {"high", "mid", "low", "first", "dx-group", "text-group"}
    assert [set(c.split()) - looks for c in classes] == [
        set(),
        {"b9"},
        {"b9", "b7", "b5"},
    ]


def test_every_key_is_given_once(stroke_emr) -> None:
    codes = [f"C{i}" for i in range(25)]
    taxonomy = Taxonomy("many", (CodeEntry(c, c, None, "chapter") for c in codes))
    suggestions = SuggestionSet("EMR-1", tuple(Suggestion(c, 0.9) for c in codes), "v1")
    data = build_task(stroke_emr, suggestions, taxonomy, batch="b", order=1)["data"]
    rows = [*data["candidates"], *data["labels"], *data["principal_options"]]
    keys = [row["hotkey"] for row in rows if "hotkey" in row]
    taken = set("zxcfgjku/")  # by quality, threshold, search and Label Studio
    assert len(keys) == len(set(keys)) and not taken & set(keys)


def test_twelve_candidates_are_usual_and_more_ticked_codes_go_to_the_tree(stroke_emr) -> None:
    codes = [f"C{i}" for i in range(30)]
    taxonomy = Taxonomy("many", (CodeEntry(c, c, None, "chapter") for c in codes))

    def task(ticked):
        rows = (Suggestion(c, 0.9 if i < ticked else 0.1) for i, c in enumerate(codes))
        suggestions = SuggestionSet("EMR-1", tuple(rows), "v1")
        return build_task(stroke_emr, suggestions, taxonomy, batch="b", order=1)

    assert len(candidate_codes(task(3))) == 12
    assert len(candidate_codes(task(15))) == 15
    many = task(23)
    assert len(candidate_codes(many)) == 20
    [other] = items(many["predictions"][0], "other")
    assert other["value"]["taxonomy"] == [["C20"], ["C21"], ["C22"]]


def test_a_new_models_codes_that_the_task_does_not_list_go_to_the_tree_with_their_evidence(
    task, stroke_emr, stroke_suggestions, small_taxonomy
) -> None:
    span = EvidenceSpan("I48.9", "Past history", 0, 12, 0.66)
    newer = SuggestionSet(
        "EMR-1",
        (Suggestion("I48.9", 0.8, {}, (span,)), Suggestion("I10", 0.6), Suggestion("Q1", 0.55)),
        "v2",
    )
    prediction = build_prediction(
        stroke_emr, newer, small_taxonomy, candidates=candidate_codes(task)
    )
    assert validate_result(prediction["result"], task["data"]) == []
    assert items(prediction, "codes")[0]["value"]["choices"] == ["I10"]
    assert items(prediction, "other")[0]["value"]["taxonomy"] == [["9", "I48", "I48.9"]]
    [label], [code] = items(prediction, "evidence"), items(prediction, "evidence_code")
    assert label["id"] == code["id"] == "s6_I48_9_k0_1"
    assert label["value"]["labels"] == [cards.OTHER]
    assert code["value"]["taxonomy"] == [["9", "I48", "I48.9"]]
    coding = read_annotation(task, {"result": prediction["result"], "prediction": prediction})
    assert set(coding.codes) == {"I48.9", "I10"}
    assert coding.evidence == (span,)


def test_hostile_texts_titles_and_ids_never_become_markup() -> None:
    taxonomy = Taxonomy("hostile", [CodeEntry("X<1>", HOSTILE, None, "chapter")])
    case = SimilarCase("<b>9", 0.5, ("X<1>",), HOSTILE, ("<script>", "x", "(["))
    suggestions = SuggestionSet(
        "<i>1", (Suggestion("X<1>", 0.9, {"names": 0.9}),), "v1", similar=(case,)
    )
    emr = EMR("<i>1", {HOSTILE: HOSTILE}, (Diagnosis(HOSTILE),))
    data = build_task(emr, suggestions, taxonomy, batch="b", order=1)["data"]
    tags = "div|section|h4|p|span|b|em|i|u|small|details|summary|code|mark"
    ours = rf"</?({tags})( [a-z]+=\"[^\"<>]*\"| open)*>"
    for markup in (data["emr_html"], data["candidates"][0]["html"], data["similar"]):
        assert not re.search("[<>]", re.sub(ours, "", markup)), markup
        assert "\n" not in data["similar"], "a blank line would switch Markdown on"


def test_similar_cases_show_text_codes_and_shared_words(task) -> None:
    similar = task["data"]["similar"]
    assert "<b>EMR-9</b> <small>0.91</small>" in similar
    assert '<code title="Cerebral infarction, unspecified">I63.9</code>' in similar
    assert "<mark>Weakness</mark>. # Not a title" in similar
    assert "Shared: weakness" in similar


def test_a_submitted_result_reads_back_as_the_coding_that_made_it(
    task, stroke_emr, stroke_suggestions, small_taxonomy
) -> None:
    evidence = (
        *stroke_suggestions.suggestions[0].evidence,
        EvidenceSpan("I48.9", "Past history", 0, 12),
    )
    result = build_result(
        stroke_emr,
        ["I63.9", "I48.9"],
        evidence,
        candidates=candidate_codes(task),
        principal="I48.9",
        quality="unsure",
        note="Ask the ward",
        taxonomy=small_taxonomy,
    )
    assert validate_result(result, task["data"]) == []
    coding = read_annotation(task, {"result": result})
    assert coding.codes == ("I48.9", "I63.9")
    assert coding.evidence == evidence
    assert (coding.quality, coding.note) == ("unsure", "Ask the ward")


@given(st.data())
def test_whatever_is_suggested_the_prediction_is_valid(data: st.DataObject) -> None:
    text = data.draw(st.text(min_size=1, max_size=40).filter(str.strip))
    emr = EMR("EMR-1", {"S": text, "T": "fever"}, (Diagnosis("cough"),))
    codes = ["A<1>", 'B"2', "C.3", "D 4", "unknown"]
    taxonomy = Taxonomy("t", (CodeEntry(c, c, None, "chapter") for c in codes[:-1]))
    spans = st.builds(
        lambda section, start, length, score: (section, start, start + length, score),
        st.sampled_from(["S", "T", "Diagnoses", "missing"]),
        st.integers(0, 45),
        st.integers(1, 10),
        st.floats(0, 1),
    )
    confidences = sorted(
        data.draw(st.lists(st.floats(0, 1), min_size=len(codes), max_size=len(codes))), reverse=True
    )
    suggestions = SuggestionSet(
        "EMR-1",
        tuple(
            Suggestion(
                code, c, {}, tuple(EvidenceSpan(code, *s) for s in data.draw(st.lists(spans)))
            )
            for code, c in zip(codes, confidences, strict=True)
        ),
        "v1",
    )
    task = build_task(emr, suggestions, taxonomy, batch="b", order=1)
    assert validate_result(task["predictions"][0]["result"], task["data"]) == []
    kept = data.draw(st.lists(st.sampled_from(codes), unique=True))
    later = build_task(emr, None, taxonomy, batch="b", order=1)
    later["data"]["candidates"] = [{"value": code} for code in kept]
    prediction = build_prediction(emr, suggestions, taxonomy, candidates=kept)
    assert validate_result(prediction["result"], later["data"]) == []


@pytest.mark.parametrize("task", [{}, {"data": None}, {"data": {}}, {"data": {"record": {}}}])
def test_a_task_made_elsewhere_has_no_emr(task) -> None:
    with pytest.raises(DataError):
        read_emr(task)
