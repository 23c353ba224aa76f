import numpy as np
import pytest

from label_config.taxonomy import CodeEntry, Taxonomy
from training.hierarchy import hierarchy_figures

CODES = ["E11.1", "E11.9", "I10.1"]
TAXONOMY = Taxonomy(
    "t",
    [
        CodeEntry("IV", "Endocrine", None, "chapter"),
        CodeEntry("E11", "Diabetes", "IV", "category"),
        CodeEntry("E11.1", "with ketoacidosis", "E11", "subcategory"),
        CodeEntry("E11.9", "without complications", "E11", "subcategory"),
        CodeEntry("IX", "Circulation", None, "chapter"),
        CodeEntry("I10", "Hypertension", "IX", "category"),
        CodeEntry("I10.1", "benign", "I10", "subcategory"),
    ],
)


def figures(ticked: list[int], true: list[int]) -> dict[str, float]:
    return hierarchy_figures(np.array([ticked]) > 0, np.array([true]) > 0, CODES, TAXONOMY)


def test_a_sibling_is_right_at_category_level_and_partly_right_for_cophe() -> None:
    found = figures([1, 0, 0], [0, 1, 0])
    assert found["category_micro_f1"] == found["chapter_micro_f1"] == 1.0
    assert found["cophe_f1"] == pytest.approx(2 / 3)


def test_a_code_of_another_chapter_is_wrong_throughout() -> None:
    found = figures([1, 0, 0], [0, 0, 1])
    assert found["category_micro_f1"] == found["chapter_micro_f1"] == found["cophe_f1"] == 0.0


def test_two_true_codes_of_one_category_are_not_found_by_one() -> None:
    found = figures([1, 0, 0], [1, 1, 0])
    assert found["category_micro_f1"] == 1.0
    assert found["cophe_precision"] == 1.0
    assert found["cophe_recall"] == pytest.approx(0.5)
