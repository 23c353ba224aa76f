"""The three screens in a browser: hostile text neither runs nor fetches, and all can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from label_config.record import EMR, Diagnosis, EvidenceSpan
from label_config.rules import RuleBook
from label_config.suggestion import SimilarCase, Suggestion, SuggestionSet
from label_config.task import build_task
from label_config.taxonomy import CodeEntry, Taxonomy
from ml_backend.label_studio import LabelStudioClient

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Backend, Screen

pytestmark = pytest.mark.e2e

ELSEWHERE = "http://127.0.0.1:9/stolen"
ATTACKS = (
    '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>',
    f'<iframe src="{ELSEWHERE}"></iframe><link rel=stylesheet href={ELSEWHERE}>',
    f"<svg onload=window.hacked=1><image href={ELSEWHERE}></svg>",
    f"<style>*{{background:url({ELSEWHERE})}}</style><base href={ELSEWHERE}>",
    f"![x]({ELSEWHERE}) [a](javascript:window.hacked=1)\n\n# x <details open ontoggle=hacked=1>",
    f'"><meta http-equiv=refresh content="0;url={ELSEWHERE}"><form action={ELSEWHERE}>',
)
FORBIDDEN = (
    ":is(script, iframe, object, embed, form[action], meta, link, base, svg image, img, [onload])"
)

CONTRASTS = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('.icd .emr p, .icd .emr h4, .icd .c > *, .icd .head *')]
    .filter(e => e.textContent.trim() && e.offsetParent)
    .map(e => [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((a, b) => b - a))
    .map(([a, b]) => (a + 0.05) / (b + 0.05));
}"""
"""The contrast of each text with what lies behind it, as WCAG 2 counts it."""


@pytest.mark.parametrize("screen_name", ["coding", "choices", "evidence"])
def test_nothing_that_data_say_runs_or_is_fetched(
    client: LabelStudioClient,
    backend: Backend,
    screen: Screen,
    tmp_path: Path,
    screen_name: str,
) -> None:
    everything = " ".join(ATTACKS)
    own = tmp_path / "ward.yaml"
    own.write_text("- {id: w/x, codes: [X01], say: '{title}', source: '<img src=x onerror=a()>'}\n")
    taxonomy = Taxonomy("hostile", [CodeEntry("X01", everything, None, "category")])
    emr = EMR(f"EMR-<b>{screen_name}</b>", {ATTACKS[0]: everything}, (Diagnosis(everything),))
    span = EvidenceSpan("X01", ATTACKS[0], 0, 20, 0.9)
    case = SimilarCase("EMR-<i>5", 0.9, ("X01",), everything, ("window", "<img", "onerror"))
    suggestions = SuggestionSet(
        emr.emr_id, (Suggestion("X01", 0.9, {"<b>": 0.9}, (span,)),), "v1", similar=(case,)
    )
    task = build_task(
        emr,
        suggestions,
        taxonomy,
        batch=everything,
        order=1,
        reason=everything,
        rules=RuleBook(taxonomy, own=own),
    )
    project = client.set_up(
        f"hostile {screen_name} {id(screen)}",
        taxonomy_url=f"{backend.url}/taxonomy.json",
        screen=screen_name,
    )
    client.push(project.id, [task])
    page, asked = screen.page, []
    page.on("request", lambda request: asked.append(request.url))
    screen.project_url = project.url
    screen.open_stream()
    page.hover(".cand .lsf-choice")
    page.wait_for_timeout(500)
    page.locator("textarea[name=note]").fill(everything)
    page.locator(".emr p").first.click()
    screen.submit()
    tasks = list(client.tasks(project.id))
    screen.open_task(tasks[0]["id"])  # the note, as the next reader sees it

    assert page.evaluate("window.hacked") is None
    assert screen.dialogs == []
    assert page.locator(f".icd {FORBIDDEN}").count() == 0
    assert page.locator(".icd style").count() <= 1, "the interface's own"
    places = [url for url in asked if urlsplit(url).scheme in ("http", "https")]
    assert places
    home = {urlsplit(screen.project_url).netloc, urlsplit(backend.url).netloc}
    assert {urlsplit(url).netloc for url in places} <= home
    assert not any(urlsplit(url).path.endswith(("/x", "/stolen")) for url in places)
    [coding] = client.pull(project.id).codings
    assert coding.note == everything


def test_the_three_screens_fit_a_small_display_in_light_and_dark(
    client: LabelStudioClient,
    backend: Backend,
    screen: Screen,
    taxonomy: Taxonomy,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
    tmp_path: Path,
) -> None:
    emr = make_emr("EMR-1")
    page = screen.page
    page.set_viewport_size({"width": 1366, "height": 768})
    for name in ("coding", "choices", "evidence"):
        url = f"{backend.url}/taxonomy.json"
        project = client.set_up(f"fits {name} {id(screen)}", taxonomy_url=url, screen=name)
        always = ["I10", "I48.91", "I63.9", "E11.9"] if name == "choices" else []
        task = build_task(emr, suggest(emr), taxonomy, batch="b", order=1, always=always)
        client.push(project.id, [task])
        screen.project_url = project.url
        for theme in ("Light", "Dark"):
            page.add_init_script(f"localStorage.setItem('preferred-color-scheme', '{theme}')")
            screen.open_stream()
            page.screenshot(path=tmp_path / f"{name}-{theme}.png")
            spare = page.evaluate(
                "() => ['.left', '.side'].map(q => document.querySelector(`.icd ${q}`))"
                ".map(e => e.scrollWidth - e.clientWidth)"
            )
            assert max(spare) <= 1, f"{name} scrolls sideways"
            assert min(page.evaluate(CONTRASTS)) >= 4.5, f"{name} is hard to read in {theme}"
        assert screen.ticked() == ["I63.9", "I10"]
        listed = screen.shown_candidates()
        assert listed == (["I63.9", "I10", "I48.91", "E11.9"] if always else ["I63.9", "I10"])
        page.keyboard.press("/")
        focused = page.evaluate("document.activeElement.tagName")
        assert focused == ("BODY" if name == "evidence" else "INPUT")
