import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.name_grams import NameGrams
from training.stems import stem_key

NAMES = [stem_key(n) for n in ("Acute pancreatitis", "Acute appendicitis", "Hypertension")]


def cover(*sentences: str) -> np.ndarray:
    return NameGrams(NAMES).cover([stem_key(s) for s in sentences]).toarray()


def test_a_name_that_stands_whole_in_a_sentence_is_covered_whole() -> None:
    (row,) = cover("He had pancreatitis, which was acute.")
    np.testing.assert_allclose(row[0], 1.0)
    assert row[0] > row[1] > row[2] == 0


def test_another_spelling_or_a_related_language_still_covers_most_of_a_name() -> None:
    spelled, spanish = cover("acute pancreatittis", "pancreatitis aguda e hipertensión")
    assert spelled.argmax() == 0 and spelled[0] > 0.8
    assert spanish[0] > 0.3 and spanish[2] > 0.5


def test_what_many_names_or_many_records_share_counts_less() -> None:
    first, second = NameGrams(NAMES).shares(["acut", "pancreatiti"], 0)
    assert first < second
    sentences = [stem_key(s) for s in ["hypertension", "acute", "acute", "acute pain", "acute"]]
    again = NameGrams.fit(NAMES, sentences).shares(["acut"], 0)
    assert again[0] < first


def test_the_same_rarity_gives_the_same_cover() -> None:
    fitted = NameGrams.fit(NAMES, [stem_key("acute on chronic"), stem_key("hypertensive")])
    loaded = NameGrams(NAMES, fitted.rarity_G)
    sentence = [stem_key("appendicitis with hypertension")]
    assert (loaded.cover(sentence) != fitted.cover(sentence)).nnz == 0


def test_scripts_without_blanks_are_read_character_by_character() -> None:
    grams = NameGrams([stem_key("糖尿病")])
    assert grams.cover([stem_key("患者有糖尿病史")]).toarray()[0, 0] > 0.99


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_is_covered_by_0_to_1(texts: list[str]) -> None:
    cover_SM = NameGrams(NAMES).cover([stem_key(t) for t in texts])
    assert cover_SM.shape == (len(texts), 3)
    assert not cover_SM.nnz or (cover_SM.min() >= 0 and cover_SM.max() <= 1 + 1e-9)
