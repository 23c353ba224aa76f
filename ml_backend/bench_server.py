"""Benchmark: the real server under 32 coders at once, its memory, and what others still get."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_config.files import data_hash
from label_config.measured import Measured, Progress, goal
from ml_backend.load import Target, Timed, predicting
from ml_backend.memory import children_of, memory_of
from ml_backend.processes import free_port, running
from ml_backend.stand_in import StandIn, end_on_sigterm, make_stand_in, predict_bodies

CALLERS = 32
MEBIBYTE = 2**20
TRAIN = json.dumps({"action": "START_TRAINING", "project": {"id": 1}}).encode()
SETUP = json.dumps({"project": "1.1", "schema": "<View/>", "extra_params": {}}).encode()
PROBES: dict[str, tuple[bytes | None, float]] = {
    "/health": (None, 0.1),
    "/setup": (SETUP, 0.25),
    "/webhook": (TRAIN, 1.0),
}
"""Route -> body and seconds between two calls."""


@dataclass(frozen=True)
class Length:
    """How long and on what."""

    seconds: float
    warm_up: float
    ward: StandIn


QUICK = Length(20.0, 5.0, StandIn(emrs=80, codes=12))
FULL = Length(300.0, 30.0, StandIn(emrs=200, codes=30, clean=80))


def run(quick: bool, progress: Progress | None = None, *, length: Length | None = None) -> Measured:
    """Start `clinicoco serve` on a trained workspace and load it.

    Times depend on the machine, which the load itself shares; `per_idle` is the p95 in calls to
    the same route of the idle server, in the same run.
    """
    chosen = length or (QUICK if quick else FULL)
    tell = progress or (lambda done, total: None)
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="clinicoco-bench-") as folder:
        tell(0, 4)
        workspace = make_stand_in(Path(folder), chosen.ward)
        bodies, hashed = predict_bodies(workspace, 64), data_hash(workspace.read_pool())
        tell(1, 4)
        port, password = free_port(9190), secrets.token_urlsafe(16)
        target = Target(f"http://127.0.0.1:{port}", "label-studio", password)
        environment = {
            "CLINICOCO_BACKEND_PORT": str(port),
            "CLINICOCO_BACKEND_PASSWORD": password,
            "CLINICOCO_QUEUE_FILE": str(Path(folder) / "jobs.db"),
        }
        command = [sys.executable, "-m", "ml_backend.cli", "serve", str(workspace.folder)]
        with running(
            command,
            log=Path(folder) / "server.log",
            ready=f"{target.url}/health",
            environment=environment,
        ) as server:
            measured = _measure(target, server.pid, bodies, chosen, tell)
    return Measured(*measured, seeds=(chosen.ward.seed,), data_hash=hashed)


def _measure(
    target: Target, master: int, bodies: list[bytes], length: Length, tell: Progress
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    idle = _probe(target, bodies, calls=20)
    tell(2, 4)
    with predicting(target, bodies, callers=CALLERS) as predictions:
        _ask_others(target, length.warm_up)
        before = _memory(master)
        loaded = _ask_others(target, length.seconds - length.warm_up)
        after = _memory(master)
        tell(3, 4)
    tell(4, 4)
    loaded["/predict"] = predictions
    rows = [_row(route, loaded[route], idle[route]) for route in idle]
    growth = sum(after.values()) / max(1, sum(before.values()))
    for number, pid in enumerate(sorted(before), start=0):
        name = "master" if pid == master else f"worker {number}"
        start, end = before[pid] / MEBIBYTE, after.get(pid, 0) / MEBIBYTE
        row = {"what": f"memory of {name}", "start_mib": round(start, 1), "end_mib": round(end, 1)}
        rows.append(row)
    goals = [
        goal("errors", "<= 0", sum(timed.errors for timed in loaded.values())),
        goal("health_p95_ms", "<= 20", loaded["/health"].milliseconds(95)),
        goal("setup_p95_ms", "<= 200", loaded["/setup"].milliseconds(95)),
        goal("start_training_p95_ms", "<= 50", loaded["/webhook"].milliseconds(95)),
        goal("memory_growth", "<= 1.05", growth),
    ]
    return rows, goals


def _probe(target: Target, bodies: list[bytes], *, calls: int) -> dict[str, Timed]:
    """Calls to the idle server, one after the other; the first of each only wakes it."""
    found: dict[str, Timed] = {}
    asked: dict[str, list[bytes | None]] = {
        "/predict": [*bodies],
        **{route: [body] for route, (body, _) in PROBES.items()},
    }
    for route, sent in asked.items():
        Timed().call(target, route, sent[0])
        found[route] = Timed()
        for number in range(calls):
            found[route].call(target, route, sent[number % len(sent)])
    return found


def _ask_others(target: Target, seconds: float) -> dict[str, Timed]:
    """What health checks, set-ups and Start training get meanwhile."""
    found = {route: Timed() for route in PROBES}
    due = dict.fromkeys(PROBES, time.monotonic())
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        route = min(due, key=lambda r: due[r])
        if due[route] > now:
            time.sleep(min(due[route], end) - now)
            continue
        body, every = PROBES[route]
        found[route].call(target, route, body)
        due[route] = max(due[route] + every, time.monotonic())
    return found


def _memory(master: int) -> dict[int, int]:
    """Bytes per process, shared pages divided: the sum is what the server takes."""
    found = [memory_of(pid) for pid in (master, *children_of(master))]
    return {memory.pid: memory.proportional for memory in found if memory is not None}


def _row(route: str, loaded: Timed, idle: Timed) -> dict[str, Any]:
    return {
        "what": "START_TRAINING" if route == "/webhook" else route,
        "calls": len(loaded.seconds),
        "errors": loaded.errors,
        "p50_ms": loaded.milliseconds(50),
        "p95_ms": loaded.milliseconds(95),
        "idle_p50_ms": idle.milliseconds(50),
        "per_idle": round(loaded.milliseconds(95) / max(idle.milliseconds(50), 0.1), 1),
    }
