"""A coder asks the model from the open editor, and codes without the mouse."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page

from label_config.advice import default_rules
from label_config.record import DIAGNOSIS_SECTION, EMR
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.task import build_task
from label_config.taxonomy import CodeEntry, Taxonomy, tree_json
from ml_backend.interactive import answer
from ml_backend.label_studio import LabelStudioClient

if TYPE_CHECKING:
    from conftest import Screen

pytestmark = pytest.mark.e2e

TREE = {
    "9": ("Diseases of the circulatory system", None),
    "I10": ("Essential (primary) hypertension", "9"),
    "I48.91": ("Unspecified atrial fibrillation", "9"),
    "I50.9": ("Heart failure, unspecified", "9"),
    "I63.9": ("Cerebral infarction, unspecified", "9"),
    "4": ("Endocrine, nutritional and metabolic diseases", None),
    "E11.9": ("Type 2 diabetes mellitus without complications", "4"),
    "13": ("Diseases of the musculoskeletal system", None),
    "M10.9": ("Gout, unspecified", "13"),
}
COUNT_KEYS = """() => {
  window.presses = 0;
  const chord = new Set(['Shift', 'Control', 'Alt', 'Meta']);
  document.addEventListener('keydown', e => { if (!chord.has(e.key)) window.presses += 1 }, true);
  window.clicks = 0;
  document.addEventListener('mousedown', () => { window.clicks += 1 }, true);
}"""


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy("asked", (CodeEntry(c, t, p, "block") for c, (t, p) in TREE.items()))


@pytest.fixture
def emr(make_emr: Callable[[str], EMR]) -> EMR:
    plain = make_emr(f"EMR-{uuid4().hex[:6]}")
    sections = {
        **plain.sections,
        "Past history": "Hypertension for 15 years. Gout. Type 2 diabetes.",
    }
    return EMR(plain.emr_id, sections, plain.diagnoses, sex="male", age=71)


@pytest.fixture
def project(
    client: LabelStudioClient,
    taxonomy: Taxonomy,
    suggest: Callable[..., SuggestionSet],
) -> Iterator[int]:
    """A project with a backend that answers questions as ours does, by a model that is fixed."""

    def model(emrs: Sequence[EMR]) -> list[SuggestionSet]:
        unsure = SuggestionSet("selection", (Suggestion("I10", 0.1),), "v1")
        return [
            suggest(e) if DIAGNOSIS_SECTION != e.emr_id != "selection" else unsure for e in emrs
        ]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tree = tree_json(taxonomy)
            self.reply(tree if "taxonomy" in self.path else b'{"status": "UP"}')

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            results = [{"result": [], "score": 0.0, "model_version": "v1"}]
            context = (body.get("params") or {}).get("context")
            if self.path == "/predict" and context:
                rules = default_rules(taxonomy)
                results[0]["result"] = answer(
                    body["tasks"][0], context, suggest=model, taxonomy=taxonomy, rules=rules
                )
            self.reply(json.dumps({"model_version": "v1", "results": results}).encode())

        def reply(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield client.set_up(f"asking {uuid4().hex[:8]}", backend_url=url).id
    server.shutdown()
    server.server_close()


@pytest.fixture
def opened(
    client: LabelStudioClient,
    project: int,
    screen: Screen,
    taxonomy: Taxonomy,
    emr: EMR,
    suggest: Callable[..., SuggestionSet],
) -> Screen:
    client.push(project, [build_task(emr, suggest(emr), taxonomy, batch="b1", order=1)])
    screen.open_stream()
    return screen


def ask(page: Page, question: str) -> None:
    """Type into the questions' field, which has the focus, and wait for the answer."""
    page.keyboard.type(question)
    with page.expect_response(lambda r: "interactive-annotating" in r.url):
        page.keyboard.press("Enter")
    page.wait_for_timeout(400)


def lines(page: Page) -> list[str]:
    return [line for line in page.locator(".ask").inner_text().splitlines() if line.strip()]


def is_intact(page: Page) -> bool:
    """The record and the form are still there: an answer can take them away."""
    return page.locator(".emr section").count() == 4 and page.locator(".cand input").count() == 3


def test_an_emr_is_coded_with_twelve_presses_and_no_mouse(
    client: LabelStudioClient, project: int, opened: Screen, emr: EMR
) -> None:
    page = opened.page
    page.evaluate(COUNT_KEYS)
    page.keyboard.press("k")  # threshold: show all
    page.keyboard.press("3")  # accept atrial fibrillation
    page.keyboard.press("2")  # correct: no hypertension
    page.keyboard.press("Shift+3")  # principal diagnosis
    page.keyboard.press("/")  # find,
    page.keyboard.press("Tab")  # or ask
    ask(page, "gou")  # add a code by search, and highlight what was searched
    page.keyboard.press("Tab")  # leave the field
    with page.expect_response(
        lambda r: "/annotations" in r.url and r.request.method == "POST"
    ) as sent:
        page.keyboard.press("Control+Enter")  # submit
        presses, clicks = page.evaluate("[window.presses, window.clicks]")
    assert sent.value.status == 201
    assert presses <= 12
    assert clicks == 0

    pulled = client.pull(project)
    [coding] = pulled.codings
    assert pulled.problems == []
    assert coding.codes == ("I48.91", "I63.9", "M10.9")
    [gout] = [s for s in coding.evidence if s.code == "M10.9"]
    assert emr.text_of(gout.section)[gout.start : gout.end] == "Gout"


def test_a_number_ticks_by_a_new_threshold_and_keeps_the_coder_s_decisions(opened: Screen) -> None:
    page = opened.page
    page.keyboard.press("1")  # refuse the stroke
    page.keyboard.press("/")
    page.keyboard.press("Tab")
    ask(page, "25")
    assert opened.ticked() == ["I10", "I48.91"]
    assert lines(page) == ["≥ 25 %: 2 listed codes ticked"]
    ask(page, "50")
    assert opened.ticked() == ["I10"]
    assert is_intact(page)


def test_the_same_question_asked_again_and_again_leaves_the_editor_whole(opened: Screen) -> None:
    page = opened.page
    page.keyboard.press("/")
    page.keyboard.press("Tab")
    for _ in range(3):
        ask(page, "gout")
    page.keyboard.type("25")
    page.keyboard.press("Enter")  # and one more before the answer is there
    ask(page, "type 2")
    items = page.locator(".side .htx-taxonomy .ant-select-selection-item")
    items.nth(1).wait_for()
    page.wait_for_timeout(600)  # nothing comes after it
    assert is_intact(page)
    assert opened.ticked() == ["I63.9", "I10", "I48.91"]
    chosen = items.all_inner_texts()
    assert [text.split()[0] for text in chosen] == ["M10.9", "E11.9"]
    assert "Gout" in opened.highlights().values()


def test_selected_text_gets_a_code(client: LabelStudioClient, project: int, opened: Screen) -> None:
    page = opened.page
    for text in ("Type 2 diabetes", "Hypertension"):
        page.keyboard.press("d")  # evidence for some other code
        with page.expect_response(lambda r: "interactive-annotating" in r.url):
            opened.select_text(text)
        page.wait_for_timeout(400)
    assert is_intact(page)
    opened.submit()

    pulled = client.pull(project)
    [coding] = pulled.codings
    assert pulled.problems == []
    assert "E11.9" in coding.codes, "the search found it for the words"
    drawn = [s for s in coding.evidence if s.code in ("E11.9", "I10")]
    assert len([s for s in drawn if s.code == "I10"]) == 2, "the model's, and the one drawn"


def test_advice_follows_the_ticks_without_asking_anyone(
    client: LabelStudioClient,
    project: int,
    screen: Screen,
    taxonomy: Taxonomy,
    emr: EMR,
) -> None:
    said = (Suggestion("I10", 0.9, {"names": 0.9}), Suggestion("I50.9", 0.3, {"sparse": 0.3}))
    suggestions = SuggestionSet(emr.emr_id, said, "v1")
    client.push(project, [build_task(emr, suggestions, taxonomy, batch="b1", order=1)])
    screen.open_stream()
    advice = screen.page.locator(".advice li")

    def shown() -> list[str]:
        return [line.inner_text() for line in advice.all() if line.is_visible()]

    assert shown() == []
    screen.page.keyboard.press("k")
    screen.page.keyboard.press("2")
    [line] = shown()
    assert line.startswith("hypertension with I50.9 is presumed to be hypertensive disease")
    assert "ICD-10-CM Official Guidelines, section I.C.9.a" in line
    screen.page.keyboard.press("1")
    assert not any("hypertension with" in text for text in shown())
    screen.page.keyboard.press("1")
    screen.submit()  # a warning never blocks
    [coding] = client.pull(project).codings
    assert set(coding.codes) == {"I10", "I50.9"}
