from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.errors import DataError
from simulator.phrase import Phrase, Range, Value, fill


def test_the_bar_parts_two_hospitals_and_slashes_part_alternatives():
    phrase = Phrase.parse("leg swelling // swollen legs | ankle oedema", "here")
    assert phrase.a == ("leg swelling", "swollen legs")
    assert phrase.b == ("ankle oedema",)


def test_a_phrase_knows_when_denying_it_would_contradict_another():
    said = [Phrase.parse("nausea and vomiting | emesis", "here")]
    assert Phrase.parse("vomiting", "here").denies(said)
    assert not Phrase.parse("chest pain", "here").denies(said)


def test_plural_and_singular_are_the_same_to_a_denial():
    assert Phrase.parse("leg swelling", "").denies([Phrase.parse("swelling of both legs", "")])


@given(st.integers(0, 10_000))
def test_a_drawn_value_lies_within_two_standard_deviations(seed):
    value = Value.parse("13.5 ± 3.0 ×10^9/L (4.0-10.0)", "here")
    assert 7.5 <= value.draw(Random(seed)) <= 19.5


def test_a_value_keeps_its_unit_decimals_and_normal_range():
    value = Value.parse("0.010 ± 0.004 ng/mL (0.000-0.040)", "here")
    assert (value.unit, value.show(0.01234)) == ("ng/mL", "0.012")
    assert value.normal(0.03) and not value.normal(0.05)


def test_a_value_that_could_turn_negative_is_refused():
    with pytest.raises(DataError, match="must not be negative"):
        Value.parse("2 ± 3 mg/L (0-8)", "here")


@given(st.integers(0, 10_000))
def test_an_age_stays_within_its_limits(seed):
    assert 40 <= Range.parse("68 ± 12 (40-95)", "here").draw(Random(seed)) <= 95


@given(st.integers(0, 10_000))
def test_slots_are_filled_by_numbers_of_their_range_and_by_words(seed):
    words = {"his": "her"}
    text = fill("hurt <his> knee <3-5> times", Random(seed), words)
    assert text in {f"hurt her knee {n} times" for n in (3, 4, 5)}
