"""What the kills are about: a workspace, a real Label Studio, the server, the worker, a coder."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from label_config.errors import ServerError
from ml_backend import steps
from ml_backend.label_studio import LabelStudioClient
from ml_backend.load import Target
from ml_backend.local_server import LocalLabelStudio
from ml_backend.processes import free_port, running, stop_group
from ml_backend.settings import settings
from ml_backend.stand_in import StandIn, gold_of, make_stand_in, predict_bodies
from simulator.coder import SimulatedCoder

CLINICOCO = (sys.executable, "-m", "ml_backend.cli")


class Service:
    """A process that can be killed and started again."""

    def __init__(self, arguments: tuple[str, ...], log: Path, ready: str | None = None) -> None:
        self._arguments, self._log, self._ready = arguments, log, ready
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Returns when it answers."""
        started = running([*CLINICOCO, *self._arguments], log=self._log, ready=self._ready)
        self._process = self._stack.enter_context(started)

    def kill(self) -> None:
        """SIGKILL to it and its children."""
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def stop(self) -> None:
        """Let it end."""
        self._stack.close()


class Ward:
    """Context manager around all of it."""

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self._folder, self._seed = folder, seed
        self._stack = ExitStack()
        self._commands: list[subprocess.Popen[bytes]] = []
        self._before: Mapping[str, str | None] = {}
        self._label_studio: LocalLabelStudio | None = None

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:  # Ctrl-C while waiting must stop the servers too
            self._stack.close()
            raise
        return self

    def _set_up(self) -> None:
        folder = self._folder
        size = StandIn(emrs=100, codes=12, seed=self._seed, project_id=None)
        self.workspace = make_stand_in(folder, size)
        self.gold = gold_of(folder)
        self.coder = SimulatedCoder(seed=self._seed, taxonomy=self.workspace.taxonomy)
        self._port = free_port(8190)
        self._callbacks()
        self._configure(self.start_label_studio())
        path = str(self.workspace.folder)
        health = f"{settings().backend_url}/health"
        self.server = Service(("serve", path), folder / "server.log", health)
        self.worker = Service(("worker",), folder / "worker.log")
        for service in (self.server, self.worker):
            self._stack.callback(service.stop)
            service.start()
        steps.set_up_project(self.workspace, self.client)
        self.project_id = steps.project_id(self.workspace)
        self._body = predict_bodies(self.workspace, 8)[0]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start_label_studio(self) -> LocalLabelStudio:
        """Also again, with the same data at the same address."""
        started = LocalLabelStudio(self._folder / "label-studio", port=self._port).__enter__()
        self._label_studio = started
        self.client = LabelStudioClient(started.url, started.token)
        return started

    def stop_label_studio(self) -> None:
        """Whatever it is doing."""
        if self._label_studio is not None:
            self._label_studio.__exit__(None, None, None)

    def command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `clinicoco` with these arguments."""
        with (self._folder / "commands.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  # our own commands
                [*CLINICOCO, *arguments], stdout=log, stderr=log, start_new_session=True
            )
        self._commands.append(process)
        return process

    def call_predict(self) -> threading.Thread:
        """A caller that waits for suggestions; its connection may break."""

        def call() -> None:
            try:
                self._target.call("/predict", self._body)
            except (OSError, HTTPException):
                return

        caller = threading.Thread(target=call)
        caller.start()
        return caller

    def served(self) -> str | None:
        """The version that the server says it serves; None while it does not answer."""
        try:
            return self.client.served_version(self.project_id)
        except ServerError:
            return None

    @property
    def _target(self) -> Target:
        chosen = settings()
        password = chosen.backend_password.get_secret_value()
        return Target(chosen.backend_url, chosen.backend_user, password)

    def _callbacks(self) -> None:
        """What must end with the block."""
        self._stack.callback(self._restore)
        self._stack.callback(self.stop_label_studio)
        self._stack.callback(self._stop_commands)

    def _stop_commands(self) -> None:
        for process in self._commands:
            if process.poll() is None:
                stop_group(process)

    def _configure(self, label_studio: LocalLabelStudio) -> None:
        """Settings of this process, and through the environment of its children."""
        port = free_port(9290)
        chosen = {
            "CLINICOCO_LABEL_STUDIO_URL": label_studio.url,
            "CLINICOCO_LABEL_STUDIO_TOKEN": label_studio.token,
            "CLINICOCO_BACKEND_PORT": str(port),
            "CLINICOCO_BACKEND_URL": f"http://127.0.0.1:{port}",
            "CLINICOCO_BROWSER_URL": "",
            "CLINICOCO_BACKEND_PASSWORD": secrets.token_urlsafe(16),
            "CLINICOCO_QUEUE_FILE": str((self._folder / "jobs.db").resolve()),
        }
        self._before = {name: os.environ.get(name) for name in chosen}
        os.environ.update(chosen)
        settings.cache_clear()

    def _restore(self) -> None:
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        settings.cache_clear()
