from hypothesis import given
from hypothesis import strategies as st

from training.stems import stem, stem_key, stem_text


def test_number_gender_and_linking_words_do_not_matter() -> None:
    assert stem_key("Dolor en los tobillos") == stem_key("dolores del tobillo")
    assert stem_key("lesiones renales dolorosas") == stem_key("lesión renal doloroso")
    assert stem_key("dorso-lumbar") == stem_key("dorso lumbar")


def test_short_and_foreign_words_stay() -> None:
    assert stem("vhs") == "vhs"
    assert stem("糖") == "糖"
    assert stem_key("糖尿病") == "糖 尿 病"


def test_places_lead_back_to_the_original_text() -> None:
    text = "Presentó  cefaleas y  dolores óseos."
    read = stem_text(text)
    at = read.stems.index(stem("dolores"))
    start, end = read.span(at, at + 1)
    assert text[start:end] == "dolores óseos"


def test_sentences_are_told_apart_but_not_at_a_decimal_point() -> None:
    read = stem_text("Fiebre de 38.5 grados. Tos seca")
    number = dict(zip(read.words, read.sentences, strict=True))
    assert number["fiebre"] == number["grados"] != number["tos"]


@given(st.text(max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    read = stem_text(text)
    assert read.text == " ".join(read.stems)
    for i in range(len(read.stems)):
        start, end = read.span(i, i)
        assert 0 <= start < end <= len(text)
