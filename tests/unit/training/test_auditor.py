import numpy as np

from label_config.record import Coding
from label_config.taxonomy import CodeEntry, Taxonomy
from training.auditor import Finding, findings
from training.label_noise import FlipRates, Mended

TAXONOMY = Taxonomy(
    "t",
    [
        CodeEntry("E11", "Type 2 diabetes", None, "category"),
        CodeEntry("E11.2", "with kidney complications", "E11", "subcategory"),
        CodeEntry("E11.9", "without complications", "E11", "subcategory"),
        CodeEntry("I10", "Essential hypertension", None, "category"),
    ],
)
CODES = [entry.code for entry in TAXONOMY]


def doubts(given: list[str], text: list[float], posterior: list[float]) -> list[Finding]:
    """The findings of one EMR, likeliest first."""
    mended = Mended(
        np.array([text]), np.array([posterior]), np.zeros((1, 4), bool), (), FlipRates(0.1, 0.01)
    )
    coding = Coding("e1", tuple(given), "clean")
    return sorted(findings(mended, [coding], CODES, TAXONOMY), key=lambda f: -f.score)


def test_a_supported_code_that_was_not_given_is_missing() -> None:
    first = doubts(["E11.9"], [0, 0, 0.9, 0.8], [0, 0, 0.95, 0.5])[0]
    assert (first.kind, first.code, first.instead) == ("missing", "I10", None)


def test_a_code_above_the_supported_one_is_vague() -> None:
    first = doubts(["E11"], [0.1, 0.9, 0.1, 0], [0.6, 0.5, 0, 0])[0]
    assert (first.kind, first.code, first.instead) == ("vague", "E11", "E11.2")


def test_a_sibling_of_the_supported_code_is_wrong_if_it_is_doubted() -> None:
    first = doubts(["E11.9"], [0, 0.9, 0.1, 0], [0, 0.4, 0.1, 0])[0]
    assert (first.kind, first.code, first.instead) == ("wrong", "E11.9", "E11.2")
    kept = doubts(["E11.9"], [0, 0.9, 0.9, 0], [0, 0.4, 0.95, 0])[0]
    assert (kept.kind, kept.code) == ("missing", "E11.2")


def test_a_given_code_without_support_is_extra_and_no_code_counts_twice() -> None:
    found = doubts(["I10", "E11.9"], [0, 0.9, 0.1, 0.05], [0, 0.4, 0.1, 0.1])
    assert found[0] == Finding("e1", "extra", "I10", 0.9)
    assert [f.code for f in found if f.kind == "wrong"] == ["E11.9"]
    named = [f.instead or f.code for f in found]
    assert len(named) == len(set(named))
