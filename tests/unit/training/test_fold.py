import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.fold import at_word_edge, fold, fold_name, whole_words


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_every_folded_character_comes_from_the_place_its_offset_names(text: str) -> None:
    folded = fold(text)
    for i, char in enumerate(folded.text):
        start, end = folded.span(i, i + 1)
        assert 0 <= start < end <= len(text)
        alone = fold(text[start]).text
        assert alone == char


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_the_whole_folded_text_spans_the_whole_original_but_outer_marks(text: str) -> None:
    folded = fold(text)
    if folded.text:
        start, end = folded.span(0, len(folded.text))
        assert fold(text[start:end]).text == folded.text


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    once = fold(text).text
    assert fold(once).text == once


def test_composed_and_decomposed_accents_fold_alike_with_their_own_offsets() -> None:
    text = "Diagnóstico: neumonía"
    for form in ("NFC", "NFD"):
        original = unicodedata.normalize(form, text)
        folded = fold(original)
        at = folded.text.index("neumonia")
        start, end = folded.span(at, at + len("neumonia"))
        assert original[start:end] == unicodedata.normalize(form, "neumonía")


def test_a_place_grows_over_accents_written_apart() -> None:
    text = unicodedata.normalize("NFD", "enfermedad crónica, café.")
    for word in ("crónica", "café"):
        apart = unicodedata.normalize("NFD", word)
        start = text.index(apart)
        assert whole_words(text, start + 1, start + 2) == (start, start + len(apart))
        assert whole_words(text, start + len(apart) - 2, start + len(apart) - 1) == (
            start,
            start + len(apart),
        )


def test_a_run_of_blanks_counts_as_one_and_keeps_its_place() -> None:
    text = "dolor \n\t abdominal"
    folded = fold(text)
    assert folded.text == "dolor abdominal"
    assert text[slice(*folded.span(6, 15))] == "abdominal"
    assert text[slice(*folded.span(0, 15))] == text


def test_a_name_loses_outer_punctuation_and_case() -> None:
    assert fold_name("  Hipertensión arterial. ") == "hipertension arterial"


@pytest.mark.parametrize(
    ("text", "index", "edge"),
    [
        ("fever", 0, True),
        ("fever", 3, False),
        ("no fever", 3, True),
        ("患有糖尿病", 2, True),
        ("t2dm", 1, False),
    ],
)
def test_words_end_at_blanks_and_anywhere_in_scripts_without_blanks(
    text: str, index: int, edge: bool
) -> None:
    assert at_word_edge(text, index) is edge
