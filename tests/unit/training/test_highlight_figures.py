from collections.abc import Sequence

import numpy as np
import pytest

from label_config.record import DIAGNOSIS_SECTION, EMR, Diagnosis, EvidenceSpan
from training.highlight_figures import (
    HighlightCase,
    elsewhere,
    faithfulness,
    highlight_figures,
)

RECORD = EMR("e1", {"A": "cough and fever", "B": "pain"})


def span(section: str, start: int, end: int, score: float = 1.0) -> EvidenceSpan:
    return EvidenceSpan("J18.9", section, start, end, score)


def case(found: list[EvidenceSpan], true: list[EvidenceSpan]) -> HighlightCase:
    return HighlightCase(RECORD, "J18.9", tuple(found), tuple(true))


def test_the_same_span_is_perfect() -> None:
    figures = highlight_figures([case([span("A", 0, 5)], [span("A", 0, 5)])])
    assert all(value == 1.0 for value in figures.values())


def test_half_a_span_has_half_the_recall() -> None:
    figures = highlight_figures([case([span("A", 0, 5)], [span("A", 0, 10)])])
    assert (figures["precision"], figures["recall"], figures["iou"]) == (1.0, 0.5, 0.5)
    assert figures["f1"] == pytest.approx(2 / 3)


def test_the_same_offsets_in_another_section_are_wrong() -> None:
    figures = highlight_figures([case([span("B", 0, 4)], [span("A", 0, 4)])])
    assert figures["f1"] == figures["top1"] == 0.0


def test_the_strongest_span_decides_top_1() -> None:
    true = [span("A", 10, 15)]
    right = case([span("A", 0, 5, 0.2), span("A", 10, 15, 0.9)], true)
    wrong = case([span("A", 0, 5, 0.9), span("A", 10, 15, 0.2)], true)
    assert highlight_figures([right, wrong])["top1"] == 0.5
    assert highlight_figures([right])["auprc"] > highlight_figures([wrong])["auprc"]


def test_without_true_spans_there_is_no_figure() -> None:
    assert np.isnan(list(highlight_figures([case([span("A", 0, 5)], [])]).values())).all()


def test_a_faithful_highlight_carries_the_probability() -> None:
    def predict(emrs: Sequence[EMR]) -> np.ndarray:
        return np.array([[0.9 if "fever" in emr.long_text else 0.1] for emr in emrs])

    right = faithfulness(predict, RECORD, 0, [span("A", 10, 15)])
    wrong = faithfulness(predict, RECORD, 0, [span("B", 0, 4)])
    assert right == pytest.approx({"comprehensiveness": 0.8, "sufficiency": 0.0})
    assert wrong == pytest.approx({"comprehensiveness": 0.0, "sufficiency": 0.8})


def test_a_diagnosis_name_goes_with_the_highlight_on_it() -> None:
    def predict(emrs: Sequence[EMR]) -> np.ndarray:
        return np.array([[0.8 if "flu" in emr.diagnosis_text else 0.3] for emr in emrs])

    emr = EMR("e1", {"A": "cough"}, diagnoses=(Diagnosis("ulcer"), Diagnosis("flu")))
    at = emr.diagnosis_text.index("flu")
    right = faithfulness(predict, emr, 0, [span(DIAGNOSIS_SECTION, at, at + 3)])
    wrong = faithfulness(predict, emr, 0, [span(DIAGNOSIS_SECTION, 3, 5), span("A", 0, 5)])
    assert right == pytest.approx({"comprehensiveness": 0.5, "sufficiency": 0.0})
    assert wrong == pytest.approx({"comprehensiveness": 0.0, "sufficiency": 0.5})


def test_text_by_chance_is_as_long_and_lies_in_the_same_sections() -> None:
    spans = [span("A", 10, 15), span("B", 0, 4)]
    rng = np.random.default_rng(0)
    drawn = [elsewhere(RECORD, spans, rng) for _ in range(50)]
    for moved in drawn:
        assert [(s.section, s.end - s.start) for s in moved] == [("A", 5), ("B", 4)]
        assert all(s.start >= 0 and s.end <= len(RECORD.text_of(s.section)) for s in moved)
    assert {moved[0].start for moved in drawn} == set(range(11))
