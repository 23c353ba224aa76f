from pathlib import Path

import pytest

from label_config.code_refs import references
from label_config.errors import ConfigError
from label_config.rules import Coded, RuleBook
from label_config.taxonomy import Taxonomy


@pytest.fixture(scope="module")
def icd() -> Taxonomy:
    return Taxonomy.icd10cm()


@pytest.fixture(scope="module")
def book(icd: Taxonomy) -> RuleBook:
    return RuleBook(icd)


def warned(book: RuleBook, *codes: str, **more) -> list[tuple[str, tuple[str, ...]]]:
    return [(w.rule, w.codes) for w in book.check(Coded(codes, **more))]


@pytest.mark.parametrize(
    ("note", "inside", "outside"),
    [
        ("transplant (T86.3-)", ["T86.3", "T86.31"], ["T86.2", "T86"]),
        ("pneumonia (B38.0-B38.2)", ["B38.0", "B38.1", "B38.2"], ["B38.3", "B38"]),
        ("poisoning (T36-T50)", ["T36", "T42.1X1A", "T50.9"], ["T51", "T35"]),
        ("glucose (E83.-)", ["E83", "E83.1"], ["E84"]),
        ("neoplasm (C7A.-, D3A.0-)", ["C7A.1", "D3A.01"], ["C79.1", "D3A.8"]),
    ],
)
def test_references_in_notes_hold_the_code_and_all_below_it(
    note: str, inside: list[str], outside: list[str]
):
    found = references(note)
    assert all(any(code in r for r in found) for code in inside)
    assert not any(code in r for code in outside for r in found)


def test_a_reference_with_a_condition_on_later_characters_is_left_out():
    assert references("stuttering (I69. with final characters -23)") == ()


def test_two_codes_that_exclude_each_other_are_named_once_with_the_note_s_place(book: RuleBook):
    (warning,) = book.check(Coded(("E10.9", "E11.9")))
    assert warning.rule == "excludes1"
    assert set(warning.codes) == {"E10.9", "E11.9"}
    assert warning.source.startswith("Excludes1 at E1")


def test_a_manifestation_before_its_disease_is_warned_about_and_after_it_is_not(book: RuleBook):
    assert warned(book, "F02.80", "G30.9") == [("code-first", ("F02.80", "G30.9"))]
    assert warned(book, "G30.9", "F02.80") == []


def test_an_additional_code_is_asked_for_only_where_the_record_supports_it(book: RuleBook):
    asked = ("use-additional", ("N30.00", "B96.20"))
    assert asked not in warned(book, "N30.00")
    assert asked not in warned(book, "N30.00", supported={"B96.20": 0.3})
    assert asked in warned(book, "N30.00", supported={"B96.20": 0.9})
    assert asked not in warned(book, "N30.00", "B96.20", supported={"B96.20": 0.9})


def test_a_parent_beside_its_child_and_a_code_above_a_leaf_are_warned_about(book: RuleBook):
    rules = [rule for rule, _ in warned(book, "I63", "I63.9")]
    assert "parent-and-child" in rules
    assert ("not-specific", "I63") in {
        (w.rule.split("/")[0], w.codes[0]) for w in book.check(Coded(("I63",)))
    }


def test_a_supported_sibling_of_an_unspecified_code_is_offered(book: RuleBook):
    found = warned(book, "J45.909", supported={"J45.901": 0.8, "J45.902": 0.2})
    assert found == [("not-specific/sibling", ("J45.909", "J45.901"))]


@pytest.mark.parametrize(
    ("codes", "patient", "rule"),
    [
        (("O80",), {"sex": "male"}, "sex/pregnancy"),
        (("N40.0",), {"sex": "female"}, "sex/male-organs"),
        (("N80.00",), {"sex": "male"}, "sex/female-organs"),
        (("O80",), {"sex": "female", "age": 70.0}, "age/pregnancy-late"),
        (("I25.10",), {"age": 6.0}, "age/adult"),
    ],
)
def test_a_code_that_does_not_fit_the_patient_is_warned_about(
    book: RuleBook, codes: tuple[str, ...], patient: dict, rule: str
):
    assert rule in [r for r, _ in warned(book, *codes, **patient)]
    assert rule not in [r for r, _ in warned(book, *codes)]


def test_a_symptom_beside_its_cause_names_the_cause(book: RuleBook):
    (warning,) = book.check(Coded(("J18.9", "R05.9")))
    assert warning.rule == "symptom/cough"
    assert "J18.9" in warning.text


def test_rules_and_families_of_rules_can_be_switched_off(icd: Taxonomy):
    codes = ("J18.9", "R05.9", "R50.9")
    assert len(RuleBook(icd).check(Coded(codes))) == 2
    assert len(RuleBook(icd, off=["symptom/cough"]).check(Coded(codes))) == 1
    assert RuleBook(icd, off=["symptom"]).check(Coded(codes)) == []
    with pytest.raises(ConfigError, match="no coding rule 'symptoms'; there are: age, "):
        RuleBook(icd, off=["symptoms"])


def test_unknown_codes_are_passed_over(book: RuleBook):
    assert warned(book, "XYZ", "J18.9") == []


def test_a_team_s_own_rule_speaks_beside_the_built_in_ones(icd: Taxonomy, tmp_path: Path):
    own = tmp_path / "ward.yaml"
    own.write_text(
        "- {id: ward/smoking, codes: [J44], without: [F17, Z87.891], "
        "say: '{code} without smoking status', source: Ward 7}\n"
    )
    book = RuleBook(icd, own=own)
    assert warned(book, "J44.9") == [("ward/smoking", ("J44.9",))]
    assert warned(book, "J44.9", "Z87.891") == []


BROKEN_RULES = """
id: x
- [1]
- {id: x, codes: [J44], say: hm}
- {id: x, codes: [J], say: a, source: b}
- {id: x, codes: [J44], say: '{patient}', source: b}
- {id: x
- {id: x, codes: [J44], say: a, source: b, sex: both}
- {id: excludes1, codes: [J44], say: a, source: b}
"""


@pytest.mark.parametrize("text", BROKEN_RULES.strip().splitlines())
def test_a_rules_file_that_is_not_in_the_form_is_refused(icd: Taxonomy, tmp_path: Path, text: str):
    own = tmp_path / "ward.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError):
        RuleBook(icd, own=own)
