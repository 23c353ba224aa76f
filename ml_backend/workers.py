"""Gunicorn around the app: models are loaded once, then workers are forked that share them.

Each worker computes in one thread per project, so that a worker never takes more than its core,
and answers health, set-up and events from other threads.
"""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import shutil
import socket
import struct
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.util import close_graceful, write
from gunicorn.workers.gthread import ThreadWorker

from label_config.errors import ConfigError
from ml_backend.logs import log_json, place_of
from ml_backend.settings import Settings

log = logging.getLogger(__name__)
SWITCH_SECONDS = 0.0005
"""How long a thread that computes may keep others waiting for the interpreter; Python's own 5 ms
would be paid several times in each request."""
SILENT_SECONDS = 10
"""How long a caller may pause in the middle of a request."""
REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    b'Content-Length: 66\r\n\r\n{"type": "about:blank", "status": 400, "detail": "not valid HTTP"}'
)


def serve(folders: Sequence[Path], settings: Settings) -> None:
    """Serve the workspaces until interrupted. Raises ConfigError for an open door to a network."""
    _need_credentials(settings)
    log_json()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    shared, master = tempfile.mkdtemp(prefix="clinicoco-metrics-"), os.getpid()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared  # read when the library is imported
    try:
        _Server(folders, settings).run()
    finally:
        if os.getpid() == master:  # a worker that ends comes by here too
            shutil.rmtree(shared, ignore_errors=True)


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, folders: Sequence[Path], settings: Settings) -> None:
        self._folders, self._settings = folders, settings
        super().__init__()

    def load_config(self) -> None:
        chosen: Mapping[str, Any] = {
            "bind": f"{self._settings.backend_host}:{self._settings.backend_port}",
            "workers": self._settings.backend_workers,
            "threads": self._settings.backend_threads,
            "worker_class": f"{__name__}.Worker",
            "logger_class": QuietLogger,
            "preload_app": True,
            "post_fork": _after_fork,
            "child_exit": _forget_worker,
            "timeout": 300,
            "graceful_timeout": 5,
            "keepalive": 5,
            "accesslog": None,
            "limit_request_line": 4094,
            "control_socket_disable": True,
        }
        for name, value in chosen.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        import torch
        from threadpoolctl import threadpool_limits

        from ml_backend.server import create_app
        from ml_backend.serving import Backend

        torch.set_num_threads(1)  # workers are the parallelism; a thread pool dies in a fork
        threadpool_limits(1)
        app = create_app(Backend(self._folders), self._settings)
        gc.collect()
        gc.freeze()  # or the first collection in a worker would copy every shared page
        return app


class Worker(ThreadWorker):  # type: ignore[misc]
    """Gunicorn's threads; answers and logs about bad requests do not quote them."""

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread, which its caller may not hold for ever."""
        patience = struct.pack("ll", SILENT_SECONDS, 0)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        super().enqueue_req(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Refuse what is not HTTP."""
        log.warning("a request was refused: %s", place_of(exc))
        try:
            write(client, REFUSAL)
            close_graceful(client)
        except OSError:
            return


class QuietLogger(Logger):  # type: ignore[misc]
    """Leaves the lines to the process's own handlers."""

    def setup(self, cfg: Any) -> None:
        """Take no handler."""
        self.error_log.handlers[:] = []
        self.error_log.propagate = True
        self.error_log.setLevel(logging.INFO)
        self.access_log.handlers[:] = []
        self.access_log.propagate = False


def _after_fork(_: Any, __: Any) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)


def _forget_worker(_: Any, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _need_credentials(settings: Settings) -> None:
    secrets = (settings.backend_password, settings.backend_token)
    if any(secret.get_secret_value() for secret in secrets) or _is_loopback(settings.backend_host):
        return
    raise ConfigError(
        f"a backend on {settings.backend_host} needs CLINICOCO_BACKEND_PASSWORD: "
        "without one only loopback addresses are served"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
