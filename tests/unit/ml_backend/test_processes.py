import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from label_config.errors import ServerUnreachable
from ml_backend.processes import free_port, running

SERVER = (
    "import http.server, sys; "
    "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), "
    "http.server.SimpleHTTPRequestHandler).serve_forever()"
)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_server_is_ready_inside_the_block_and_gone_after_it(tmp_path: Path):
    port = free_port(0)
    command = [sys.executable, "-c", SERVER, str(port)]
    with running(command, log=tmp_path / "log", ready=f"http://127.0.0.1:{port}") as process:
        assert is_alive(process.pid)
    assert not is_alive(process.pid)


def test_children_of_the_process_are_stopped_with_it(tmp_path: Path):
    script = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    with running([sys.executable, "-c", script], log=log):
        while not log.read_text().endswith("\n"):
            pass
    deadline = time.monotonic() + 5
    while is_alive(int(log.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(int(log.read_text()))


def test_a_process_that_ignores_the_request_to_stop_is_killed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("ml_backend.processes.STOP_SECONDS", 0.2)
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    with running([sys.executable, "-c", script], log=log) as process:
        while "deaf" not in log.read_text():
            pass
    assert process.returncode == -signal.SIGKILL


def test_a_process_that_ends_early_is_an_error_that_names_its_log(tmp_path: Path):
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with (
        pytest.raises(ServerUnreachable, match=r"its process ended, see .*log"),
        running(command, log=tmp_path / "log", ready="http://127.0.0.1:9/"),
    ):
        pass


def test_a_taken_port_is_replaced_by_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
