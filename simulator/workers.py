"""Worker processes that answer a number with Arrow tables; answers come in the order asked.

A worker is `python -m MODULE`: it reads its settings as one line of JSON and then one number a
line, and answers each with Arrow streams. It imports no more than MODULE needs, whatever program
asks, and nothing that it sends can run as code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Any

import pyarrow as pa

from label_config.errors import ClinicocoError, ConfigError
from simulator.tables import Tables

WAITING_PER_WORKER = 2
"""Answers under way or waiting for their turn: what bounds memory."""


def in_order(
    module: str,
    settings: dict[str, Any],
    questions: Iterable[int],
    names: Sequence[str],
    processes: int,
) -> Iterator[Tables]:
    """The answers of `processes` workers, in the order of the questions.

    `names` are those of the tables, in the order in which a worker sends them. Raises ConfigError
    when a worker refuses the settings.
    """
    workers = [_Worker(module, settings) for _ in range(processes)]
    threads = ThreadPoolExecutor(processes)
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def ask(question: int) -> Tables:
        worker = idle.get()
        try:
            return worker.ask(question, names)
        finally:
            idle.put(worker)

    try:
        waiting: deque[Future[Tables]] = deque()
        for question in questions:
            waiting.append(threads.submit(ask, question))
            if len(waiting) >= WAITING_PER_WORKER * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException:
        for worker in workers:
            worker.kill()
        raise
    finally:
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()


def answer(start: Callable[[dict[str, Any]], Callable[[int], Tables]]) -> None:
    """Be a worker: `start` takes the settings and returns what answers a number."""
    output = sys.stdout.buffer
    try:
        make = start(json.loads(sys.stdin.readline()))
        _say(output, {})
        for line in sys.stdin:
            for table in make(int(line)).values():
                with pa.ipc.new_stream(output, table.schema) as stream:
                    stream.write_table(table)
            output.flush()
    except ClinicocoError as error:
        _say(output, {"refused": str(error)})
    except KeyboardInterrupt:
        pass  # whoever asked has been interrupted too


class _Worker:
    """The asking side of one worker."""

    def __init__(self, module: str, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._settings: dict[str, Any] | None = settings

    def ask(self, question: int, names: Sequence[str]) -> Tables:
        """The tables for one number; the settings go before the first."""
        to, back = self._process.stdin, self._process.stdout
        assert to is not None and back is not None  # noqa: S101
        try:
            if self._settings is not None:
                _say(to, self._settings)
                refused = json.loads(back.readline() or "{}").get("refused")
                if refused:
                    raise ConfigError(refused)
                self._settings = None
            _say(to, question)
            return {name: pa.ipc.open_stream(back).read_all() for name in names}
        except (OSError, pa.ArrowException):
            raise RuntimeError("a worker process ended early") from None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Let it end: it hears that nothing more is asked."""
        with suppress(OSError):  # it has ended already, unheard
            self._process.communicate()


def _say(pipe: IO[bytes], message: Any) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()
