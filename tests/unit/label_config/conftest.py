"""A ten-code taxonomy, one EMR and what a model says about it."""

from __future__ import annotations

import pytest

from label_config.record import DIAGNOSIS_SECTION, EMR, Diagnosis, EvidenceSpan
from label_config.suggestion import SimilarCase, Suggestion, SuggestionSet
from label_config.taxonomy import CodeEntry, Taxonomy

TREE = {
    "9": ("Diseases of the circulatory system", None),
    "I10-I1A": ("Hypertensive diseases", "9"),
    "I10": ("Essential (primary) hypertension", "I10-I1A"),
    "I48": ("Atrial fibrillation and flutter", "9"),
    "I48.9": ("Unspecified atrial fibrillation", "I48"),
    "I63": ("Cerebral infarction", "9"),
    "I63.9": ("Cerebral infarction, unspecified", "I63"),
    "4": ("Endocrine diseases", None),
    "E11": ("Type 2 diabetes mellitus", "4"),
    "E11.9": ("Type 2 diabetes mellitus without complications", "E11"),
}


@pytest.fixture(scope="session")
def small_taxonomy() -> Taxonomy:
    return Taxonomy("small", (CodeEntry(c, t, p, "block") for c, (t, p) in TREE.items()))


@pytest.fixture(scope="session")
def stroke_emr() -> EMR:
    return EMR(
        "EMR-1",
        {
            "Chief complaint": "Sudden weakness 😀 of the left limbs.",
            "Past history": "Hypertension for 15 years. Type 2 diabetes. Smoker.",
        },
        (Diagnosis("Hypertension grade 3"), Diagnosis("Acute cerebral infarction")),
        patient_id="P-7",
        sex="male",
        age=71,
    )


@pytest.fixture(scope="session")
def stroke_suggestions(stroke_emr: EMR) -> SuggestionSet:
    def span(code: str, section: str, text: str, score: float) -> EvidenceSpan:
        start = stroke_emr.text_of(section).index(text)
        return EvidenceSpan(code, section, start, start + len(text), score)

    stroke = (
        span("I63.9", "Chief complaint", "left limbs", 0.84),
        span("I63.9", DIAGNOSIS_SECTION, "Acute cerebral infarction", 1.0),
    )
    hypertension = (span("I10", DIAGNOSIS_SECTION, "Hypertension grade 3", 0.9),)
    diabetes = (span("E11.9", "Past history", "Type 2 diabetes", 0.4),)
    return SuggestionSet(
        "EMR-1",
        (
            Suggestion("I63.9", 0.95, {"names": 0.97, "lexicon": 0.8}, stroke),
            Suggestion("I10", 0.7, {"names": 0.9, "sparse": 0.1}, hypertension),
            Suggestion("E11.9", 0.3, {"sparse": 0.3}, diabetes),
        ),
        "v1",
        similar=(
            SimilarCase("EMR-9", 0.91, ("I63.9",), "Weakness.\n\n# Not a title", ("weakness",)),
        ),
    )
