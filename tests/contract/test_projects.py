"""Who may ask what, and several projects beside each other."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from label_config.files import write_json
from label_config.task import build_result
from ml_backend import settings as environment
from ml_backend import steps
from ml_backend.security import Credentials
from ml_backend.server import create_app
from ml_backend.serving import Backend
from ml_backend.settings import WEBHOOK_HEADER, Settings
from ml_backend.workspace import Workspace

BASIC = {"Authorization": "Basic " + base64.b64encode(b"label-studio:secret").decode()}
EVENT = {"action": "X", "project": {"id": 1}}


@pytest.fixture
def guarded(backend: Backend) -> FlaskClient:
    chosen = Settings(
        backend_password=SecretStr("secret"),
        backend_token=SecretStr("token"),
        webhook_secret=SecretStr("hook"),
    )
    return create_app(backend, chosen).test_client()


@pytest.fixture
def two(workspace: Workspace, tmp_path: Path) -> Backend:
    """Ward 7, project 1, and a copy of it with fewer codes, project 2."""
    other = tmp_path / "ward-8"
    shutil.copytree(workspace.folder, other)
    Workspace(other).configure(title="Ward 8", codes=("I10",), project_id=2)
    return Backend([workspace.folder, other])


@pytest.mark.parametrize(
    "route", ["/metrics", "/versions", "/jobs", "/taxonomy.json", "/openapi.json", "/dashboard"]
)
def test_every_route_but_health_is_closed_and_a_token_or_password_opens_it(
    guarded: FlaskClient, route: str
):
    assert guarded.get(route).status_code == 401
    assert guarded.get(route, headers={"Authorization": "Bearer secret"}).status_code == 401
    assert guarded.get(route, headers={WEBHOOK_HEADER: "hook"}).status_code == 401
    assert guarded.get(route, headers={"Authorization": "Bearer token"}).status_code != 401
    assert guarded.get(route, headers=BASIC).status_code != 401
    assert guarded.get("/health").status_code == 200


def test_the_webhook_s_secret_opens_the_webhook_alone(guarded: FlaskClient):
    secret = {WEBHOOK_HEADER: "hook"}
    assert guarded.post("/webhook", json=EVENT, headers=secret).status_code == 200
    assert guarded.post("/webhook", json=EVENT, headers={WEBHOOK_HEADER: "x"}).status_code == 401
    assert guarded.post("/webhook", json=EVENT, headers=BASIC).status_code == 200
    assert guarded.post("/setup", json={"project": 1}, headers=secret).status_code == 401


def test_the_address_that_set_up_writes_opens_one_code_tree_and_nothing_else(
    two: Backend, monkeypatch: pytest.MonkeyPatch
):
    chosen = Settings(backend_password=SecretStr("secret"), backend_url="http://127.0.0.1:9090")
    monkeypatch.setattr(environment, "settings", lambda: chosen)
    client = create_app(two, chosen).test_client()
    seven, eight = (
        steps.tree_address(s.workspace).removeprefix("http://127.0.0.1:9090") for s in two.servings
    )
    assert "secret" not in seven
    first = client.get(seven, headers={"Accept-Encoding": "identity"})
    second = client.get(eight, headers={"Accept-Encoding": "identity"})
    assert {node["alias"] for node in first.get_json()["items"]} == {"4", "9", "10"}
    assert {node["alias"] for node in second.get_json()["items"]} == {"9"}
    key = seven.partition("&key=")[2]
    assert client.get(eight.partition("&key=")[0] + f"&key={key}").status_code == 401
    assert client.get("/versions" + seven.removeprefix("/taxonomy.json")).status_code == 401


def test_browsers_may_reach_the_backend_elsewhere(two: Backend, monkeypatch: pytest.MonkeyPatch):
    inside, outside = "http://backend.internal:9090", "http://127.0.0.1:9090"
    for chosen, address in (
        (Settings(backend_url=inside), inside),
        (Settings(backend_url=inside, browser_url=f"{outside}/"), outside),
    ):
        monkeypatch.setattr(environment, "settings", lambda chosen=chosen: chosen)
        assert steps.tree_address(two.servings[0].workspace).startswith(f"{address}/taxonomy.json?")


def test_a_key_tells_nothing_about_another_secret():
    keys = {Credentials("u", p).key_of(s) for p in ("a", "b") for s in ("x", "y")}
    assert len(keys) == 4


def test_what_one_project_learns_no_other_knows(two: Backend, task: dict, emrs: list):
    client = create_app(two, Settings()).test_client()
    result = build_result(
        emrs[0], ["I10"], [], candidates=["I10"], principal="I10", quality="clean"
    )
    annotation = {"id": 91, "result": result, "was_cancelled": False, "updated_at": "2026-02-01"}
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 2}, "task": task,
             "annotation": annotation}  # fmt: skip
    assert client.post("/webhook", json=event).get_json()["result"] == {"learned": 1}
    journals = [s.workspace.folder / "feedback.jsonl" for s in two.servings]
    assert "91:" in journals[1].read_text()
    assert not journals[0].exists() or "91:" not in journals[0].read_text()


def test_an_annotation_told_alone_then_in_a_list_then_after_a_restart_counts_once(
    two: Backend, task: dict, emrs: list
):
    result = build_result(
        emrs[0], ["I10"], [], candidates=["I10"], principal="I10", quality="clean"
    )
    annotation = {"id": 92, "result": result, "was_cancelled": False, "updated_at": "2026-02-01"}
    one = {"action": "ANNOTATION_CREATED", "project": {"id": 2}, "task": task,
           "annotation": annotation}  # fmt: skip
    many = {**one, "action": "ANNOTATIONS_CREATED", "task": [task], "annotation": [annotation]}
    folders = [s.workspace.folder for s in two.servings]
    clients = [create_app(b, Settings()).test_client() for b in (two, Backend(folders))]
    answers = [client.post("/webhook", json=e) for client in clients for e in (one, many)]
    counts = [answer.get_json()["result"]["learned"] for answer in answers]
    assert counts == [1, 0, 0, 0]
    changed = {**one, "annotation": {**annotation, "updated_at": "2026-02-02"}}
    client = create_app(two, Settings()).test_client()
    assert client.post("/webhook", json=changed).get_json()["result"] == {"learned": 1}


def test_a_job_is_cancelled_by_its_project_alone_and_only_while_it_has_not_ended(
    two: Backend, tmp_path: Path
):
    client = create_app(two, Settings(backend_password=SecretStr(""))).test_client()
    job = {"job": "abc", "state": "queued", "updated": "2026-01-01"}
    write_json(two.serving(2).workspace.folder / "jobs" / "abc.json", job)
    assert client.post("/jobs/abc/cancel?project=1").status_code == 404
    assert client.post("/jobs/..%2fabc/cancel").status_code == 404
    answer = client.post("/jobs/abc/cancel?project=2")
    assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")
    again = client.post("/jobs/abc/cancel")
    assert (again.status_code, again.content_type) == (400, "application/problem+json")
    assert "has ended" in again.get_json()["detail"]


def asked(client: FlaskClient, task: dict, project: int, *codes: str) -> str:
    """What the editor's question field says after "?"."""
    ask = {"from_name": "ask", "type": "textarea", "value": {"text": ["?"]}}
    ticked = {"from_name": "codes", "type": "choices", "value": {"choices": list(codes)}}
    params = {"context": {"result": [ticked, ask]}}
    body = {"tasks": [task], "project": project, "params": params}
    [answer] = client.post("/predict", json=body).get_json()["results"]
    return str([i["value"] for i in answer["result"] if i["from_name"] == "ask"])


def test_a_rule_that_a_project_has_switched_off_says_nothing_in_its_editor(
    two: Backend, task: dict
):
    client = create_app(two, Settings(backend_password=SecretStr(""))).test_client()
    both = ("E11.9", "E10.9")  # types 2 and 1 of diabetes exclude each other
    rows = [{"value": code, "alias": code} for code in both]
    task = {**task, "data": {**task["data"], "candidates": rows}}
    said = asked(client, task, 2, *both)
    assert "E10.9" in said
    own = two.serving(2).workspace
    own.configure(rules_off=("excludes1",))
    assert "E10.9" not in asked(client, task, 2, *both)
    assert asked(client, task, 1, *both) == said
    (own.folder / "rules.yaml").write_text("[")
    own.reload()
    assert asked(client, task, 2, *both) == said, "while its file is damaged: every built-in rule"
