"""A coder's work on the real server, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from label_config.record import DIAGNOSIS_SECTION, EMR, Diagnosis, EvidenceSpan
from label_config.suggestion import SimilarCase, Suggestion, SuggestionSet
from label_config.task import build_task
from label_config.taxonomy import CodeEntry, Taxonomy
from ml_backend.label_studio import LabelStudioClient

if TYPE_CHECKING:
    from conftest import Screen

pytestmark = pytest.mark.e2e


def test_a_pre_annotated_task_is_read_corrected_submitted_and_pulled(
    client: LabelStudioClient,
    project: int,
    screen: Screen,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
) -> None:
    emr = make_emr("EMR-1")
    suggestions = suggest(emr)
    client.push(project, [build_task(emr, suggestions, taxonomy, batch="b1", order=1)])

    screen.open_stream()
    assert screen.ticked() == ["I63.9", "I10"]
    assert screen.shown_candidates() == ["I63.9", "I10"], "I48.91 lies below the 50 % shown"
    by_code = {"I63_9": [], "I10": []}
    for region, text in screen.highlights().items():
        by_code[region.split("_", 1)[1].rsplit("_k", 1)[0]].append(text)
    assert by_code["I63_9"] == ["Sudden weakness of the left limbs", "Acute cerebral infarction"]
    assert by_code["I10"] == ["Hypertension for 15 years"]

    screen.page.keyboard.press("k")  # show all
    assert screen.shown_candidates() == ["I63.9", "I10", "I48.91"]
    assert "atrial fibrillation" in screen.highlights().values()
    screen.page.keyboard.press("3")  # accept I48.91
    screen.page.keyboard.press("2")  # refuse I10
    screen.page.keyboard.press("f")  # at 90 % a ticked code and its evidence stay
    assert screen.shown_candidates() == ["I63.9", "I48.91"]
    assert "atrial fibrillation" in screen.highlights().values()
    assert "Hypertension for 15 years" not in screen.highlights().values()
    screen.page.keyboard.press("z")  # quality: clean
    screen.submit()

    [coding], problems, *_ = client.pull(project)
    assert problems == []
    assert coding.codes == ("I63.9", "I48.91")
    assert coding.suggested == ("I63.9", "I10")
    assert coding.quality == "clean"
    assert coding.coder is not None
    assert coding.seconds is not None and coding.seconds > 0
    evidence = {
        (s.code, s.section, emr.text_of(s.section)[s.start : s.end]) for s in coding.evidence
    }
    assert evidence == {
        ("I63.9", "Chief complaint", "Sudden weakness of the left limbs"),
        ("I63.9", DIAGNOSIS_SECTION, "Acute cerebral infarction"),
        ("I48.91", "Examination", "atrial fibrillation"),
    }


def test_a_highlight_drawn_after_emoji_chinese_and_html_signs_keeps_its_characters(
    client: LabelStudioClient, project: int, screen: Screen, taxonomy: Taxonomy
) -> None:
    text = '😀 脑梗死 <b>&amp; \r\n𝒳 tab\there  "quoted" 高血压15年 & more'
    emr = EMR("EMR-2", {"Présent <i>": "a & b", "现病史": text}, (Diagnosis("R&D <x>"),))
    predicted = text.index("脑梗死")
    span = EvidenceSpan("I63.9", "现病史", predicted, predicted + 3, 0.9)
    suggestions = SuggestionSet(
        "EMR-2", (Suggestion("I63.9", 0.9, {}, (span,)), Suggestion("I10", 0.6)), "v1"
    )
    client.push(project, [build_task(emr, suggestions, taxonomy, batch="b1", order=1)])

    screen.open_stream()
    assert list(screen.highlights().values()) == ["脑梗死"]
    screen.page.keyboard.press("w")  # the label of I10
    screen.select_text("高血压15年")
    screen.submit()

    [coding], problems, *_ = client.pull(project)
    assert problems == []
    start = text.index("高血压15年")
    assert {(s.code, s.section, s.start, s.end) for s in coding.evidence} == {
        ("I63.9", "现病史", predicted, predicted + 3),
        ("I10", "现病史", start, start + len("高血压15年")),
    }


def test_evidence_labelled_other_takes_its_code_from_the_search(
    client: LabelStudioClient,
    project: int,
    screen: Screen,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
) -> None:
    emr = make_emr("EMR-3")
    client.push(project, [build_task(emr, suggest(emr), taxonomy, batch="b1", order=1)])

    screen.open_stream()
    screen.page.keyboard.press("d")  # the label Other
    screen.select_text("Type 2 diabetes")
    screen.page.locator(".htx-highlight", has_text="Type 2 diabetes").click()
    screen.page.locator(".side .htx-taxonomy").nth(1).click()
    screen.page.locator("[data-testid=taxonomy-search]:visible").fill("type 2")
    screen.page.get_by_title("E11.9 Type 2 diabetes mellitus without complications").click()
    screen.page.keyboard.press("Escape")
    screen.submit()

    [coding], problems, *_ = client.pull(project)
    assert problems == []
    assert "E11.9" in coding.codes
    [found] = [s for s in coding.evidence if s.code == "E11.9"]
    assert emr.text_of(found.section)[found.start : found.end] == "Type 2 diabetes"


def test_hostile_html_in_a_record_title_or_similar_case_is_text(
    client: LabelStudioClient, project: int, screen: Screen
) -> None:
    attack = (
        '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script><svg onload=alert(1)>'
    )
    taxonomy = Taxonomy("hostile", [CodeEntry("X1", attack, None, "chapter")])
    emr = EMR("EMR-<b>4</b>", {attack: f"</p></section>{attack}"}, (Diagnosis(attack),))
    case = SimilarCase("EMR-5", 0.9, ("X1",), f"{attack}\n\n[a](javascript:alert(1))", ("window",))
    suggestions = SuggestionSet(emr.emr_id, (Suggestion("X1", 0.9),), "v1", similar=(case,))
    reason = attack
    task = build_task(emr, suggestions, taxonomy, batch=attack, order=1, reason=reason)
    client.push(project, [task])

    screen.open_stream()
    screen.page.hover(".cand .lsf-choice")
    screen.page.wait_for_timeout(500)
    assert screen.page.evaluate("window.hacked") is None
    assert screen.dialogs == []
    assert screen.page.locator(".icd :is(script, svg[onload], img[src=x])").count() == 0
    for place in (".emr h4", ".emr p", ".cand", ".ref"):
        assert "onerror" in screen.page.locator(place).first.inner_text().lower()
    assert "EMR-<b>4</b>" in screen.page.locator(".bar h4").inner_text()
    assert screen.page.locator(".ref a").count() == 0
