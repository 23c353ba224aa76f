"""Advice of the coding rules beside the ticks that make it true."""

from __future__ import annotations

import re

import pytest

from label_config.advice import advice_html, warnings_of
from label_config.record import EMR
from label_config.rules import RuleBook
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.task import build_task
from label_config.taxonomy import Taxonomy
from label_config.validate import validate_result

WOMAN = EMR("EMR-1", {"Complaint": "Cough."}, sex="female", age=41)


@pytest.fixture(scope="module")
def icd() -> Taxonomy:
    return Taxonomy.icd10cm()


@pytest.fixture(scope="module")
def book(icd: Taxonomy) -> RuleBook:
    return RuleBook(icd)


def lines(html: str) -> dict[str, set[str]]:
    """The text of each line, and the ticks that it needs."""
    found = re.findall('<li class="w ([^"]*)">(.*?) <small>', html)
    return {text: set(classes.split()) for classes, text in found}


def words(text: str) -> frozenset[str]:
    """Of "A and B are not coded together" either may stand first."""
    return frozenset(text.split())


def test_a_line_needs_every_code_that_it_speaks_of_ticked(book: RuleBook) -> None:
    html = advice_html(WOMAN, ["I10", "J18.9", "R05.9"], {}, book)
    assert lines(html)["cough belongs to J18.9; R05.9 is not coded beside its confirmed cause"] == {
        "y2",
        "y3",
    }


def test_a_line_about_the_principal_diagnosis_needs_it_chosen(book: RuleBook) -> None:
    html = advice_html(WOMAN, ["J18.9", "R05.9"], {}, book)
    [text] = [text for text in lines(html) if "may explain it" in text]
    assert lines(html)[text] == {"p2", "y2", "y1"}


def test_an_additional_code_is_advised_only_while_it_is_not_ticked(book: RuleBook) -> None:
    html = advice_html(WOMAN, ["N30.00", "B96.20"], {"B96.20": 0.9}, book)
    [text] = [text for text in lines(html) if "additional code" in text]
    assert lines(html)[text] == {"y1", "n2"}


def test_every_line_names_its_source_and_rule(book: RuleBook) -> None:
    html = advice_html(WOMAN, ["J18.9", "R05.9"], {}, book)
    assert "ICD-10-CM Official Guidelines, section I.B.5 · symptom/cough</small>" in html


def test_a_rule_that_is_switched_off_says_nothing(icd: Taxonomy) -> None:
    quiet = RuleBook(icd, off=["symptom", "principal"])
    assert advice_html(WOMAN, ["J18.9", "R05.9"], {}, quiet) == ""


def test_nothing_to_advise_is_an_empty_text(book: RuleBook) -> None:
    assert advice_html(WOMAN, ["I10"], {"I10": 0.9}, book) == ""
    assert advice_html(WOMAN, [], {}, book) == ""


def test_what_is_on_the_screen_agrees_with_the_rules_for_every_pair_of_ticks(
    book: RuleBook,
) -> None:
    codes = ["J18.9", "R05.9", "I10", "N18.6", "E10.9", "E11.9"]
    needed = lines(advice_html(WOMAN, codes, {}, book))
    for first in codes:
        for second in codes:
            ticked = [first, second] if first != second else [first]
            state = {f"y{codes.index(code) + 1}" for code in ticked}
            state |= {f"p{codes.index(first) + 1}"}
            on_screen = {text for text, classes in needed.items() if classes <= state}
            said = {w.text for w in warnings_of(WOMAN, ticked, {}, book)}
            assert {*map(words, on_screen)} == {*map(words, said)}


def test_a_task_carries_the_advice_and_its_rules_never_touch_the_prediction(
    icd: Taxonomy,
) -> None:
    taxonomy = icd
    suggestions = SuggestionSet("EMR-1", (Suggestion("J18.9", 0.9), Suggestion("R05.9", 0.8)), "v1")
    task = build_task(WOMAN, suggestions, taxonomy, batch="b", order=1)
    quiet = build_task(
        WOMAN,
        suggestions,
        taxonomy,
        batch="b",
        order=1,
        rules=RuleBook(taxonomy, off=["symptom", "principal"]),
    )
    assert "cough belongs to J18.9" in task["data"]["advice"]
    assert quiet["data"]["advice"] == ""
    assert task["predictions"] == quiet["predictions"]
    assert validate_result(task["predictions"][0]["result"], task["data"]) == []


def test_a_title_in_a_team_s_rule_is_escaped(icd: Taxonomy, tmp_path) -> None:
    own = tmp_path / "ward.yaml"
    own.write_text("- {id: w/x, codes: [J18], say: '<img src=x> {code}', source: '<b>'}\n")
    html = advice_html(WOMAN, ["J18.9"], {}, RuleBook(icd, own=own))
    assert "<img" not in html and "&lt;img" in html and "<b>" not in html
