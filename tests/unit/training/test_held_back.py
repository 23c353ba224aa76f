from dataclasses import replace

import pytest

from label_config.record import DIAGNOSIS_SECTION, Diagnosis, EvidenceSpan
from training.held_back import figures_of
from training.suggest import Suggester

CODES = ["E11.9", "I10", "J18.9", "K35.8"]
LOST = {"comprehensiveness", "sufficiency"}


@pytest.fixture(scope="module")
def judged(tiny_encoder, four_codes, ward):
    """A suggester of half of the ward, and the other half with its codes."""
    emrs, codings = ward
    model = Suggester.train(
        emrs[:32], [], codings[:32], codes=CODES, taxonomy=four_codes, encoder=tiny_encoder
    )
    return model, emrs[32:], {coding.emr_id: coding for coding in codings[32:]}, four_codes


def test_codes_near_misses_and_highlights_are_judged(judged):
    model, emrs, gold, _ = judged
    figures = figures_of(*judged)
    assert figures["micro_f1"] > 0.8
    assert figures["micro_f1"] <= figures["category_micro_f1"] <= 1
    ticked = {emr.emr_id: {s.code for s in model.suggest([emr])[0].ticked()} for emr in emrs}
    right = sum(len(ticked[emr_id] & set(coding.codes)) for emr_id, coding in gold.items())
    assert figures["highlights_judged"] == right > 0
    assert 0.3 < figures["highlight_f1"] <= 1
    assert not LOST & figures.keys()


def test_without_evidence_there_are_no_figures_of_highlights(judged):
    model, emrs, gold, taxonomy = judged
    bare = {emr_id: replace(coding, evidence=()) for emr_id, coding in gold.items()}
    figures = figures_of(model, emrs, bare, taxonomy)
    assert not any(name.startswith("highlight") for name in figures)


def test_highlights_carry_the_probability_more_than_text_by_chance(judged):
    steps: list[tuple[str, int, int]] = []
    figures = figures_of(*judged, explained=6, progress=lambda *at: steps.append(at))
    assert figures["codes_explained"] == 6
    assert figures["comprehensiveness"] > figures["comprehensiveness_by_chance"]
    assert figures["sufficiency"] < figures["sufficiency_by_chance"]
    assert ("explaining", 6, 6) in steps and ("highlighting", 16, 16) in steps
    again = figures_of(*judged, explained=6)
    assert again == figures


def test_names_are_judged_as_highlights_only_where_coders_highlight_names(judged):
    model, emrs, gold, taxonomy = judged
    named = [replace(emr, diagnoses=(Diagnosis("Essential hypertension"),)) for emr in emrs]
    text_alone = figures_of(model, named, gold, taxonomy)
    with_names = {
        emr_id: replace(
            coding, evidence=(*coding.evidence, EvidenceSpan("I10", DIAGNOSIS_SECTION, 3, 25))
        )
        for emr_id, coding in gold.items()
        if "I10" in coding.codes
    }
    both = figures_of(model, named, {**gold, **with_names}, taxonomy)
    found = [s for e in named for t in model.suggest([e])[0].ticked() for s in t.evidence]
    assert any(span.section == DIAGNOSIS_SECTION for span in found)
    assert both["highlight_recall"] != text_alone["highlight_recall"]
    assert text_alone["highlight_precision"] == figures_of(*judged)["highlight_precision"]
