"""Bad requests by the thousand: every answer is one that the description names, and tells nothing.

The number is that of the environment variable BAD_REQUESTS; the full check is 10,000.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ml_backend import jobs
from ml_backend.server import create_app, description
from ml_backend.serving import Backend
from ml_backend.settings import Settings
from ml_backend.workspace import Workspace

BAD_REQUESTS = int(os.environ.get("BAD_REQUESTS", "400"))
MARKER = "patient-Jane-Roe"
TELLTALE = re.compile(r"Traceback|File \"|site-packages|/home/|/root/|/tmp/|/srv/|\.py\b")
UNDER_TEST = (
    *("/predict", "/setup", "/webhook", "/versions", "/jobs", "/taxonomy.json"),
    *("/jobs/{job}/cancel", "/dashboard/{project_id}"),
)
CHECKS = (
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance,
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "enqueue_training", lambda folder: "job-1")


@pytest.fixture(scope="module")
def said() -> Iterator[io.StringIO]:
    """Everything that any logger says."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module")
def app(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory):
    """On a copy of the workspace: some of what is sent here is right, and is learned."""
    folder = tmp_path_factory.mktemp("bad") / "ward"
    shutil.copytree(workspace.folder, folder)
    return create_app(Backend([folder]), Settings(backend_password=SecretStr("")))


def examples(share: float) -> settings:
    return settings(
        max_examples=max(10, round(share * BAD_REQUESTS)),
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def look(answer_text: str, client: FlaskClient, said: io.StringIO) -> None:
    """Nothing that was sent, and nothing about the machine, is anywhere."""
    metrics = client.get("/metrics").text
    for text in (answer_text, said.getvalue(), metrics):
        assert MARKER not in text
        assert not TELLTALE.search(text)
    said.truncate(0)
    said.seek(0)


@pytest.mark.parametrize("route", UNDER_TEST)
def test_requests_made_from_the_description_are_answered_as_it_says(app, route: str, said):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app).include(path=route)
    client = app.test_client()
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @examples(0.05)
        def ask(case):
            case.call_and_validate(
                checks=CHECKS, headers={"X-Note": MARKER, "Accept-Encoding": "identity"}
            )

        ask()
    look("", client, said)


hostile = st.sampled_from(
    [MARKER, "../../etc/passwd", "'; DROP TABLE", "\x00", "\ud800", "<script>", "http://[::1]/x",
     "file:///etc/passwd", "7.1", "1e999", "９", "A" * 3_000, "", "icd10cm/../.."]
)  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | hostile
    | st.sampled_from([2**63, -1, 10**40, 1, "1", "1.5"])
)  # fmt: skip
words = st.sampled_from(
    ["project", "tasks", "task", "annotation", "params", "context", "action", "id", "result",
     "data", "record", "sections", "diagnoses", "candidates", "value", "choices", "taxonomy",
     "labels", "from_name", "to_name", "type", "emr_id", "updated_at", "prediction", "predictions",
     "completed_by", "lead_time", "start", "end", "startOffset", "endOffset", "globalOffsets",
     "score", "text", "was_cancelled", "label_config", "schema", "extra_params", "name", MARKER]
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | hostile, inner, max_size=5),
    max_leaves=16,
)
actions = st.sampled_from(
    ["START_TRAINING", "ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED",
     "ANNOTATIONS_DELETED", "X"]
)  # fmt: skip


@st.composite
def nearly_right(draw, base: dict) -> dict:
    """A right request with a few places replaced by anything."""
    body = json.loads(json.dumps(base))
    for _ in range(draw(st.integers(1, 4))):
        place, parent = body, None
        while isinstance(place, dict | list) and place and draw(st.integers(0, 5)):
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(keys))
            place, parent = place[key], (place, key)
        if parent is not None:
            parent[0][parent[1]] = draw(anything)
    return body


def bases(task: dict) -> list[tuple[str, dict]]:
    region = {"id": "a", "from_name": "evidence", "to_name": "emr", "type": "labels",
              "value": {"start": "/div[1]", "end": "/div[1]", "startOffset": 0, "endOffset": 4,
                        "globalOffsets": {"start": 3, "end": 9}, "text": MARKER,
                        "labels": ["I10"]}}  # fmt: skip
    ticked = {"from_name": "codes", "to_name": "emr", "type": "choices",
              "value": {"choices": ["I10"]}}  # fmt: skip
    ask = {"from_name": "ask", "to_name": "emr", "type": "textarea", "value": {"text": [MARKER]}}
    annotation = {"id": 5, "result": [ticked, region], "was_cancelled": False, "lead_time": 3.5,
                  "completed_by": 1, "updated_at": "2026-01-01T00:00:00Z"}  # fmt: skip
    context = {"result": [ticked, ask, region]}
    event = {"project": {"id": 1}, "task": task, "annotation": annotation}
    return [
        ("/predict", {"project": "1.1", "tasks": [task, task], "params": {"context": None}}),
        ("/predict", {"project": 1, "tasks": [task], "params": {"context": context}}),
        ("/webhook", {"action": "ANNOTATION_CREATED", **event}),
        ("/webhook", {"action": "ANNOTATIONS_CREATED", **event, "task": [task] * 2,
                      "annotation": [annotation] * 2}),
        ("/setup", {"project": "1.1", "schema": MARKER, "extra_params": {MARKER: 1}}),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(5))
def test_a_nearly_right_request_never_makes_the_backend_fail(app, task: dict, number: int, said):
    marked = json.loads(json.dumps(task).replace("Patient 0", MARKER))
    route, base = bases(marked)[number]
    client = app.test_client()
    allowed = {int(code) for code in description()["paths"][route]["post"]["responses"]}

    @given(body=nearly_right(base))
    @examples(0.1)
    def ask(body):
        answer = client.post(route, data=json.dumps(body), content_type="application/json")
        assert answer.status_code in allowed
        if answer.status_code != 200:
            look(answer.text, client, said)
        else:  # a suggestion may quote the record to the coder who reads it
            look("", client, said)

    ask()


@given(body=st.dictionaries(words, anything, max_size=6), action=actions)
@examples(0.15)
def test_any_object_is_answered_and_never_repeated(app, said, body: dict, action: str):
    client = app.test_client()
    for route in ("/predict", "/setup", "/webhook"):
        sent = json.dumps({**body, "action": action, "project": body.get("project", {"id": 1})})
        answer = client.post(route, data=sent, content_type="application/json")
        assert answer.status_code in (200, 201, 400, 404)
        look(answer.text, client, said)


@given(
    data=st.binary(max_size=200) | hostile.map(lambda text: text.encode("utf-8", "surrogatepass")),
    content_type=st.sampled_from(["application/json", "text/plain", "multipart/form-data", ""]),
    encoding=st.sampled_from([None, "gzip", "deflate", "br"]),
    route=st.sampled_from(["/predict", "/setup", "/webhook", "/metrics", "/x"]),
)
@examples(0.1)
def test_bytes_that_are_no_json_are_refused(app, said, data, content_type, encoding, route):
    client = app.test_client()
    headers = {"Content-Encoding": encoding} if encoding else {}
    answer = client.post(route, data=data, content_type=content_type, headers=headers)
    assert answer.status_code in (400, 404, 405, 415)
    assert answer.content_type == "application/problem+json"
    look(answer.text, client, said)


def test_the_description_names_every_route_and_method_of_the_app(app):
    described = {
        (path, method.upper())
        for path, operations in description()["paths"].items()
        for method in operations
    }
    real = {
        (re.sub(r"<(?:int:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert described == real


def test_the_description_asks_for_what_the_server_asks_for():
    from ml_backend import server

    for route, model in (
        ("/setup", server.SetupRequest),
        ("/predict", server.PredictRequest),
        ("/webhook", server.WebhookRequest),
    ):
        post = description()["paths"][route]["post"]
        body = post["requestBody"]["content"]["application/json"]["schema"]
        assert set(body["required"]) == set(model.model_json_schema()["required"])
        assert set(model.model_fields) <= set(body["properties"])


def test_the_description_is_served_behind_the_password(backend: Backend):
    open_app = create_app(backend, Settings(backend_password=SecretStr("")))
    assert open_app.test_client().get("/openapi.json").get_json() == description()
    closed = create_app(backend, Settings(backend_password=SecretStr("x")))
    assert closed.test_client().get("/openapi.json").status_code == 401
