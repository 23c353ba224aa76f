from pathlib import Path

import pytest

from label_config.errors import ConfigError
from label_config.record import DIAGNOSIS_SECTION
from training.context import ContextRules, context_at
from training.fold import fold

CASES = [
    ("The patient denies fever, cough or chest pain.", "chest pain", "negated"),
    ("The patient denies fever. Cough was present.", "cough", "affirmed"),
    ("No fever but cough since Monday", "cough", "affirmed"),
    ("Pulmonary embolism was ruled out.", "pulmonary embolism", "negated"),
    ("There was no change in the headache", "headache", "affirmed"),
    ("Mother with diabetes", "diabetes", "family"),
    ("Possible pneumonia on the left", "pneumonia", "uncertain"),
    ("History of appendicitis", "appendicitis", "history"),
    ("Niega fiebre pero presenta tos", "fiebre", "negated"),
    ("Niega fiebre pero presenta tos", "tos", "affirmed"),
    ("Se descarta neumonía", "neumonia", "negated"),
    ("Antecedentes familiares de diabetes", "diabetes", "family"),
    ("否认高血压、糖尿病史，有咳嗽", "糖尿病", "negated"),
    ("否认高血压、糖尿病史，有咳嗽", "咳嗽", "affirmed"),
    ("母亲患糖尿病", "糖尿病", "family"),
    ("Temp 38.5 without cough", "cough", "negated"),
]


@pytest.mark.parametrize(("text", "mention", "context"), CASES)
def test_a_mention_has_its_context(text: str, mention: str, context: str) -> None:
    folded = fold(text)
    start = folded.text.index(mention)
    scopes = ContextRules.load().scopes(folded)
    assert context_at(scopes, start, start + len(mention)) == context


def test_a_line_break_ends_what_a_trigger_reaches() -> None:
    folded = fold("Fever: no\nCough and sputum")
    start = folded.text.index("cough")
    assert context_at(ContextRules.load().scopes(folded), start, start + 5) == "affirmed"


def test_a_trigger_inside_the_mention_does_not_deny_it() -> None:
    folded = fold("anuria without fever")
    scopes = ContextRules.load().scopes(folded)
    assert context_at(scopes, 0, len(folded.text)) == "affirmed"


@pytest.mark.parametrize(
    ("section", "context"),
    [
        ("Family history", "family"),
        ("Antecedentes personales", "history"),
        ("家族史", "family"),
        ("Present illness", "affirmed"),
        (DIAGNOSIS_SECTION, "listed"),
    ],
)
def test_a_sections_name_sets_the_context_of_all_in_it(section: str, context: str) -> None:
    assert ContextRules.load().of_section(section) == context


def test_rules_without_a_part_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reach"):
        ContextRules({})
    with pytest.raises(ConfigError, match="cannot read"):
        ContextRules.load(tmp_path / "none.yaml")
