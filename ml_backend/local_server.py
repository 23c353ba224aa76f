"""A Label Studio of one's own: started from its virtual environment, stopped with the block.

It listens on loopback only, phones nobody, and keeps its data, password and token in one folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from label_config.errors import ConfigError, ServerUnreachable
from label_config.files import read_json
from ml_backend.processes import free_port, running

DEFAULT_PORT = 8080
START_SECONDS = 300.0
USER = "admin@clinicoco.local"
EXECUTABLE_VARIABLE = "CLINICOCO_LABEL_STUDIO_EXECUTABLE"

OFFLINE = {
    "COLLECT_ANALYTICS": "0",
    "LATEST_VERSION_CHECK": "0",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "FEATURE_FLAGS_OFFLINE": "1",
}
LOCAL = {
    "DJANGO_DB": "sqlite",
    "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "1",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "1",
    # Label Studio refuses backends and webhooks on loopback unless told otherwise
    "ML_BLOCK_LOCAL_IP": "0",
    "SSRF_PROTECTION_ENABLED": "0",
}


class LocalLabelStudio:
    """Context manager around one local server; `url`, `user`, `password` and `token` reach it."""

    def __init__(
        self,
        data_folder: Path,
        *,
        port: int | None = None,
        executable: Path | None = None,
        template: Path | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Nothing starts yet. A second start in the same folder finds the first one's projects.

        The first start takes about 45 s of migrations; a `template` folder (see `make_template`)
        saves them. `progress` is called with the seconds waited so far. Raises ConfigError if
        Label Studio is not installed.
        """
        self._folder = data_folder.resolve()
        self._port = port
        self._executable = find_executable(executable)
        self._template = template
        self._progress = progress
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.user = USER
        self.password = ""
        self.token = ""

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self._folder / "label-studio.log"

    def __enter__(self) -> Self:
        if self._template is not None and not self._database.exists():
            shutil.copytree(self._template, self._folder, dirs_exist_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.password, self.token = _credentials(self._folder / "credentials.json")
        port = free_port(DEFAULT_PORT) if self._port is None else self._port
        self.url = f"http://127.0.0.1:{port}"
        process = self._stack.enter_context(
            running(self._command(port), log=self.log, environment=self._environment())
        )
        try:
            self._wait(process)
        except BaseException:  # Ctrl-C while waiting must stop the server too
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def _database(self) -> Path:
        return self._folder / "label_studio.sqlite3"

    def _command(self, port: int) -> list[str]:
        return [
            str(self._executable), "start", "--no-browser",
            "--internal-host", "127.0.0.1", "--port", str(port),
            "--username", USER, "--enable-legacy-api-token", "--log-level", "WARNING",
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """The secrets travel here and not as arguments, which any user of the machine can read."""
        return {
            **OFFLINE,
            **LOCAL,
            "LABEL_STUDIO_HOST": self.url,
            "LABEL_STUDIO_BASE_DATA_DIR": str(self._folder),
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.token,
        }

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        while (waited := time.monotonic() - started) < START_SECONDS:
            if process.poll() is not None:
                raise ServerUnreachable(f"Label Studio ended while starting; see {self.log}")
            try:
                with urlopen(f"{self.url}/health", timeout=2):  # noqa: S310  # our own address
                    return
            except (URLError, OSError):
                time.sleep(0.25)
            if self._progress is not None:
                self._progress(waited)
        raise ServerUnreachable(
            f"Label Studio did not start in {START_SECONDS:.0f} s; see {self.log}"
        )


def find_executable(given: Path | None = None) -> Path:
    """The label-studio program: `given`, the environment's, or that of .venv-label-studio.

    Raises ConfigError, naming the places, if there is none.
    """
    beside_ours = Path(sys.prefix).parent / ".venv-label-studio" / "bin" / "label-studio"
    named = os.environ.get(EXECUTABLE_VARIABLE)
    path = given or (Path(named) if named else beside_ours)
    if not os.access(path, os.X_OK):
        raise ConfigError(
            f"no Label Studio at {path}; run `make install`, or name it by {EXECUTABLE_VARIABLE}"
        )
    return path


def make_template(folder: Path, *, executable: Path | None = None) -> None:
    """Initialise an empty data folder once, so that later servers start in seconds."""
    with LocalLabelStudio(folder, executable=executable):
        pass


def _credentials(path: Path) -> tuple[str, str]:
    """Password and token of the admin, made at the first start, readable by the owner alone."""
    if path.exists():
        return read_json(path, lambda stored: (str(stored["password"]), str(stored["token"])))
    made = {"password": secrets.token_urlsafe(12), "token": secrets.token_hex(20)}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(made, file)
    return made["password"], made["token"]
