"""The local server's start and stop, on a small program that answers as Label Studio does."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from label_config.errors import ConfigError, ServerUnreachable
from ml_backend.local_server import EXECUTABLE_VARIABLE, LocalLabelStudio, find_executable

PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
data = pathlib.Path(os.environ["LABEL_STUDIO_BASE_DATA_DIR"])
(data / "label_studio.sqlite3").touch()
child = subprocess.Popen(["sleep", "600"])
seen = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "child": child.pid}}
(data / "seen.json").write_text(json.dumps(seen))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    path = tmp_path / "label-studio"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return path


def seen(folder: Path) -> dict[str, object]:
    return json.loads((folder / "seen.json").read_text())


def is_alive(pid: object) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_block_ends_the_server_and_its_children(tmp_path: Path, executable: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        LocalLabelStudio(tmp_path / "data", executable=executable) as server,
    ):
        with urlopen(f"{server.url}/health") as answer:
            assert answer.status == 200
        assert is_alive(seen(tmp_path / "data")["child"])
        raise KeyboardInterrupt
    assert not is_alive(seen(tmp_path / "data")["child"])
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{server.url}/health")


def test_credentials_are_random_private_kept_and_no_argument(
    tmp_path: Path, executable: Path
) -> None:
    folder = tmp_path / "data"
    with LocalLabelStudio(folder, executable=executable) as first:
        pass
    with LocalLabelStudio(folder, executable=executable) as second:
        pass
    with LocalLabelStudio(tmp_path / "other", executable=executable) as third:
        pass
    assert (first.password, first.token) == (second.password, second.token)
    assert not {first.password, first.token} & {third.password, third.token}
    assert stat.S_IMODE((folder / "credentials.json").stat().st_mode) == 0o600
    process = seen(folder)
    assert not {first.password, first.token} & set(process["arguments"])
    assert process["environment"]["LABEL_STUDIO_USER_TOKEN"] == first.token


def test_the_server_listens_on_loopback_and_phones_nobody(tmp_path: Path, executable: Path) -> None:
    with LocalLabelStudio(tmp_path / "data", executable=executable):
        process = seen(tmp_path / "data")
    arguments, environment = process["arguments"], process["environment"]
    assert arguments[arguments.index("--internal-host") + 1] == "127.0.0.1"
    assert environment["COLLECT_ANALYTICS"] == "0"
    assert environment["LATEST_VERSION_CHECK"] == "0"


def test_a_template_is_copied_into_a_new_folder_and_never_over_an_old_one(
    tmp_path: Path, executable: Path
) -> None:
    template = tmp_path / "template"
    with LocalLabelStudio(template, executable=executable) as made:
        (template / "note.txt").write_text("from the template")
    folder = tmp_path / "data"
    with LocalLabelStudio(folder, executable=executable, template=template) as server:
        assert server.token == made.token
        assert (folder / "note.txt").exists()
    (folder / "note.txt").write_text("changed")
    with LocalLabelStudio(folder, executable=executable, template=template):
        assert (folder / "note.txt").read_text() == "changed"


def test_a_server_that_ends_while_starting_names_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "label-studio"
    broken.write_text("#!/bin/sh\necho no database >&2\nexit 3\n")
    broken.chmod(0o755)
    server = LocalLabelStudio(tmp_path / "data", executable=broken)
    with pytest.raises(ServerUnreachable, match=r"ended while starting; see .*label-studio\.log"):
        server.__enter__()
    assert "no database" in server.log.read_text()


def test_waiting_is_told(tmp_path: Path, executable: Path) -> None:
    waited: list[float] = []
    with LocalLabelStudio(tmp_path / "data", executable=executable, progress=waited.append):
        pass
    assert waited == sorted(waited)
    assert waited


def test_a_missing_label_studio_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: Path
) -> None:
    with pytest.raises(ConfigError, match=f"make install.*{EXECUTABLE_VARIABLE}"):
        find_executable(tmp_path / "nowhere")
    monkeypatch.setenv(EXECUTABLE_VARIABLE, os.fspath(executable))
    assert find_executable() == executable
