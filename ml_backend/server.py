"""The ML backend that Label Studio calls: a Flask app over the loaded models."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import time
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files
from threading import BoundedSemaphore
from typing import Annotated, Any

import yaml
from flask import Flask, Response, abort, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from label_config.taxonomy import tree_json
from ml_backend.dashboard.routes import register
from ml_backend.jobs import cancel, job_status
from ml_backend.memory import WorkerMemory
from ml_backend.model import ANNOTATION_EVENTS, TRAIN_EVENT, CliniCoCoModel, parse_project_id
from ml_backend.security import MAX_BODY_SECONDS, Busy, Credentials, TooSlow, protect
from ml_backend.serving import Backend, Serving
from ml_backend.settings import Settings

MAX_TASKS = 10_000
KEPT_FREE = 8
"""Threads of a worker that no prediction may take: health, set-up and events always find one."""
SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""Where workers keep their counts, so that any of them can tell all."""


class SetupRequest(BaseModel):
    """Body of POST /setup. Label Studio also sends its creator's token, which is not kept."""

    model_config = ConfigDict(extra="ignore")
    project: str | int


class PredictParams(BaseModel):
    """What comes with the tasks; a context says that a coder asks from the open editor."""

    model_config = ConfigDict(extra="ignore")
    context: dict[str, Any] | None = None


class PredictRequest(BaseModel):
    """Body of POST /predict."""

    model_config = ConfigDict(extra="ignore")
    project: str | int
    tasks: Annotated[list[dict[str, Any]], Field(max_length=MAX_TASKS)]
    label_config: str | None = None
    params: PredictParams | None = None


class WebhookProject(BaseModel):
    """The part of a webhook's project that is used."""

    model_config = ConfigDict(extra="ignore")
    id: int


class WebhookRequest(BaseModel):
    """Body of POST /webhook; `task` and `annotation` are one object or a list, by the event."""

    model_config = ConfigDict(extra="ignore")
    action: str
    project: WebhookProject
    task: dict[str, Any] | list[dict[str, Any]] | None = None
    annotation: dict[str, Any] | list[dict[str, Any]] | None = None


def create_app(backend: Backend, settings: Settings) -> Flask:
    """Build the app with every route of the protocol."""
    app = Flask(__name__, static_folder=None)
    metrics = CollectorRegistry()
    protect(app, credentials(settings), registry=metrics)
    predicted = Counter("clinicoco_predictions", "Tasks answered", ["members"], registry=metrics)
    places = BoundedSemaphore(max(1, settings.backend_threads - KEPT_FREE))

    @app.get("/")
    @app.get("/health", endpoint="health")
    def health() -> Response:
        return jsonify(status="UP", model_class=CliniCoCoModel.__name__)

    @app.post("/setup")
    def setup() -> Response:
        body = SetupRequest.model_validate(_json_body())
        serving = backend.serving(parse_project_id(body.project))
        return jsonify(model_version=serving.version)

    @app.post("/predict")
    def predict() -> Response:
        body = PredictRequest.model_validate(_json_body())
        seconds = settings.predict_seconds
        model = CliniCoCoModel(body.project, body.label_config, backend=backend, seconds=seconds)
        context = body.params.context if body.params else None
        if not places.acquire(blocking=False):
            raise Busy("too many predictions are waiting: ask again in a few seconds")
        try:
            response = model.predict(body.tasks, context=context)
        finally:
            places.release()
        predicted.labels("all").inc(response.read)
        predicted.labels("quick").inc(response.hurried)
        predicted.labels("none").inc(response.unread)
        return jsonify(results=response.predictions, model_version=response.model_version)

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        body = WebhookRequest.model_validate(_json_body())
        if body.action not in ANNOTATION_EVENTS | {TRAIN_EVENT}:
            return jsonify(status="ignored"), 200
        model = CliniCoCoModel(body.project.id, backend=backend)
        result = model.fit(body.action, body.model_dump())
        return jsonify(status="ok", result=result), 201

    @app.get("/versions")
    def versions() -> Response:
        names = [v.version for s in _chosen(backend) for v in s.registry.versions()]
        return jsonify(versions=names)

    @app.get("/jobs")
    def jobs() -> Response:
        return jsonify(jobs=[j for s in _chosen(backend) for j in job_status(s.workspace.folder)])

    @app.post("/jobs/<job>/cancel")
    def cancel_job(job: str) -> Response:
        for serving in _chosen(backend):
            folder = serving.workspace.folder
            if any(status["job"] == job for status in job_status(folder)):
                return jsonify(cancel(folder, job))
        abort(404)

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(_metrics(metrics), content_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(description())

    @app.get("/taxonomy.json", endpoint="taxonomy")
    def taxonomy() -> Response:
        wanted = request.args.get("set")
        serving = backend.of_code_set(wanted) if wanted else _chosen(backend)[0]
        body, tag = _tree(serving, request.args.get("scope") == "all")
        zipped = request.accept_encodings.quality("gzip") > 0
        answer = Response(body if zipped else gzip.decompress(body), mimetype="application/json")
        if zipped:
            answer.headers["Content-Encoding"] = "gzip"
        answer.headers["Vary"] = "Accept-Encoding"
        answer.headers["Cache-Control"] = "public, max-age=3600"
        answer.headers["Access-Control-Allow-Origin"] = "*"
        answer.set_etag(tag)
        answer.make_conditional(request)
        return answer

    register(app, backend)
    return app


def credentials(settings: Settings) -> Credentials:
    """What the settings say opens the routes."""
    return Credentials(
        settings.backend_user,
        settings.backend_password.get_secret_value(),
        settings.backend_token.get_secret_value(),
        settings.webhook_secret.get_secret_value(),
    )


@cache
def description() -> dict[str, Any]:
    """The OpenAPI description of every route."""
    text = files("ml_backend").joinpath("openapi.yaml").read_text("utf-8")
    described: dict[str, Any] = yaml.safe_load(text)
    return described


def _json_body() -> dict[str, Any]:
    if not request.is_json or request.content_encoding:
        raise UnsupportedMediaType
    try:
        body = json.loads(_read_body())
    except (ValueError, RecursionError):
        raise BadRequest from None
    if not isinstance(body, dict):
        raise BadRequest
    return body


def _read_body() -> bytes:
    """The whole body. Raises TooSlow for a caller that sends it drop by drop."""
    deadline, most = time.monotonic() + MAX_BODY_SECONDS, request.max_content_length or 0
    parts: list[bytes] = []
    try:
        while part := request.stream.read(2**16):
            parts.append(part)
            if time.monotonic() > deadline:
                raise TooSlow("the request did not arrive in time")
            if most and sum(map(len, parts)) > most:
                raise RequestEntityTooLarge
    except OSError:
        raise TooSlow("the request did not arrive in time") from None
    return b"".join(parts)


def _metrics(own: CollectorRegistry) -> bytes:
    """Every worker's counts, where they share them, and every worker's memory."""
    shared = os.environ.get(SHARED_METRICS)
    if not shared:
        return generate_latest(own)
    every = CollectorRegistry()
    MultiProcessCollector(every, shared)  # type: ignore[no-untyped-call]
    every.register(WorkerMemory(os.getppid()))
    return generate_latest(every)


def _chosen(backend: Backend) -> Sequence[Serving]:
    """The workspace that ?project= names, or all of them."""
    project = request.args.get("project")
    return backend.servings if project is None else [backend.serving(parse_project_id(project))]


def _tree(serving: Serving, whole: bool) -> tuple[bytes, str]:
    return _cached_tree(serving, whole, serving.workspace.config.codes)


@lru_cache(maxsize=16)
def _cached_tree(serving: Serving, whole: bool, codes: tuple[str, ...]) -> tuple[bytes, str]:
    """The project's codes with the rest of their categories, or the whole code set."""
    taxonomy = serving.workspace.taxonomy
    wanted: set[str] | None = None
    if not whole:
        categories = {taxonomy.category(code) for code in codes}
        wanted = {code for category in categories for code in _below(serving, category)}
    tree = tree_json(taxonomy, wanted)
    return gzip.compress(tree, mtime=0), hashlib.sha256(tree).hexdigest()[:16]


def _below(serving: Serving, code: str) -> list[str]:
    children = serving.workspace.taxonomy.children(code)
    return [code, *(c for child in children for c in _below(serving, child))]
