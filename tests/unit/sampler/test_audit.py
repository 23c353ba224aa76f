from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_config.errors import DataError
from sampler.audit import Disagreement, agreement, disagreements

FIRST = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
SECOND = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


def alpha_by_pairs(units: list[list[int]]) -> float:
    """Alpha from the matrix of coincidences, pair by pair, as its definition has it."""
    units = [unit for unit in units if len(unit) > 1]
    coincidences = np.zeros((2, 2))
    for unit in units:
        for one, two in permutations(range(len(unit)), 2):
            coincidences[unit[one], unit[two]] += 1 / (len(unit) - 1)
    totals, n = coincidences.sum(0), coincidences.sum()
    expected = totals[0] * totals[1]
    return 1 - (n - 1) * coincidences[0, 1] / expected if expected else float("nan")


def test_alpha_of_krippendorffs_own_binary_example():
    rows = [*range(10), *range(10)]
    labels = [[0] if gave else [] for gave in [*FIRST, *SECOND]]
    found = agreement(rows, ["A"] * 10 + ["B"] * 10, labels, n_codes=1)
    assert found.alpha_per_code[0] == pytest.approx(0.095, abs=5e-4)
    assert found.alpha == found.alpha_per_code[0]
    assert found.agreement_per_code[0] == pytest.approx(1 / 5)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=4), min_size=1, max_size=12))
@settings(deadline=None)
def test_alpha_equals_its_definition_with_any_number_of_coders(units):
    rows = [u for u, unit in enumerate(units) for _ in unit]
    coders = [c for unit in units for c in range(len(unit))]
    labels = [[1] if gave else [] for unit in units for gave in unit]
    found = agreement(rows, coders, labels, n_codes=2).alpha_per_code
    assert found[1] == pytest.approx(alpha_by_pairs(units), nan_ok=True)
    assert np.isnan(found[0])


def test_coders_who_always_agree_score_1():
    found = agreement([0, 0, 1, 1], ["A", "B"] * 2, [[0, 1], [0, 1], [1], [1]], n_codes=3)
    assert found.alpha == 1
    assert found.agreement_per_code[:2].tolist() == [1, 1]
    assert np.isnan(found.agreement_per_code[2])
    assert found.uses_per_code.tolist() == [2, 4, 0]


def test_emrs_of_one_coder_do_not_count():
    alone = agreement([5, 8], ["A", "B"], [[0], [1]], n_codes=2)
    assert alone.shared.size == 0
    assert np.isnan(alone.alpha)


def test_disagreements_name_the_emr_the_code_and_both_sides():
    rows, coders = [7, 7, 7, 2, 2], ["B", "A", "C", "A", "B"]
    labels = [[0], [0, 1], [0, 1], [2], []]
    assert disagreements(rows, coders, labels, n_codes=3) == [
        Disagreement(2, 2, ("A",), ("B",)),
        Disagreement(7, 1, ("A", "C"), ("B",)),
    ]


def test_two_annotations_by_one_coder_are_refused():
    with pytest.raises(DataError, match="row 4 has two"):
        agreement([4, 4], ["A", "A"], [[0], [0]], n_codes=1)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="got 2, 1 and 2"):
        agreement([4, 4], ["A"], [[0], [0]], n_codes=1)
