"""Label Studio's requests, as it really sent them and as they can go wrong, at the real app."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from label_config.annotation import read_annotation
from label_config.record import EvidenceSpan
from label_config.task import build_result
from label_config.validate import validate_result
from ml_backend import jobs
from ml_backend.registry import Registry
from ml_backend.server import create_app
from ml_backend.serving import Backend
from ml_backend.settings import Settings
from ml_backend.workspace import Workspace

FOLDER = Path(__file__).parent / "recorded"
RECORDED = sorted(FOLDER.glob("[0-9]*.json"))
IGNORED = {"PROJECT_UPDATED", "TASKS_CREATED", "TASKS_DELETED", "ANNOTATIONS_DELETED"}
MARKER = "patient-Jane-Roe"


@pytest.fixture(autouse=True)
def queued(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Trainings that a request asked for; none is started."""
    asked: list[Path] = []

    def enqueue(folder: Path) -> str:
        asked.append(folder)
        return "job-1"

    monkeypatch.setattr(jobs, "enqueue_training", enqueue)
    return asked


def replay(client: FlaskClient, path: Path):
    record = json.loads(path.read_text("utf-8"))
    route = record["path"].rstrip("?")
    if record["method"] == "GET":
        return record, client.get(route)
    return record, client.post(route, json=record["body"])


def test_there_are_recorded_requests_of_every_route():
    routes = {json.loads(p.read_text("utf-8"))["path"].rstrip("?") for p in RECORDED}
    assert routes >= {"/health", "/setup", "/predict", "/webhook", "/versions"}


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_every_recorded_request_is_answered_as_the_protocol_wants(
    client: FlaskClient, workspace: Workspace, queued: list[Path], path: Path
):
    record, answer = replay(client, path)
    body = answer.get_json()
    live = Registry(workspace.models_folder).live()
    assert live is not None
    match record["path"].rstrip("?"):
        case "/health":
            assert (answer.status_code, body["status"]) == (200, "UP")
        case "/setup":
            assert (answer.status_code, body) == (200, {"model_version": live.version})
        case "/versions":
            assert (answer.status_code, body) == (200, {"versions": [live.version]})
        case "/predict":
            assert answer.status_code == 200
            assert len(body["results"]) == len(record["body"]["tasks"])
            assert all(r["result"] == [] for r in body["results"])  # another project's interface
            assert {r["model_version"] for r in body["results"]} == {live.version}
        case "/webhook":
            action = record["body"]["action"]
            assert answer.status_code == (200 if action in IGNORED else 201)
            assert bool(queued) == (action == "START_TRAINING")


@pytest.mark.parametrize(
    "name", ["interactive_ui_labels", "interactive_ui_choices_number_textarea"]
)
def test_recorded_interactive_requests_get_one_empty_result(client: FlaskClient, name: str):
    record = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    answer = client.post("/predict", json={**record["body"], "project": 1})
    assert [r["result"] for r in answer.get_json()["results"]] == [[]]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("basic_auth_predict", 200),
        ("basic_auth_START_TRAINING", 201),
        ("basic_auth_ANNOTATION_CREATED_after_patching_webhook_headers", 201),
        ("basic_auth_ANNOTATION_CREATED_no_auth_header", 401),
    ],
)
def test_recorded_credentials_open_the_backend_and_their_absence_does_not(
    backend: Backend, name: str, status: int
):
    record = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    body = record["body"]
    body["project"] = {"id": 1} if isinstance(body["project"], dict) else 1
    protected = Settings(backend_user="ml", backend_password=SecretStr("secret"))
    client = create_app(backend, protected).test_client()
    headers = {k: v for k, v in record["headers"].items() if k == "Authorization"}
    answer = client.post(record["path"].rstrip("?"), json=body, headers=headers)
    assert answer.status_code == status


def test_a_task_of_ours_gets_ticked_codes_and_evidence_that_its_interface_takes(
    client: FlaskClient, task: dict
):
    answer = client.post("/predict", json={"tasks": [task], "project": "1.1795283132"})
    (prediction,) = answer.get_json()["results"]
    assert validate_result(prediction["result"], task["data"]) == []
    by_name = {item["from_name"]: item for item in prediction["result"]}
    assert by_name["codes"]["value"]["choices"] == ["I10"]
    assert by_name["evidence"]["value"]["text"]
    assert 0.5 <= prediction["score"] <= 1


def test_tasks_keep_their_order_and_a_foreign_one_among_them_stays_empty(
    client: FlaskClient, task: dict
):
    foreign = {"id": 8, "data": {"text": "x"}}
    answer = client.post("/predict", json={"tasks": [foreign, task, {}], "project": 1})
    results = answer.get_json()["results"]
    assert [bool(r["result"]) for r in results] == [False, True, False]


def test_an_interactive_request_never_gets_regions_that_are_already_there(
    client: FlaskClient, task: dict
):
    params = {"context": {"result": [{"id": "s9_I10_k1_1", "type": "labels"}]}}
    body = {"tasks": [task], "project": 1, "params": params}
    assert client.post("/predict", json=body).get_json()["results"][0]["result"] == []


def test_an_accepted_highlight_changes_the_next_suggestion(
    client: FlaskClient, backend: Backend, task: dict, emrs: list
):
    emr = emrs[0]
    section = "History of present illness"
    start = emr.sections[section].index("ten years")
    span = EvidenceSpan("J18.9", section, start, start + len("ten years"))
    result = build_result(
        emr, ["J18.9"], [span], candidates=["I10", "J18.9"], principal="J18.9", quality="clean"
    )
    annotation = {"id": 3, "result": result, "was_cancelled": False}
    before = _confidence(backend, emr, "J18.9")
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "task": task,
             "annotation": annotation}  # fmt: skip
    answer = client.post("/webhook", json=event)
    assert answer.get_json()["result"] == {"learned": 1}
    assert read_annotation(task, annotation).codes == ("J18.9",)
    assert _confidence(backend, emr, "J18.9") > before


def test_a_skip_and_a_doubtful_annotation_are_not_learned(client: FlaskClient, task: dict, emrs):
    doubtful = build_result(
        emrs[0], ["I10"], [], candidates=["I10"], principal="I10", quality="unsure"
    )
    for annotation in (
        {"id": 1, "result": [], "was_cancelled": True},
        {"id": 2, "result": doubtful, "was_cancelled": False},
    ):
        event = {"action": "ANNOTATION_UPDATED", "project": {"id": 1}, "task": task,
                 "annotation": annotation}  # fmt: skip
        assert client.post("/webhook", json=event).get_json()["result"] == {"learned": 0}


@pytest.mark.parametrize(
    ("route", "body", "status", "detail"),
    [
        ("/predict", {"project": 1}, 400, "tasks: "),
        ("/predict", {"project": 1, "tasks": {}}, 400, "tasks: "),
        ("/predict", {"project": 1, "tasks": ["x"]}, 400, "tasks.0: "),
        ("/predict", {"project": "../../etc", "tasks": []}, 400, "project must be"),
        ("/setup", {}, 400, "project"),
        ("/setup", {"project": "77.1"}, 404, "project 77 is linked to no workspace"),
        ("/webhook", {"action": "START_TRAINING", "project": {"id": 77}}, 404, "project 77"),
        ("/webhook", {"action": 3}, 400, "action: "),
    ],
)
def test_a_wrong_request_is_a_clear_problem(
    client: FlaskClient, route: str, body: dict, status: int, detail: str
):
    answer = client.post(route, json=body)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert detail in json.loads(answer.text)["detail"]


def test_setup_takes_extra_params_of_any_shape(client: FlaskClient):
    body = {"project": "1.2", "extra_params": {"k": ["v"]}, "access_token": "t"}
    assert client.post("/setup", json=body).status_code == 200


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [(b"{", "application/json", 400), (b"[]", "application/json", 400), (b"x", "text/plain", 415),
     (b"\xff", "application/json", 400), (b"[" * 50_000, "application/json", 400)],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(
    client: FlaskClient, data: bytes, content_type: str, status: int
):
    answer = client.post("/predict", data=data, content_type=content_type)
    assert answer.status_code == status


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
names = st.sampled_from(["tasks", "project", "params", "action", "annotation", "task", "data"])


@given(
    route=st.sampled_from(["/predict", "/setup", "/webhook"]),
    body=st.dictionaries(names, json_values),
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_request_makes_the_backend_fail_or_repeat_what_it_was_sent(
    client: FlaskClient, route: str, body: dict
):
    answer = client.post(route, json={**body, "more": MARKER})
    assert answer.status_code < 500
    assert MARKER not in answer.text


@given(data=st.dictionaries(st.sampled_from(["emr_id", "record", "candidates"]), json_values))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_task_whose_data_was_tampered_with_never_breaks_the_others(
    client: FlaskClient, task: dict, data: dict
):
    broken = {**task, "data": {**task["data"], **data}}
    answer = client.post("/predict", json={"tasks": [broken, task], "project": 1})
    assert answer.status_code == 200
    assert answer.get_json()["results"][1]["result"]


def test_the_code_tree_is_compressed_cacheable_and_open_to_browsers(client: FlaskClient):
    answer = client.get("/taxonomy.json?project=1", headers={"Accept-Encoding": "gzip"})
    tree = json.loads(gzip.decompress(answer.data))
    chapters = {node["alias"] for node in tree["items"]}
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "max-age" in answer.headers["Cache-Control"]
    assert chapters == {"4", "9", "10"}
    again = client.get("/taxonomy.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    plain = client.get("/taxonomy.json", headers={"Accept-Encoding": "identity"})
    assert plain.get_json() == tree


def test_metrics_count_requests_by_route(client: FlaskClient):
    client.get("/health")
    assert 'route="health"' in client.get("/metrics").text


def test_a_new_live_version_is_served_once_it_is_loaded_and_a_broken_one_never(
    client: FlaskClient, backend: Backend, workspace: Workspace
):
    registry = Registry(workspace.models_folder)
    old = registry.live()
    assert old is not None
    broken = registry.folder / "v9-broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    registry.add(broken, broken.name, {})
    registry.promote(broken.name)
    backend.servings[0].wait()
    assert client.post("/setup", json={"project": 1}).get_json()["model_version"] == old.version
    registry.rollback()
    assert client.post("/setup", json={"project": 1}).get_json()["model_version"] == old.version


def _confidence(backend: Backend, emr, code: str) -> float:
    (suggested,) = backend.servings[0].suggest([emr])
    return next((s.confidence for s in suggested.suggestions if s.code == code), 0.0)
