"""What one coder highlights, the next task's suggestions know, without a training."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from label_config.record import EMR
from label_config.task import build_task
from ml_backend import steps
from ml_backend.label_studio import LabelStudioClient
from ml_backend.processes import free_port, running
from ml_backend.settings import settings
from ml_backend.stand_in import StandIn, make_stand_in
from ml_backend.workspace import Workspace

if TYPE_CHECKING:
    from conftest import Screen

pytestmark = pytest.mark.e2e

USER, PASSWORD = "label-studio", "a password of this test"
WORD = "zubrik"
FIRST = EMR("EMR-first", {"Past history": f"Known for {WORD} since childhood, well controlled."})
NEXT = EMR("EMR-next", {"Chief complaint": "Check-up.", "Past history": f"Has had {WORD} before."})
PATIENCE = 20.0
"""Seconds until the test gives up; what it took is written down as a property."""


@dataclass(frozen=True)
class Ward:
    """A trained workspace, served by `clinicoco serve`."""

    workspace: Workspace
    url: str

    def predict(self, task: dict[str, Any]) -> dict[str, Any]:
        """What the backend says of a task; Label Studio keeps nothing of it."""
        body = {"tasks": [task], "project": str(self.workspace.config.project_id), "params": {}}
        request = Request(f"{self.url}/predict", json.dumps(body).encode())
        key = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {key}")
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=30) as answer:  # loopback
            return json.load(answer)["results"][0]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """Its settings hold for the server and for this process, which sets the project up."""
    folder = tmp_path_factory.mktemp("ward")
    workspace = make_stand_in(folder, StandIn(emrs=40, codes=8, project_id=None))
    port = free_port(9290)
    url = f"http://127.0.0.1:{port}"
    environment = {
        "CLINICOCO_BACKEND_PORT": str(port),
        "CLINICOCO_BACKEND_URL": url,
        "CLINICOCO_BACKEND_USER": USER,
        "CLINICOCO_BACKEND_PASSWORD": PASSWORD,
        "CLINICOCO_QUEUE_FILE": str(folder / "jobs.db"),
    }
    command = [sys.executable, "-m", "ml_backend.cli", "serve", str(workspace.folder)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        settings.cache_clear()
        with running(command, log=folder / "server.log", ready=f"{url}/health"):
            yield Ward(workspace, url)
    settings.cache_clear()


@pytest.fixture
def project(client: LabelStudioClient, ward: Ward) -> int:
    """A project whose tasks get their suggestions from the ward when they are opened."""
    steps.set_up_project(ward.workspace, client)
    return steps.project_id(ward.workspace)


def test_an_accepted_highlight_changes_the_next_suggestion_without_training(
    client: LabelStudioClient,
    project: int,
    ward: Ward,
    screen: Screen,
    record_property: Callable[[str, object], None],
) -> None:
    workspace = ward.workspace
    code, *_ = codes = workspace.config.codes
    tasks = [
        build_task(emr, None, workspace.taxonomy, batch="b1", order=order, always=codes)
        for order, emr in enumerate((FIRST, NEXT), start=1)
    ]
    client.push(project, tasks)
    ids = {emr_id: task["id"] for emr_id, task in client.waiting(project).items()}
    coming = {**tasks[1], "id": ids[NEXT.emr_id]}
    before = ward.predict(coming)
    assert WORD not in highlighted(before)

    open_task(screen, ids[FIRST.emr_id])
    screen.page.keyboard.press("k")  # show all
    screen.page.keyboard.press("1")  # the code is right
    screen.page.keyboard.press("q")  # and this is why
    screen.select_text(WORD)
    screen.page.keyboard.press("z")  # quality: clean
    screen.submit()

    submitted, after = time.monotonic(), before
    while WORD not in highlighted(after) and time.monotonic() < submitted + PATIENCE:
        after = ward.predict(coming)
    record_property("seconds_to_learn", round(time.monotonic() - submitted, 3))
    assert highlighted(after)[WORD] == code
    assert after["model_version"] == before["model_version"], "nothing was trained"

    open_task(screen, ids[NEXT.emr_id])  # Label Studio asks the backend for its suggestions
    screen.page.keyboard.press("k")
    assert WORD in screen.highlights().values()
    assert code in screen.shown_candidates()


def open_task(screen: Screen, task_id: int) -> None:
    """As `Screen.open_task`, for a task that came without similar cases."""
    screen.page.goto(f"{screen.project_url}?task={task_id}")
    screen.page.wait_for_selector(".icd .emr section", timeout=60_000)
    screen.page.wait_for_selector(".cand input", state="attached")
    screen.page.wait_for_timeout(1_500)  # regions are drawn after the text


def highlighted(prediction: dict[str, Any]) -> dict[str, str]:
    """Text of each highlight, and the code that it is evidence for."""
    items = [item for item in prediction["result"] if item["from_name"] == "evidence"]
    return {item["value"]["text"]: item["value"]["labels"][0] for item in items}
