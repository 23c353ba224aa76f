import dataclasses
from pathlib import Path

import numpy as np
import pytest

from label_config.errors import CheckpointError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import CodeEntry, Taxonomy
from training.described import Described, fit_described, join

DISEASES = [
    *("gastritis", "nephritis", "bronchitis", "dermatitis", "arthritis", "hepatitis", "cystitis"),
    *("meningitis", "pancreatitis", "appendicitis", "sinusitis", "conjunctivitis", "tonsillitis"),
    *("pericarditis", "myocarditis", "osteomyelitis", "encephalitis", "thyroiditis", "mastitis"),
    *("keratitis", "neuritis", "phlebitis", "colitis", "otitis"),
]
CODES = [f"A{i:02d}" for i in range(len(DISEASES))]
TAXONOMY = Taxonomy(
    "ward",
    [
        *(
            CodeEntry(c, f"Acute {d}", None, "category")
            for c, d in zip(CODES, DISEASES, strict=True)
        ),
        CodeEntry("B10", "Fracture of bone", None, "category"),
        CodeEntry("B10.1", "Hip type", "B10", "subcategory"),
        CodeEntry("B10.2", "Wrist type", "B10", "subcategory"),
    ],
)


def emr(number: int, words: str) -> EMR:
    return EMR(f"e{number}", {"Illness": f"Was admitted to the ward. Found: {words}. Went home."})


def coding(number: int, *codes: str) -> Coding:
    return Coding(f"e{number}", codes, "clean")


@pytest.fixture(scope="module")
def ward() -> tuple[list[EMR], list[Coding]]:
    """40 EMRs; every code but the last four, each in one or two of them."""
    known = len(CODES) - 4
    emrs = [emr(i, f"{DISEASES[i % known]} on admission") for i in range(40)]
    return emrs, [coding(i, CODES[i % known]) for i in range(40)]


@pytest.fixture(scope="module")
def unique() -> tuple[list[EMR], list[Coding]]:
    """20 EMRs with a code of their own each."""
    emrs = [emr(i, f"{DISEASES[i]} on admission") for i in range(20)]
    return emrs, [coding(i, CODES[i]) for i in range(20)]


def fit_unique(unique, **more) -> tuple[Described | None, np.ndarray]:
    emrs, codings = unique
    fused_NK = np.zeros((20, len(CODES)))
    return fit_described(
        emrs, codings, np.arange(20) % 4, fused_NK, codes=CODES, taxonomy=TAXONOMY, **more
    )


def test_a_code_that_nobody_has_given_is_found_by_its_name(unique) -> None:
    described, _ = fit_unique(unique)
    assert described is not None and described.codes == tuple(CODES[20:])
    probs_NU = described.probs([emr(90, "phlebitis of the leg"), emr(91, "nothing to report")])
    assert probs_NU[0].argmax() == DISEASES.index("phlebitis") - 20
    assert probs_NU[0].max() > 0.5 > 0.2 > probs_NU[1].max()


def test_a_fold_s_own_codes_are_new_to_it_and_right_on_average(unique) -> None:
    emrs, _ = unique
    _, suggested_NK = fit_unique(unique)
    assert (suggested_NK.argmax(axis=1) == np.arange(20)).all()
    assert suggested_NK.sum() == pytest.approx(len(emrs), rel=0.05)


def test_codes_that_other_folds_have_are_left_as_they_were(ward) -> None:
    emrs, codings = ward
    fused_NK = np.random.default_rng(0).random((40, len(CODES)))
    folds_N = np.arange(40) // 20
    described, suggested_NK = fit_described(
        emrs, codings, folds_N, fused_NK, codes=CODES, taxonomy=TAXONOMY
    )
    assert described is None, "every code of a fold stands in the other: nothing to learn from"
    assert (suggested_NK == fused_NK).all()


def test_a_code_with_a_noisy_positive_is_not_new(unique) -> None:
    noisy = [Coding("n1", (CODES[-1],), "noisy", (0.5,))]
    described, _ = fit_unique(unique, noisy=noisy)
    assert described is not None and CODES[-1] not in described.codes


def test_there_is_nothing_to_describe_where_every_code_was_given(unique) -> None:
    described, _ = fit_unique(unique, noisy=[Coding("n1", tuple(CODES), "noisy")])
    assert described is None


def test_what_the_fusion_knows_already_is_not_said_twice(unique) -> None:
    emrs, codings = unique
    sure_NK = np.zeros((20, len(CODES)))
    sure_NK[np.arange(20), np.arange(20)] = 0.95
    _, suggested_NK = fit_described(
        emrs, codings, np.arange(20) % 4, sure_NK, codes=CODES, taxonomy=TAXONOMY
    )
    assert suggested_NK.sum() == pytest.approx(20, rel=0.1)


def test_evidence_is_the_words_that_make_the_name(unique) -> None:
    described, _ = fit_unique(unique)
    record = emr(92, "an acute sore place, phlebitis of the left leg")
    (span,) = described.evidence(record, ["A21", "A00"])
    text = record.text_of(span.section)
    assert (span.code, text[span.start : span.end]) == ("A21", "phlebitis")
    assert 0 < span.score <= 1
    assert described.evidence(EMR("x", {"A": "?"}), ["A21"]) == []


def test_what_coders_highlighted_for_a_code_beside_it_counts_too() -> None:
    record = emr(1, "colles deformity")
    start = record.sections["Illness"].index("colles")
    marked = EvidenceSpan("B10.1", "Illness", start, start + len("colles deformity"))
    highlighted = dataclasses.replace(coding(1, "B10.1"), evidence=(marked,))
    other = [emr(2, "colles deformity again")]
    alone = Described.of(["B10.2"], [record], [coding(1, "B10.1")], TAXONOMY)
    beside = Described.of(["B10.2"], [record], [highlighted], TAXONOMY)
    assert beside.scores(other)[0, 0] > alone.scores(other)[0, 0]


def test_a_code_without_a_name_is_left_out() -> None:
    assert Described.of(["Z1"], [], [], TAXONOMY) is None
    described = Described.of(["Z1", "A00"], [], [], TAXONOMY, {"Z1": ["..."]})
    assert described.codes == ("A00",)
    assert described.scores([EMR("x", {"A": "..."})]).tolist() == [[0.0]]


def test_a_saved_one_says_the_same(unique, tmp_path: Path) -> None:
    described, _ = fit_unique(unique)
    described.save(tmp_path / "described")
    loaded = Described.load(tmp_path / "described")
    assert loaded.codes == described.codes
    assert (loaded.probs(unique[0]) == described.probs(unique[0])).all()
    with pytest.raises(CheckpointError):
        Described.load(tmp_path)


def test_joining_keeps_what_either_knows() -> None:
    assert join(np.array([0.5, 0.0]), np.array([0.5, 0.3])) == pytest.approx([0.75, 0.3])
