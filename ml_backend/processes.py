"""Child processes that never outlive their parent's block: started, awaited, stopped as a group."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from label_config.errors import ServerUnreachable

READY_SECONDS = 180.0
STOP_SECONDS = 10.0


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own until the block ends, its output in `log`.

    With `ready`, wait until that address answers. Raises ServerUnreachable, naming the log, if the
    process ends or does not answer in time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  # our own commands
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        if ready is not None:
            _await_answer(process, ready, log)
        yield process
    finally:
        stop_group(process)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the process and its children to stop; kill what has not after STOP_SECONDS."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port(wanted: int) -> int:
    """`wanted` if nothing listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerUnreachable("this machine has no free port")


def _await_answer(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerUnreachable(f"{address} never answered: its process ended, see {log}")
        try:
            with urlopen(address, timeout=2):  # noqa: S310  # loopback, our own address
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise ServerUnreachable(f"{address} did not answer within {READY_SECONDS:.0f} s, see {log}")
