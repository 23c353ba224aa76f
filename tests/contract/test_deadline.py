"""What /predict answers when time runs short, or a model cannot be loaded."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from label_config.validate import validate_result
from ml_backend.quick import suggest_quickly
from ml_backend.registry import Registry
from ml_backend.server import create_app
from ml_backend.serving import Backend, Serving
from ml_backend.settings import Settings
from ml_backend.workspace import Workspace


@pytest.fixture
def serving(workspace: Workspace) -> Serving:
    return Serving(workspace)


def ask(backend: Backend, tasks: list[dict], seconds: float) -> list:
    client = create_app(backend, Settings(predict_seconds=seconds)).test_client()
    answer = client.post("/predict", json={"project": 1, "tasks": tasks})
    assert answer.status_code == 200
    return answer.get_json()["results"]


def test_with_time_all_members_read_every_emr(serving: Serving, emrs: list):
    found, read = serving.suggest_within(emrs * 6, 60.0)
    assert read == len(found) == 36
    assert [s.emr_id for s in found if s] == [emr.emr_id for emr in emrs] * 6


def test_while_the_model_is_busy_the_quick_members_answer(serving: Serving, emrs: list):
    release = threading.Event()
    serving._turns.submit(release.wait)  # a caller before us that takes for ever
    found, read = serving.suggest_within(emrs, 2.0)
    release.set()
    assert read == 0
    assert all(s is not None for s in found)
    assert {m for s in found if s for one in s.suggestions for m in one.members} <= {
        "names", "lexicon", "phrases"
    }  # fmt: skip
    assert found[0] is not None and found[0].suggestions[0].code == "I10"


def test_without_any_time_nothing_is_stored_so_that_label_studio_asks_again(
    workspace: Workspace, task: dict
):
    results = ask(Backend([workspace.folder]), [task, {"id": 3, "data": {}}], 1e-6)
    assert results[0] == []
    assert results[1]["result"] == []


def test_a_hurried_answer_is_as_valid_as_any(workspace: Workspace, task: dict):
    backend = Backend([workspace.folder])
    release = threading.Event()
    backend.servings[0]._turns.submit(release.wait)
    (result,) = ask(backend, [task], 2.0)
    release.set()
    assert result["result"]
    assert validate_result(result["result"], task["data"]) == []
    assert json.dumps(result, allow_nan=False)


def test_quick_suggestions_have_their_evidence(serving: Serving, emrs: list):
    model = serving._ready()
    (suggested,) = suggest_quickly(model, emrs[:1])
    assert suggested.model_version == model.version
    assert suggested.similar == ()
    assert suggest_quickly(model, []) == []


def test_a_start_with_a_broken_live_version_serves_the_last_good_one(
    workspace: Workspace, tmp_path: Path
):
    folder = tmp_path / "ward"
    shutil.copytree(workspace.folder, folder)
    registry = Registry(folder / "models")
    good = registry.live()
    assert good is not None
    broken = registry.folder / "v9-broken"
    shutil.copytree(good.folder, broken)
    (broken / "config.json").write_bytes(b"\x80\x04cposix\nsystem\n")
    registry.add(broken, broken.name, {})
    registry.promote(broken.name)
    backend = Backend([folder])
    assert backend.servings[0].version == good.version


def test_too_many_waiting_predictions_are_told_to_come_again(
    workspace: Workspace, task: dict, client: FlaskClient
):
    backend = Backend([workspace.folder])
    app = create_app(backend, Settings(backend_threads=2, predict_seconds=30))
    release, started = threading.Event(), threading.Event()
    backend.servings[0]._turns.submit(lambda: (started.set(), release.wait()))
    started.wait()
    answers: list[int] = []
    body = {"project": 1, "tasks": [task]}

    def call() -> None:
        answers.append(app.test_client().post("/predict", json=body).status_code)

    first = threading.Thread(target=call)
    first.start()
    while backend.servings[0]._turns._work_queue.qsize() == 0:
        time.sleep(0.01)
    refused = app.test_client().post("/predict", json=body)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert app.test_client().get("/health").status_code == 200
    release.set()
    first.join()
    assert answers == [200]


@pytest.mark.parametrize("text", ["{", "[]", '{"history": ["v77-none"]}', "{}"])
def test_a_damaged_registry_does_not_stop_the_model_that_serves(
    workspace: Workspace, tmp_path: Path, text: str
):
    folder = tmp_path / "ward"
    shutil.copytree(workspace.folder, folder)
    backend = Backend([folder])
    version = backend.servings[0].version
    (folder / "models" / "live.json").write_text(text)
    assert version is not None
    assert backend.servings[0].version == version
    assert Backend([folder]).servings[0].version is None
