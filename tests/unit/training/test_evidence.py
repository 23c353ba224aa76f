import numpy as np
import pytest

from label_config.record import EMR, Coding, EvidenceSpan
from training.evidence import evidence_spans, marked_nodes
from training.words import record_features

EMR_ = EMR(
    "emr-1",
    {
        "Complaint": "Productive cough for a week.",
        "Illness": "Cough, high fever and rusty sputum. Rusty sputum again. 糖尿病史。",
    },
)


@pytest.fixture(scope="module")
def features(tiny_encoder):
    return record_features(tiny_encoder, [dict(EMR_.sections)])[0]


def spans_for(features, scores: dict[str, float], at_most: int = 5) -> list[tuple[str, float]]:
    """Give these words these scores, every other word 0; return texts with scores."""
    scores_V = np.zeros(features.n_nodes)
    for word, (start, end) in enumerate(features.spans_W2):
        section = features.sections[features.sections_W[word]]
        text = EMR_.sections[section][start:end].casefold()
        scores_V[features.nodes_W[word]] = scores.get(text, 0.0)
    found = evidence_spans(features, scores_V, EMR_, code="J18.9", at_most=at_most)
    return [(EMR_.text_of(s.section)[s.start : s.end], round(s.score, 2)) for s in found]


def test_strong_words_that_stand_together_become_one_span(features):
    assert spans_for(features, {"rusty": 1.0, "sputum": 1.0}) == [("rusty sputum", 1.0)]


def test_a_weaker_neighbour_is_taken_along_but_starts_no_span(features):
    assert spans_for(features, {"fever": 1.0, "high": 0.2}) == [("high fever", 1.0)]


def test_a_run_of_strong_words_outranks_one_alone(features):
    found = spans_for(features, {"rusty": 0.9, "sputum": 0.9, "fever": 1.0})
    assert found == [("rusty sputum", 1.0), ("fever", 0.56)]


def test_spans_do_not_reach_over_punctuation(features):
    assert spans_for(features, {"cough": 1.0, "high": 1.0}) == [("cough", 1.0), ("high", 1.0)]


def test_han_characters_join_to_words(features):
    assert spans_for(features, {"糖": 1.0, "尿": 1.0, "病": 0.5}) == [("糖尿病", 1.0)]


def test_a_long_chinese_term_is_one_span(tiny_encoder):
    term = "急性前壁非透壁性心肌梗死"
    emr = EMR("emr-2", {"Illness": f"患者{term}入院。"})
    (features,) = record_features(tiny_encoder, [dict(emr.sections)])
    scores_V = np.zeros(features.n_nodes)
    scores_V[features.nodes_W[2 : 2 + len(term)]] = 1.0
    (span,) = evidence_spans(features, scores_V, emr, code="I21.4", at_most=5)
    assert emr.sections["Illness"][span.start : span.end] == term


def test_a_span_of_words_has_eight_at_most(tiny_encoder):
    emr = EMR("emr-3", {"Illness": "cough " * 20})
    (features,) = record_features(tiny_encoder, [dict(emr.sections)])
    (span,) = evidence_spans(features, np.ones(features.n_nodes), emr, code="J18.9", at_most=1)
    assert span.end - span.start == len("cough " * 8) - 1


def test_the_number_of_spans_is_bounded(features):
    scores = {"cough": 1.0, "fever": 0.9, "again": 0.8}
    assert len(spans_for(features, scores, at_most=2)) == 2


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_scores_that_say_nothing_give_no_spans(features, value):
    scores_V = np.full(features.n_nodes, value)
    assert evidence_spans(features, scores_V, EMR_, code="J18.9", at_most=5) == ()


def test_a_coders_marks_become_nodes_of_known_codes(features):
    start = EMR_.sections["Illness"].index("rusty")
    coding = Coding(
        "emr-1",
        ("J18.9", "Z99.9"),
        "clean",
        evidence=(
            EvidenceSpan("J18.9", "Illness", start, start + len("rusty sp")),
            EvidenceSpan("Z99.9", "Illness", 0, 5),
            EvidenceSpan("J18.9", "Diagnoses", 0, 5),
        ),
    )
    pairs = marked_nodes(features, coding, {"I10": 0, "J18.9": 1})
    nodes = {tuple(pair) for pair in pairs.tolist()}
    words = {
        EMR_.sections["Illness"][s:e].casefold()
        for (s, e), section, node in zip(
            features.spans_W2, features.sections_W, features.nodes_W, strict=True
        )
        if section == 1 and (1, node) in nodes
    }
    assert words == {"rusty", "sputum"}
    assert len(pairs) == 2
