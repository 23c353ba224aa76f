"""Content that wants to run, to be read or to fill the memory: nothing of it does."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import socket
import zipfile
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from label_config.errors import ClinicocoError
from ml_backend.registry import Registry
from ml_backend.serving import Backend
from ml_backend.workspace import Workspace
from training.suggest import Suggester


class Trap:
    """Leaves a file behind where somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.fixture
def copy(workspace: Workspace, tmp_path: Path) -> Path:
    shutil.copytree(workspace.folder, tmp_path / "ward")
    return tmp_path / "ward"


@pytest.mark.parametrize(
    "project",
    ["../1", "1/../../etc", "/etc/passwd", "..", "1\x00", "１", "0x1", "1 ", "-1", "9" * 40, "%2e"],
)
@pytest.mark.parametrize("route", ["/versions", "/jobs", "/taxonomy.json"])
def test_a_path_as_project_is_refused_and_not_repeated(
    client: FlaskClient, route: str, project: str
):
    answer = client.get(route, query_string={"project": project})
    assert answer.status_code in (400, 404)
    assert "etc" not in answer.text
    sent = {"project": project, "tasks": []}
    assert client.post("/predict", json=sent).status_code in (400, 404)


def test_addresses_in_a_task_are_never_fetched(
    client: FlaskClient, task: dict, monkeypatch: pytest.MonkeyPatch
):
    def caught(*_: object, **__: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", caught)
    monkeypatch.setattr(socket, "getaddrinfo", caught)
    marked = json.loads(json.dumps(task))
    marked["data"]["image"] = "http://169.254.169.254/latest/meta-data"
    marked["data"]["record"]["sections"]["Link"] = "see http://127.0.0.1:9/x and file:///etc/passwd"
    body = {"project": 1, "tasks": [marked], "hostname": "http://127.0.0.1:9"}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200
    assert answer.get_json()["results"][0]["result"]
    assert "root:" not in answer.text
    setup = {"project": "1.1", "hostname": "http://127.0.0.1:9", "access_token": "t"}
    assert client.post("/setup", json=setup).status_code == 200


def test_a_compressed_body_is_refused_unread(client: FlaskClient):
    bomb = gzip.compress(b" " * 50_000_000)
    headers = {"Content-Encoding": "gzip"}
    answer = client.post("/predict", data=bomb, headers=headers, content_type="application/json")
    assert answer.status_code == 415


def test_a_body_over_the_limit_is_refused(client: FlaskClient):
    client.application.config["MAX_CONTENT_LENGTH"] = 1_000
    body = {"project": 1, "tasks": [], "x": "y" * 2_000}
    assert client.post("/predict", json=body).status_code == 413


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "lexicon/config.json"])
def test_a_pickle_in_a_model_folder_is_refused_and_not_run(copy: Path, tmp_path: Path, name: str):
    live = Registry(copy / "models").live()
    assert live is not None
    (live.folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    (live.folder / "extra.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(ClinicocoError):
        Suggester.load(live.folder)
    assert Backend([copy]).servings[0].version is None
    assert not (tmp_path / "ran").exists()


def test_a_zip_bomb_as_checkpoint_is_refused_without_being_unpacked(copy: Path):
    live = Registry(copy / "models").live()
    assert live is not None
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x", b"0" * 50_000_000)
    for tensors in live.folder.rglob("*.safetensors"):
        tensors.write_bytes(packed.getvalue())
    with pytest.raises(ClinicocoError, match="damaged"):
        Suggester.load(live.folder)


def test_a_registry_entry_cannot_point_outside_its_folder(copy: Path, tmp_path: Path):
    registry = Registry(copy / "models")
    for version in ("../../etc", "/etc/passwd", "v1/../../x"):
        entry = {"version": version, "made": "", "validation": {}}
        (registry.folder / "v7.json").write_text(json.dumps(entry))
        (registry.folder / "live.json").write_text(json.dumps({"history": [version]}))
        assert version not in {v.version for v in registry.versions()}
        assert Backend([copy]).servings[0].version is None
