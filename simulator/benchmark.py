"""Benchmark: how fast two processes write EMRs as Parquet, and whether memory stays flat.

Each size is written by a process of its own; it and its workers are weighed together while they
work: resident memory, summed over processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import perf_counter, sleep
from typing import Any

import psutil

from label_config.errors import ConfigError
from label_config.measured import Measured, Progress, goal
from simulator.dataset import CHUNK, DatasetConfig, write_dataset

QUICK = (2_000, 10_000)
FULL = (10_000, 100_000, 1_000_000)
SECONDS_BETWEEN_WEIGHINGS = 0.1
MEBIBYTE = 2**20
SHOWN = (
    "emrs",
    "processes",
    "seconds",
    "emrs_per_second",
    "steady_per_second",
    "cpu_milliseconds",
    "peak_mebibytes",
)


def run(
    quick: bool,
    progress: Progress | None = None,
    *,
    sizes: Sequence[int] | None = None,
    processes: int = 2,
) -> Measured:
    """Write datasets of growing size: EMRs, gold codes with their evidence, splits and errors.

    EMRs per second are told twice: over everything, and from the first chunk on, when processes
    and knowledge pack are loaded. `cpu_milliseconds` per EMR, over all processes, is the figure
    that other work on the machine disturbs least.
    """
    sizes = sizes or (QUICK if quick else FULL)
    if min(sizes) <= CHUNK:
        raise ConfigError(f"sizes must be above {CHUNK}, got {min(sizes)}")
    rows: list[dict[str, Any]] = []
    for place, emrs in enumerate(sizes):
        row: dict[str, Any] = {}
        for row in measure(emrs, processes):
            if progress is not None:
                progress(sum(sizes[:place]) + row["emrs"], sum(sizes))
        rows.append(row)
    first, last = rows[0], rows[-1]
    goals = [
        goal("emrs_per_second", ">= 1000", last["emrs_per_second"]),
        goal("memory_growth", "<= 1.1", last["peak_mebibytes"] / first["peak_mebibytes"]),
    ]
    return Measured(rows, goals, seeds=(0,), data_hash=last["data_hash"], shown=SHOWN)


def measure(emrs: int, processes: int) -> Iterator[dict[str, Any]]:
    """Write `emrs` EMRs; yield {emrs: written so far} as they come, the figures at last.

    Raises RuntimeError when the writing process dies.
    """
    started, first, message = perf_counter(), 0.0, {"emrs": 0}
    with (
        TemporaryDirectory(prefix="clinicoco-") as folder,
        _writer(folder, emrs, processes) as told,
    ):
        scale = Scale(told.pid)
        scale.start()
        for line in told.stdout or ():
            message = json.loads(line)
            first = first or perf_counter() - started
            yield {"emrs": message["emrs"]}
        seconds = perf_counter() - started
    if "data_hash" not in message:
        raise RuntimeError("the writing process ended early")
    scale.join()
    yield {
        "emrs": emrs,
        "processes": processes,
        "seconds": round(seconds, 2),
        "seconds_to_first": round(first, 2),
        "emrs_per_second": round(emrs / seconds, 1),
        "steady_per_second": round((emrs - CHUNK) / (seconds - first), 1),
        "cpu_milliseconds": round(1000 * message["cpu_seconds"] / emrs, 3),
        "peak_mebibytes": round(scale.peak / MEBIBYTE, 1),
        "data_hash": message["data_hash"],
    }


def _writer(folder: str, emrs: int, processes: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "simulator.benchmark", folder, str(emrs), str(processes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603


class Scale(Thread):
    """Weighs a process and all that it starts until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        """Bytes."""
        self._writer = psutil.Process(pid)

    def run(self) -> None:
        """Weigh, wait, and again."""
        while True:
            try:
                processes = (self._writer, *self._writer.children(recursive=True))
                resident = sum(process.memory_info().rss for process in processes)
            except psutil.NoSuchProcess:
                if not self._writer.is_running():
                    return
                continue  # one of its workers ended in between
            self.peak = max(self.peak, resident)
            if self._writer.status() == psutil.STATUS_ZOMBIE:
                return
            sleep(SECONDS_BETWEEN_WEIGHINGS)


def main(folder: Path, emrs: int, processes: int) -> None:
    """Write one dataset; tell every chunk as a line, then the processor time and the hash."""

    def say(**message: Any) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    report = write_dataset(
        folder,
        DatasetConfig(emrs=emrs),
        processes=processes,
        progress=lambda done, _: say(emrs=done),
    )
    used = os.times()
    say(
        emrs=emrs,
        cpu_seconds=used.user + used.system + used.children_user + used.children_system,
        data_hash=report.hashes["emrs.parquet"][:16],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]))
