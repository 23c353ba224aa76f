import numpy as np
import pytest

from label_config.taxonomy import CodeEntry, Taxonomy
from training.names import abbreviations, corrupt, names_by_code, variants


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Essential (primary) hypertension", "Essential hypertension"),
        ("Pneumonia, unspecified organism", "Pneumonia"),
        ("Type 2 diabetes mellitus without complications", "Type 2 diabetes mellitus"),
        ("Lymphoma, follicular", "follicular Lymphoma"),
        ("Stroke [CVA]", "CVA"),
    ],
)
def test_a_name_has_its_plainer_spelling(name: str, expected: str) -> None:
    assert variants(name)[0] == name
    assert expected in variants(name)


def test_a_residual_title_is_not_shortened_to_something_it_excludes() -> None:
    assert variants("Other pneumonia, unspecified organism") == (
        "Other pneumonia, unspecified organism",
    )


def test_synonyms_join_the_official_names_without_repeats() -> None:
    taxonomy = Taxonomy("t", [CodeEntry("I10", "Hypertension", None, "category")])
    table = names_by_code(taxonomy, ["I10", "X1"], {"I10": ["HTA", "hypertension"], "X1": ["Xe"]})
    assert table == {"I10": ("Hypertension", "HTA"), "X1": ("Xe",)}


def test_an_abbreviation_may_leave_out_what_kind_of_thing_it_is() -> None:
    assert abbreviations("Von Hippel-Lindau syndrome") == {"VHLS", "VHL"}
    assert abbreviations("Pneumonia") == set()


def test_a_corrupted_name_differs_but_stays_close() -> None:
    rng = np.random.default_rng(0)
    name = "acute appendicitis with peritonitis"
    spoilt = [corrupt(name, rng) for _ in range(50)]
    assert sum(s != name for s in spoilt) >= 45
    assert all(len(name) - 14 <= len(s) <= len(name) + 1 for s in spoilt)
