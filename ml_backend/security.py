"""What every route owes: authentication, JSON problems without traces, headers, metrics, a log."""

from __future__ import annotations

import hmac
import json
import logging
import time

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from label_config.errors import CheckpointError, ClinicocoError, ConfigError, DataError

log = logging.getLogger("clinicoco.requests")
MAX_REQUEST_BYTES = 64 * 2**20
OPEN_ROUTES = frozenset({"health", "taxonomy"})
"""Health probes carry no password; the browser fetches the code tree, which names no patient."""

STATUS_OF: dict[type[ClinicocoError], int] = {
    DataError: 400,
    ConfigError: 404,
    CheckpointError: 503,
}


def protect(app: Flask, *, user: str, password: str, registry: CollectorRegistry) -> None:
    """Put authentication, problem answers, security headers, metrics and the log on an app."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    _authenticate(app, user, password)
    _answer_problems(app)
    _observe(app, registry)


def problem(status: int, detail: str) -> Response:
    """An RFC 9457 answer; `detail` must not quote the request."""
    body = {"type": "about:blank", "status": status, "detail": detail}
    return Response(json.dumps(body), status, content_type="application/problem+json")


def _authenticate(app: Flask, user: str, password: str) -> None:
    @app.before_request
    def check() -> Response | None:
        g.started = time.perf_counter()
        if not password or request.endpoint in OPEN_ROUTES:
            return None
        given = request.authorization
        name = (given.username or "") if given else ""
        secret = (given.password or "") if given else ""
        same_name = hmac.compare_digest(name.encode(), user.encode())
        same_secret = hmac.compare_digest(secret.encode(), password.encode())
        if same_name and same_secret:
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

    @app.errorhandler(ClinicocoError)
    def known(error: ClinicocoError) -> Response:
        status = next((s for kind, s in STATUS_OF.items() if isinstance(error, kind)), 500)
        return problem(status, str(error))

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        answer = problem(error.code or 500, error.name)
        if error.code == 405:
            answer.headers["Allow"] = str(dict(error.get_headers()).get("Allow", ""))
        return answer

    @app.errorhandler(Exception)
    def unknown(error: Exception) -> Response:
        # the message may quote a record: only the type and the place leave the process
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        line = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "?"
        log.error("%s in %s at %s", type(error).__name__, request.endpoint, line)
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
        line = {"route": route, "status": response.status_code, "ms": round(1000 * spent, 1)}
        log.info(json.dumps(line))
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault(
            "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"
        )
        response.headers.setdefault("Cache-Control", "no-store")
        return response
