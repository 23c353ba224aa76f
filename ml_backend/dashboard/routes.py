"""The dashboard's routes; counting runs beside the requests, one thread a project."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from flask import Flask, Response, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from ml_backend.dashboard.figures import Counted, count, read_figures, stamp
from ml_backend.dashboard.page import policy, render, render_list
from ml_backend.serving import Backend
from ml_backend.workspace import Workspace

Stamp = tuple[Any, ...]
Stamped = tuple[Stamp, Counted]
PATIENCE_SECONDS = 0.7
"""How long a page waits for newer numbers before it shows the last ones and says so."""
NOTICE = "Newer annotations are being counted: reload in a moment."


class Counter:
    """Keeps the slow figures of one workspace; recounts beside the requests when files changed."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="dashboard")
        self._running: Future[Stamped] | None = None
        self._known: Stamped | None = None

    def get(self, patience: float = PATIENCE_SECONDS) -> tuple[Counted, bool]:
        """The figures, and whether they are up to date; waits as long as needed the first time.

        Raises what counting raised.
        """
        with self._lock:
            wanted, known = stamp(self._workspace), self._known
            if known is not None and known[0] == wanted:
                return known[1], True
            if self._running is None or self._running.done():
                self._running = self._executor.submit(self._count, wanted)
            running = self._running
        try:
            found = running.result(None if known is None else patience)
        except TimeoutError:
            if known is None:
                raise
            found = known
        return found[1], found[0] == wanted

    def _count(self, wanted: Stamp) -> Stamped:
        self._workspace.reload()
        self._known = wanted, count(self._workspace)
        return self._known


def register(app: Flask, backend: Backend) -> None:
    """Add /dashboard and /dashboard/<project id>; the app's own authentication guards them."""
    counters: dict[int, Counter] = {}

    @app.get("/dashboard")
    def dashboard() -> AnyResponse:
        configs = [serving.workspace.config for serving in backend.servings]
        if len(configs) == 1 and configs[0].project_id is not None:
            return redirect(url_for("project_dashboard", project_id=configs[0].project_id))
        return _answer(render_list([_link(c.title, c.project_id) for c in configs]))

    @app.get("/dashboard/<int:project_id>")
    def project_dashboard(project_id: int) -> AnyResponse:
        workspace = backend.serving(project_id).workspace
        counter = counters.setdefault(project_id, Counter(workspace))
        counted, fresh = counter.get()
        figures = read_figures(workspace, counted=counted)
        return _answer(render(figures, notice="" if fresh else NOTICE))


def _link(title: str, project_id: int | None) -> dict[str, Any]:
    linked = project_id is not None
    address = url_for("project_dashboard", project_id=project_id) if linked else None
    return {"title": title, "address": address}


def _answer(page: str) -> Response:
    answer = Response(page, mimetype="text/html")
    answer.headers["Content-Security-Policy"] = f"{policy()}; frame-ancestors 'none'"
    return answer
