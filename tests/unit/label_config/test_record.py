import pytest

from label_config.errors import DataError
from label_config.record import DIAGNOSIS_SECTION, EMR, Coding, Diagnosis, EvidenceSpan


def emr(**changes: object) -> EMR:
    values = {
        "emr_id": "e1",
        "sections": {"Chief complaint": "cough", "Past history": " "},
        "diagnoses": (Diagnosis("pneumonia"), Diagnosis("HTN")),
    }
    return EMR(**{**values, **changes})  # type: ignore[arg-type]


def test_texts_leave_out_empty_sections_and_end_with_the_numbered_diagnoses():
    assert list(emr().texts()) == [
        ("Chief complaint", "cough"),
        (DIAGNOSIS_SECTION, "1. pneumonia\n2. HTN"),
    ]


def test_long_text_holds_no_diagnosis_name():
    assert emr().long_text == "cough"


def test_text_of_an_unknown_section_names_the_emr_and_the_section():
    with pytest.raises(DataError, match=r"e1 has no section 'Plan'"):
        emr().text_of("Plan")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"emr_id": ""}, "emr_id"),
        ({"emr_id": "a\nb"}, "emr_id"),
        ({"emr_id": "x" * 201}, "emr_id"),
        ({"sections": {}, "diagnoses": ()}, "needs text"),
        ({"sections": {DIAGNOSIS_SECTION: "x"}}, "kept for"),
        ({"age": 200.0}, "age"),
    ],
)
def test_an_emr_that_no_step_could_use_is_refused(changes: dict, reason: str):
    with pytest.raises(DataError, match=reason):
        emr(**changes)


def test_a_coding_refuses_repeats_and_a_confidence_for_the_wrong_number_of_codes():
    with pytest.raises(DataError, match="repeats"):
        Coding("e1", ("I10", "I10"), "noisy")
    with pytest.raises(DataError, match="one confidence per code, got 1 for 2"):
        Coding("e1", ("I10", "J18.9"), "noisy", confidence=(0.5,))


def test_the_principal_diagnosis_is_the_first_code():
    assert Coding("e1", ("J18.9", "I10"), "clean").principal == "J18.9"
    assert Coding("e1", (), "clean").principal is None


def test_evidence_needs_a_span_of_at_least_one_character():
    with pytest.raises(DataError, match=r"got 4\.\.4"):
        EvidenceSpan("I10", "Past history", 4, 4)
