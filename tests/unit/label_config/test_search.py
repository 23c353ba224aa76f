"""Codes found by words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.search import CodeSearch, words_of
from label_config.taxonomy import CodeEntry, Taxonomy

NAMES = {
    "I10": ("Essential (primary) hypertension", ("High blood pressure",)),
    "I63.9": ("Cerebral infarction, unspecified", ("Stroke NOS", "脑梗死")),
    "I63.8": ("Other cerebral infarction", ()),
    "H35": ("Hypertensive retinopathy", ()),
    "M32": ("Sjögren syndrome with lung involvement", ()),
}


@pytest.fixture(scope="module")
def search() -> CodeSearch:
    entries = (CodeEntry(c, t, None, "chapter", synonyms=s) for c, (t, s) in NAMES.items())
    return CodeSearch(Taxonomy("names", entries))


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("I63.9", "I63.9"),
        ("i63.9", "I63.9"),
        ("stroke", "I63.9"),
        ("脑梗死", "I63.9"),
        ("infarction other", "I63.8"),
        ("blood pressure high", "I10"),
        ("hypertens prim", "I10"),
        ("sjogren", "M32"),
        ("SJÖGREN lung", "M32"),
    ],
)
def test_a_code_is_found_by_code_title_synonym_and_beginning_of_a_word(
    search: CodeSearch, question: str, code: str
) -> None:
    assert search.find(question)[0][0] == code


def test_the_share_says_how_much_of_the_question_a_name_holds(search: CodeSearch) -> None:
    assert dict(search.find("stroke"))["I63.9"] == pytest.approx(1.0)
    part = dict(search.find("cerebral infarction zebra"))
    assert all(0.5 <= share < 1.0 for share in part.values())


def test_each_code_is_found_once_and_no_more_than_asked_for(search: CodeSearch) -> None:
    found = [code for code, _ in search.find("infarction", k=1)]
    assert len(found) == 1
    everything = [code for code, _ in search.find("cerebral infarction stroke", k=9)]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize("question", ["", "?", " - ", "zebra"])
def test_what_no_name_holds_finds_nothing(search: CodeSearch, question: str) -> None:
    assert search.find(question) == []


@given(st.text(max_size=60))
def test_any_text_is_a_question(question: str) -> None:
    taxonomy = Taxonomy("one", [CodeEntry("X1", "Fever of unknown origin", None, "chapter")])
    for code, share in CodeSearch(taxonomy).find(question):
        assert code == "X1" and 0.5 <= share <= 1.0


def test_a_title_leads_to_its_code_among_the_siblings_that_share_its_words() -> None:
    taxonomy = Taxonomy.icd10cm()
    for code in ("I10", "E11.21", "S72.001A", "Z99.2"):
        near = [code, *taxonomy.siblings(code)]
        search = CodeSearch(taxonomy, [c for c in near if taxonomy.is_leaf(c)])
        assert search.find(taxonomy.title(code))[0][0] == code


def test_words_lose_case_and_accents_and_chinese_is_read_by_character() -> None:
    assert words_of("Ménière's I63.9 脑梗死") == ["meniere", "s", "i63.9", "脑", "梗", "死"]
