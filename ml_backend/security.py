"""What every route owes: authentication, JSON problems without traces, headers, metrics, a log."""

from __future__ import annotations

import hmac
import json
import logging
import re
import time
from dataclasses import dataclass
from hashlib import sha256

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from label_config.errors import (
    CheckpointError,
    ClinicocoError,
    ConfigError,
    DataError,
    ServerError,
)
from ml_backend.logs import place_of
from ml_backend.settings import WEBHOOK_HEADER

log = logging.getLogger("clinicoco.requests")
MAX_REQUEST_BYTES = 64 * 2**20
MAX_BODY_SECONDS = 30.0
OPEN_ROUTES = frozenset({"health"})
"""Health probes carry no password."""

STATUS_OF: dict[type[ClinicocoError], int] = {
    DataError: 400,
    ConfigError: 404,
    CheckpointError: 503,
    ServerError: 503,
}


class Busy(ClinicocoError):
    """All requests that may wait for the model are waiting."""


class TooSlow(ClinicocoError):
    """The body of a request did not arrive in time."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What opens the routes; with neither password nor token they are open."""

    user: str = ""
    password: str = ""
    token: str = ""
    webhook_secret: str = ""

    @property
    def are_needed(self) -> bool:
        """False on a machine where nobody set any."""
        return bool(self.password or self.token or self.webhook_secret)

    def key_of(self, code_set: str) -> str:
        """What a browser shows to fetch a code tree: it opens that alone, and tells no password."""
        secret = self.password or self.token
        return hmac.new(secret.encode(), f"tree:{code_set}".encode(), sha256).hexdigest()[:32]

    def admit(self) -> bool:
        """Whether the request at hand may pass; every comparison takes constant time."""
        given = request.authorization
        passed = False
        if given is not None and self.password and given.type == "basic":
            same_name = _same(given.username or "", self.user)
            passed = _same(given.password or "", self.password) and same_name
        if given is not None and self.token and given.type == "bearer":
            passed = _same(given.token or "", self.token)
        if request.endpoint == "webhook" and self.webhook_secret:
            passed = passed or _same(request.headers.get(WEBHOOK_HEADER, ""), self.webhook_secret)
        if request.endpoint == "taxonomy" and (self.password or self.token):
            key = self.key_of(request.args.get("set", ""))
            passed = passed or _same(request.args.get("key", ""), key)
        return passed


def protect(app: Flask, credentials: Credentials, *, registry: CollectorRegistry) -> None:
    """Put authentication, problem answers, security headers, metrics and the log on an app."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    _authenticate(app, credentials)
    _answer_problems(app)
    _observe(app, registry)


def problem(status: int, detail: str) -> Response:
    """An RFC 9457 answer; `detail` must not quote the request."""
    body = {"type": "about:blank", "status": status, "detail": detail}
    return Response(json.dumps(body), status, content_type="application/problem+json")


def without_paths(text: str) -> str:
    """The text with each absolute path cut to its last name."""
    return re.sub(r"(?<![\w.])/(?:[^\s:;,'\"/]+/)+([^\s:;,'\"/]*)", r"\1", text)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _authenticate(app: Flask, credentials: Credentials) -> None:
    @app.before_request
    def check() -> Response | None:
        g.started = time.perf_counter()
        if not credentials.are_needed or request.endpoint in OPEN_ROUTES or credentials.admit():
            return None
        answer = problem(401, "user and password of the backend are needed")
        answer.headers["WWW-Authenticate"] = 'Basic realm="clinicoco"'
        return answer


def _answer_problems(app: Flask) -> None:
    @app.errorhandler(ValidationError)
    def invalid(error: ValidationError) -> Response:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(400, f"{where}: {first['msg']}")

    @app.errorhandler(Busy)
    def busy(error: Busy) -> Response:
        answer = problem(503, str(error))
        answer.headers["Retry-After"] = "5"
        return answer

    @app.errorhandler(TooSlow)
    def too_slow(error: TooSlow) -> Response:
        answer = problem(408, str(error))
        answer.headers["Connection"] = "close"
        return answer

    @app.errorhandler(ClinicocoError)
    def known(error: ClinicocoError) -> Response:
        status = next((s for kind, s in STATUS_OF.items() if isinstance(error, kind)), 500)
        return problem(status, without_paths(str(error)))

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        answer = problem(error.code or 500, error.name)
        if error.code == 405:
            answer.headers["Allow"] = str(dict(error.get_headers()).get("Allow", ""))
        return answer

    @app.errorhandler(Exception)
    def unknown(error: Exception) -> Response:
        # the message may quote a record: only the type and the place leave the process
        log.error("%s, on route %s", place_of(error), request.endpoint)
        return problem(500, "the backend failed; its log names the place")


def _observe(app: Flask, registry: CollectorRegistry) -> None:
    requests = Counter(
        "clinicoco_requests", "Requests answered", ["route", "status"], registry=registry
    )
    seconds = Histogram("clinicoco_request_seconds", "Time to answer", ["route"], registry=registry)

    @app.after_request
    def finish(response: Response) -> Response:
        route = request.endpoint or "unknown"
        spent = time.perf_counter() - g.get("started", time.perf_counter())
        requests.labels(route, response.status_code).inc()
        seconds.labels(route).observe(spent)
        fields = {"route": route, "status": response.status_code, "ms": round(1000 * spent, 1)}
        log.info(json.dumps(fields), extra={"fields": fields})
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers.setdefault(
            "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"
        )
        response.headers.setdefault("Cache-Control", "no-store")
        return response
