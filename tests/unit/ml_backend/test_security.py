import base64
import json

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel

from label_config.errors import CheckpointError, ConfigError, DataError
from ml_backend.security import Credentials, protect

MARKER = "patient-Jane-Roe"


class Body(BaseModel):
    count: int


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def app(registry: CollectorRegistry) -> Flask:
    app = Flask("small")
    protect(app, Credentials("ls", "secret"), registry=registry)

    def fail(error: Exception):
        def view():
            raise error

        return view

    app.add_url_rule("/health", "health", lambda: "up")
    app.add_url_rule("/ok", "ok", lambda: "fine")
    app.add_url_rule("/bug", "bug", fail(RuntimeError(MARKER)))
    app.add_url_rule("/data", "data", fail(DataError("project must be a number")))
    app.add_url_rule("/none", "none", fail(ConfigError("no such project")))
    app.add_url_rule("/model", "model", fail(CheckpointError("no model yet")))
    app.add_url_rule("/body", "body", lambda: Body.model_validate({"count": MARKER}).model_dump())
    return app


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


RIGHT = basic("ls", "secret")


@pytest.mark.parametrize(
    "headers",
    [{}, basic("ls", "wrong"), basic("other", "secret"), {"Authorization": "Basic ???"},
     {"Authorization": "Bearer secret"}, basic("ls", "sécret")],
)  # fmt: skip
def test_every_route_but_health_needs_the_right_user_and_password(app: Flask, headers: dict):
    client = app.test_client()
    answer = client.get("/ok", headers=headers)
    assert answer.status_code == 401
    assert "Basic" in answer.headers["WWW-Authenticate"]
    assert client.get("/health").status_code == 200
    assert client.get("/ok", headers=RIGHT).text == "fine"


def test_no_password_in_the_settings_turns_authentication_off():
    app = Flask("open")
    protect(app, Credentials("ls"), registry=CollectorRegistry())
    app.add_url_rule("/ok", "ok", lambda: "fine")
    assert app.test_client().get("/ok").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/data", 400), ("/none", 404), ("/model", 503), ("/bug", 500), ("/body", 400), ("/x", 404)],
)
def test_every_failure_is_a_json_problem_without_the_request_s_text(
    app: Flask,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    path: str,
    status: int,
):
    caplog.set_level("INFO")
    answer = app.test_client().get(path, headers=RIGHT)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert json.loads(answer.text)["status"] == status
    everything = answer.text + caplog.text + generate_latest(registry).decode()
    assert MARKER not in everything
    assert "Traceback" not in everything


def test_a_bug_s_place_is_in_the_log(app: Flask, caplog: pytest.LogCaptureFixture):
    app.test_client().get("/bug", headers=RIGHT)
    assert "RuntimeError at " in caplog.text
    assert "route bug" in caplog.text


def test_a_validation_error_names_the_field(app: Flask):
    assert json.loads(app.test_client().get("/body", headers=RIGHT).text)["detail"].startswith(
        "count: "
    )


def test_requests_are_counted_by_route_and_status_not_by_address(
    app: Flask, registry: CollectorRegistry
):
    client = app.test_client()
    client.get(f"/ok?name={MARKER}", headers=RIGHT)
    client.get(f"/{MARKER}", headers=RIGHT)
    metrics = generate_latest(registry).decode()
    assert 'clinicoco_requests_total{route="ok",status="200"} 1.0' in metrics
    assert 'clinicoco_requests_total{route="unknown",status="404"} 1.0' in metrics
    assert MARKER not in metrics


def test_answers_carry_security_headers(app: Flask):
    headers = app.test_client().get("/ok", headers=RIGHT).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_body_over_the_limit_is_refused(app: Flask):
    app.config["MAX_CONTENT_LENGTH"] = 10
    app.add_url_rule(
        "/post", "post", lambda: __import__("flask").request.get_data(), methods=["POST"]
    )
    assert app.test_client().post("/post", data=b"x" * 11, headers=RIGHT).status_code == 413
