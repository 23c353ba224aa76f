"""How fast a coder searches the whole of ICD-10-CM on the screen; times are told, not judged."""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from label_config.record import EMR
from label_config.search import search_of
from label_config.suggestion import SuggestionSet
from label_config.task import build_task
from label_config.taxonomy import Taxonomy, tree_json
from ml_backend.label_studio import LabelStudioClient

if TYPE_CHECKING:
    from conftest import Screen

pytestmark = pytest.mark.e2e

WORDS = "cerebral infarction"
KEY_TO_PAINT = """() => {
  window.paints = [];
  document.addEventListener('keydown', () => {
    const pressed = performance.now();
    requestAnimationFrame(() => setTimeout(() => paints.push(performance.now() - pressed)));
  }, true);
}"""


@pytest.fixture(scope="module")
def whole() -> Taxonomy:
    return Taxonomy.icd10cm()


@pytest.fixture(scope="module")
def tree_url(whole: Taxonomy) -> Iterator[str]:
    body = gzip.compress(tree_json(whole))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Cache-Control", "public, max-age=3600")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/taxonomy.json"
    server.shutdown()
    server.server_close()


def test_every_code_of_the_whole_set_can_be_searched_on_the_screen(
    client: LabelStudioClient,
    screen: Screen,
    whole: Taxonomy,
    tree_url: str,
    make_emr: Callable[[str], EMR],
    suggest: Callable[..., SuggestionSet],
    record_property: Callable[[str, object], None],
) -> None:
    project = client.set_up(f"whole set {uuid4().hex[:8]}", taxonomy_url=tree_url)
    emr = make_emr("EMR-1")
    client.push(project.id, [build_task(emr, suggest(emr), whole, batch="b", order=1)])
    screen.project_url = project.url
    page, started = screen.page, perf_counter()
    screen.open_stream()
    field = page.locator(".side .htx-taxonomy").first
    field.wait_for(timeout=60_000)
    opened = perf_counter() - started
    field.click()
    search = page.locator("[data-testid=taxonomy-search]:visible")
    search.wait_for()
    page.wait_for_timeout(1_000)
    page.evaluate(KEY_TO_PAINT)
    for letter in WORDS:
        page.keyboard.press(letter if letter != " " else "Space")
        page.wait_for_timeout(60)
    page.locator("[title*='erebral infarction']:visible").first.wait_for(timeout=30_000)
    paints = page.evaluate("window.paints")
    assert len(paints) == len(WORDS)

    index, asked = search_of(whole), []
    for end in range(1, len(WORDS) + 1):
        began = perf_counter()
        index.find(WORDS[:end])
        asked.append(perf_counter() - began)
    assert "I63.9" in dict(index.find(WORDS, k=20))
    measured = {
        "codes": len(whole),
        "open_s": round(opened, 1),
        "key_to_paint_ms_median": round(median(paints), 1),
        "key_to_paint_ms_max": round(max(paints), 1),
        "question_ms_median": round(1000 * median(asked), 2),
        "question_ms_max": round(1000 * max(asked), 2),
    }
    record_property("search", measured)
    sys.stdout.write(f"{measured}\n")
