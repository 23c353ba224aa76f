"""The server by its own command: workers, what is no HTTP, its log and its memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from label_config.errors import ConfigError
from ml_backend.load import Target
from ml_backend.memory import children_of, memory_of
from ml_backend.processes import free_port, running
from ml_backend.settings import Settings
from ml_backend.workers import serve
from ml_backend.workspace import Workspace

MARKER = "patient-Jane-Roe"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "server.log"


@pytest.fixture(scope="module")
def server(workspace: Workspace, log: Path) -> Iterator[tuple[Target, int]]:
    """Its address, and the process that started the workers."""
    port = free_port(0)
    target = Target(f"http://127.0.0.1:{port}", "label-studio", "secret")
    environment = {
        "CLINICOCO_BACKEND_PORT": str(port),
        "CLINICOCO_BACKEND_PASSWORD": "secret",
        "CLINICOCO_QUEUE_FILE": str(log.parent / "jobs.db"),
    }
    command = [sys.executable, "-m", "ml_backend.cli", "serve", str(workspace.folder)]
    ready = f"{target.url}/health"
    with running(command, log=log, ready=ready, environment=environment) as process:
        yield target, process.pid


def send(target: Target, data: bytes) -> bytes:
    host, _, port = target.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(4096):
            answer += part
        return answer


@pytest.mark.parametrize(
    "data",
    [
        f"{MARKER} / HTTP/1.1\r\n\r\n", f"GET /{MARKER}\x00 HTTP/9.9\r\n\r\n",
        f"GET / HTTP/1.1\r\n{MARKER} : x\r\n\r\n", f"GET /{'a' * 9000} HTTP/1.1\r\n\r\n",
        f"POST /predict HTTP/1.1\r\nTransfer-Encoding: {MARKER}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {MARKER}\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_without_being_quoted(
    server: tuple[Target, int], log: Path, data: str
):
    answer = send(server[0], data.encode())
    assert answer.startswith(b"HTTP/1.1 400")
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["status"] == 400
    for text in (answer.decode(), log.read_text("utf-8")):
        assert MARKER not in text
        assert "Traceback" not in text


def test_a_task_is_answered_and_every_log_line_is_one_object(
    server: tuple[Target, int], log: Path, task: dict
):
    body = json.dumps({"project": 1, "tasks": [task]}).encode()
    status, answer = server[0].call("/predict", body)
    assert status == 200
    assert json.loads(answer)["results"][0]["result"]
    said = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert any({"route", "status", "ms"} <= set(line) for line in said)
    assert "essential hypertension" not in log.read_text("utf-8")


def until(true: Callable[[], bool]) -> None:
    """Wait, on a busy machine a while."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_metrics_are_those_of_all_workers_with_their_memory(server: tuple[Target, int]):
    target, master = server
    until(lambda: len(children_of(master)) == Settings().backend_workers)
    for _ in range(8):
        target.call("/health")
    text = target.call("/metrics")[1].decode()
    for pid in children_of(master):
        memory = memory_of(pid)
        assert memory is not None
        assert memory.proportional < memory.resident
        assert f'clinicoco_worker_memory_bytes{{counted="resident",pid="{pid}"}}' in text
    assert 'clinicoco_requests_total{route="health",status="200"}' in text


def test_a_killed_worker_is_replaced(server: tuple[Target, int]):
    target, master = server
    victim = children_of(master)[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in children_of(master) and len(children_of(master)) == 2)
    assert target.call("/health")[0] == 200


def test_an_open_door_to_a_network_is_refused(workspace: Workspace):
    chosen = Settings(backend_host="0.0.0.0", backend_password=SecretStr(""))
    with pytest.raises(ConfigError, match="needs CLINICOCO_BACKEND_PASSWORD"):
        serve([workspace.folder], chosen)
