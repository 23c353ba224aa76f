import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.errors import DataError
from sampler.keys import random_order


@given(st.lists(st.text(st.characters(min_codepoint=1, codec="utf-8"), max_size=8), unique=True))
def test_a_key_keeps_its_number_whatever_the_other_rows_are(keys):
    together = random_order(np.array([*keys, "a rather long key"], dtype=str), 1)
    for key, number in zip(keys, together, strict=False):
        assert random_order(np.array([key], dtype=str), 1)[0] == number


def test_another_seed_gives_an_unrelated_order():
    keys = np.arange(5000)
    one, two = random_order(keys, 1), random_order(keys, 2)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.05
    assert abs(np.corrcoef(one, keys)[0, 1]) < 0.05


def test_numbers_spread_evenly_over_0_to_1():
    numbers = random_order([f"EMR-{i:05}" for i in range(10_000)], 0)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0].min() > 850


def test_a_repeated_key_is_refused():
    with pytest.raises(DataError, match="distinct"):
        random_order(["a", "b", "a"], 0)
