"""The ML backend that Label Studio calls: a Flask app over the loaded models."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from flask import Flask, Response, jsonify, request
from gunicorn.app.base import BaseApplication
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from label_config.taxonomy import tree_json
from ml_backend.dashboard.routes import register
from ml_backend.jobs import job_status
from ml_backend.model import ANNOTATION_EVENTS, TRAIN_EVENT, CliniCoCoModel, parse_project_id
from ml_backend.security import protect
from ml_backend.serving import Backend, Serving
from ml_backend.settings import Settings

MAX_TASKS = 10_000


class SetupRequest(BaseModel):
    """Body of POST /setup. Label Studio also sends its creator's token, which is not kept."""

    model_config = ConfigDict(extra="ignore")
    project: str | int


class PredictRequest(BaseModel):
    """Body of POST /predict."""

    model_config = ConfigDict(extra="ignore")
    project: str | int
    tasks: Annotated[list[dict[str, Any]], Field(max_length=MAX_TASKS)]
    label_config: str | None = None
    params: dict[str, Any] | None = None


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
    protect(
        app,
        user=settings.backend_user,
        password=settings.backend_password.get_secret_value(),
        registry=metrics,
    )

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
        model = CliniCoCoModel(body.project, body.label_config, backend=backend)
        context = (body.params or {}).get("context")
        response = model.predict(body.tasks, context=context)
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

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(generate_latest(metrics), content_type=CONTENT_TYPE_LATEST)

    @app.get("/taxonomy.json", endpoint="taxonomy")
    def taxonomy() -> Response:
        serving = _chosen(backend)[0]
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


class _Server(BaseApplication):  # type: ignore[misc]
    """Gunicorn around the app: one process, because the model is large, and several threads."""

    def __init__(self, folders: Sequence[Path], settings: Settings) -> None:
        self._folders, self._settings = folders, settings
        super().__init__()

    def load_config(self) -> None:
        chosen: Mapping[str, Any] = {
            "bind": f"{self._settings.backend_host}:{self._settings.backend_port}",
            "workers": 1,
            "threads": self._settings.backend_threads,
            "worker_class": "gthread",
            "timeout": 300,
            "graceful_timeout": 5,
            "accesslog": None,
            "limit_request_line": 4094,
            "control_socket_disable": True,
        }
        for name, value in chosen.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app(Backend(self._folders), self._settings)


def serve(folders: Sequence[Path], settings: Settings) -> None:
    """Serve the workspaces until interrupted."""
    _Server(folders, settings).run()


def _json_body() -> Any:
    if not request.is_json:
        raise UnsupportedMediaType
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        raise BadRequest from None
    if not isinstance(body, dict):
        raise BadRequest
    return body


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
