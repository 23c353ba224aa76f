"""A real Label Studio and a real Chromium, started once; a small backend that only listens."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from label_config.record import DIAGNOSIS_SECTION, EMR, Diagnosis, EvidenceSpan
from label_config.suggestion import SimilarCase, Suggestion, SuggestionSet
from label_config.taxonomy import CodeEntry, Taxonomy, tree_json
from ml_backend.label_studio import LabelStudioClient
from ml_backend.local_server import LocalLabelStudio, find_executable, make_template

CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
TREE = {
    "9": ("Diseases of the circulatory system", None),
    "I10-I1A": ("Hypertensive diseases", "9"),
    "I10": ("Essential (primary) hypertension", "I10-I1A"),
    "I30-I5A": ("Other forms of heart disease", "9"),
    "I48.91": ("Unspecified atrial fibrillation", "I30-I5A"),
    "I60-I69": ("Cerebrovascular diseases", "9"),
    "I63.9": ("Cerebral infarction, unspecified", "I60-I69"),
    "4": ("Endocrine, nutritional and metabolic diseases", None),
    "E08-E13": ("Diabetes mellitus", "4"),
    "E11.9": ("Type 2 diabetes mellitus without complications", "E08-E13"),
}


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    return Taxonomy(
        "small", (CodeEntry(c, title, parent, "block") for c, (title, parent) in TREE.items())
    )


@dataclass
class Backend:
    """What Label Studio asked the backend: (method, path, headers, body)."""

    url: str
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)

    def bodies(self, path: str) -> list[Any]:
        return [body for _, asked, _, body in self.requests if asked.startswith(path)]


@pytest.fixture(scope="session")
def backend(taxonomy: Taxonomy) -> Iterator[Backend]:
    """Answers /taxonomy.json, /health, /setup, /predict and /webhook, and remembers."""
    tree = tree_json(taxonomy)
    asked: list[tuple[str, str, dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(tree if "taxonomy" in self.path else b'{"status": "UP"}', None)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            self.answer(b'{"model_version": "v1", "results": []}', body)

        def answer(self, content: bytes, body: Any) -> None:
            asked.append((self.command, self.path, dict(self.headers), body))
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
    yield Backend(f"http://127.0.0.1:{server.server_port}", asked)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def label_studio(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalLabelStudio]:
    """The migrations of a first start are kept between test runs, by Label Studio's version."""
    packages = find_executable().parent.parent.glob(
        "lib/python*/site-packages/label_studio-*.dist-info"
    )
    kept = pytestconfig.cache.mkdir("label-studio") / next(packages).stem
    if not kept.exists():
        fresh = kept.with_name(f"{kept.name}.{uuid4().hex[:8]}")
        make_template(fresh)
        fresh.rename(kept)
    with LocalLabelStudio(tmp_path_factory.mktemp("label-studio"), template=kept) as server:
        yield server


@pytest.fixture(scope="session")
def client(label_studio: LocalLabelStudio) -> LabelStudioClient:
    return LabelStudioClient(label_studio.url, label_studio.token)


@pytest.fixture
def project(client: LabelStudioClient, backend: Backend) -> int:
    """A fresh project without a backend."""
    title = f"test {uuid4().hex[:8]}"
    return client.set_up(title, taxonomy_url=f"{backend.url}/taxonomy.json").id


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.fail("the tests need Chromium on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def signed_in(
    browser: Browser, label_studio: LocalLabelStudio, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A file with the cookies of a coder who has signed in."""
    state = tmp_path_factory.mktemp("browser") / "state.json"
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{label_studio.url}/user/login/")
        page.fill("input[name=email]", label_studio.user)
        page.fill("input[name=password]", label_studio.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/login" not in url)
        context.storage_state(path=state)
    return state


@dataclass
class Screen:
    """The labelling screen of one project, as a coder uses it."""

    page: Page
    project_url: str
    dialogs: list[str] = field(default_factory=list)

    def open_stream(self) -> None:
        """Press "Label All Tasks"."""
        self.page.goto(f"{self.project_url}?labeling=1")
        self.wait()

    def open_task(self, task_id: int) -> None:
        self.page.goto(f"{self.project_url}?task={task_id}")
        self.wait()

    def wait(self) -> None:
        self.page.wait_for_selector(".icd .emr section", timeout=60_000)
        self.page.wait_for_selector(".icd .side .card", timeout=60_000)
        self.page.wait_for_timeout(1_500)  # regions are drawn after the text

    def ticked(self) -> list[str]:
        return [_code_of(box) for box in self.page.locator(".cand input:checked").all()]

    def shown_candidates(self) -> list[str]:
        boxes = self.page.locator(".cand input").all()
        return [_code_of(box) for box in boxes if box.is_visible()]

    def highlights(self) -> dict[str, str]:
        """The region id of each visible highlight, and its text."""
        found = self.page.evaluate(
            """() => [...document.querySelectorAll('.emr [class*=htx-highlight-]')]
            .filter(e => getComputedStyle(e).backgroundColor !== 'rgba(0, 0, 0, 0)')
            .map(e => [[...e.classList].find(c => /^htx-highlight-/.test(c)), e.textContent])"""
        )
        return {
            name.removeprefix("htx-highlight-").rpartition("-")[0]: text for name, text in found
        }

    def select_text(self, text: str) -> None:
        """Drag the mouse over the first place where a text node holds `text`."""
        box = self.page.evaluate(
            """text => {
              const record = document.querySelector('.emr');
              const walk = document.createTreeWalker(record, NodeFilter.SHOW_TEXT);
              while (walk.nextNode()) {
                const at = walk.currentNode.data.indexOf(text);
                if (at < 0) continue;
                const range = document.createRange();
                range.setStart(walk.currentNode, at);
                range.setEnd(walk.currentNode, at + text.length);
                walk.currentNode.parentElement.scrollIntoView({block: 'center'});
                const rects = [...range.getClientRects()].filter(r => r.width > 0);
                const [a, b] = [rects[0], rects.at(-1)];
                return [a.left, a.top + a.height / 2, b.right, b.top + b.height / 2];
              }
            }""",
            text,
        )
        mouse = self.page.mouse
        mouse.move(box[0] + 0.5, box[1])
        mouse.down()
        mouse.move(box[2] - 3, box[3], steps=8)
        mouse.move(box[2] - 0.5, box[3], steps=4)
        mouse.up()
        self.page.wait_for_timeout(300)

    def submit(self) -> None:
        with self.page.expect_response(
            lambda r: "/annotations" in r.url and r.request.method == "POST"
        ) as answer:
            self.page.locator("button[name=submit]").click()
        assert answer.value.status == 201


def _code_of(box: Locator) -> str:
    """A row's box is named by its code and title."""
    return (box.get_attribute("name") or "").partition(" ")[0]


@pytest.fixture
def screen(
    browser: Browser, signed_in: Path, label_studio: LocalLabelStudio, project: int
) -> Iterator[Screen]:
    with browser.new_context(
        storage_state=signed_in, viewport={"width": 1680, "height": 1050}
    ) as context:
        # "Label All Tasks": the whole project, in its order, with task locks
        context.add_init_script("localStorage.setItem('dm:labelstream:mode', 'all')")
        page = context.new_page()
        opened = Screen(page, f"{label_studio.url}/projects/{project}/data")
        page.on("dialog", lambda dialog: (opened.dialogs.append(dialog.message), dialog.dismiss()))
        yield opened


@pytest.fixture(scope="session")
def make_emr() -> Callable[[str], EMR]:
    return lambda emr_id: EMR(
        emr_id,
        {
            "Chief complaint": "Sudden weakness of the left limbs for 2 hours.",
            "Past history": "Hypertension for 15 years. Type 2 diabetes for 8 years.",
            "Examination": "BP 182/104 mmHg.\nECG: atrial fibrillation.",
        },
        (Diagnosis("Acute cerebral infarction"), Diagnosis("Hypertension grade 3")),
        sex="male",
        age=71,
    )


@pytest.fixture(scope="session")
def suggest() -> Callable[..., SuggestionSet]:
    def build(emr: EMR, version: str = "v1") -> SuggestionSet:
        def span(code: str, section: str, text: str, score: float) -> EvidenceSpan:
            start = emr.text_of(section).index(text)
            return EvidenceSpan(code, section, start, start + len(text), score)

        stroke = (
            span("I63.9", "Chief complaint", "Sudden weakness of the left limbs", 0.9),
            span("I63.9", DIAGNOSIS_SECTION, "Acute cerebral infarction", 0.97),
        )
        hypertension = (span("I10", "Past history", "Hypertension for 15 years", 0.8),)
        fibrillation = (span("I48.91", "Examination", "atrial fibrillation", 0.5),)
        return SuggestionSet(
            emr.emr_id,
            (
                Suggestion("I63.9", 0.95, {"names": 0.97, "lexicon": 0.8}, stroke),
                Suggestion("I10", 0.75, {"names": 0.9}, hypertension),
                Suggestion("I48.91", 0.3, {"sparse": 0.3}, fibrillation),
            ),
            version,
            similar=(SimilarCase("EMR-9", 0.91, ("I63.9",), "Sudden weakness.", ("weakness",)),),
        )

    return build
