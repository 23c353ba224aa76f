"""Load on a server: closed loops of callers in a process of their own, each call timed."""

from __future__ import annotations

import base64
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import numpy as np

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server and what opens it."""

    url: str
    user: str = ""
    password: str = ""

    def call(self, route: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own, as Label Studio makes it."""
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
        try:
            connection.request("GET" if body is None else "POST", route, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@dataclass(slots=True)
class Timed:
    """Calls of one kind."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0

    def call(self, target: Target, route: str, body: bytes | None = None) -> bytes:
        """Make a call and keep its time; anything but 200 and 201 is an error."""
        started = time.perf_counter()
        try:
            status, answer = target.call(route, body)
        except (OSError, HTTPException):
            status, answer = 0, b""
        self.seconds.append(time.perf_counter() - started)
        self.errors += status not in (200, 201)
        return answer

    def milliseconds(self, percent: float) -> float:
        """A percentile; nan without calls."""
        if not self.seconds:
            return float("nan")
        return round(1000 * float(np.percentile(self.seconds, percent)), 1)


@contextmanager
def predicting(target: Target, bodies: Sequence[bytes], *, callers: int) -> Iterator[Timed]:
    """Keep `callers` calls of /predict under way while the block runs.

    The load has a process of its own, so that it does not slow the caller's clock. The yielded
    object is filled when the block ends.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_load, args=(theirs, target, list(bodies), callers))
    process.start()
    theirs.close()  # or its end would not be noticed
    try:
        ours.recv()  # it runs
        found = Timed()
        yield found
        ours.send("stop")
        found.seconds, found.errors = ours.recv()
        process.join()
    finally:
        if process.is_alive():
            process.kill()
            process.join()


def _load(pipe: Connection, target: Target, bodies: list[bytes], callers: int) -> None:
    timed = [Timed() for _ in range(callers)]
    stop = threading.Event()

    def keep_calling(number: int) -> None:
        turn = number
        while not stop.is_set():
            answer = timed[number].call(target, "/predict", bodies[turn % len(bodies)])
            timed[number].errors += not _is_full(answer)
            turn += callers

    with ThreadPoolExecutor(callers) as pool:
        for number in range(callers):
            pool.submit(keep_calling, number)
        pipe.send("running")
        pipe.recv()
        stop.set()
    seconds = [s for t in timed for s in t.seconds]
    pipe.send((seconds, sum(t.errors for t in timed)))


def _is_full(answer: bytes) -> bool:
    """Whether the answer of /predict holds one prediction with items; a failed call counts once."""
    if not answer:
        return True
    try:
        results = json.loads(answer).get("results", [{"result": [None]}])
        return bool(results and results[0]["result"])
    except (ValueError, AttributeError, TypeError, KeyError):
        return False
