"""Memory of the server's workers, as the kernel counts it (Linux; empty elsewhere)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process."""

    pid: int
    resident: int
    """All of its pages in memory, those shared with other workers included."""
    proportional: int
    """Shared pages divided by the processes that share them: these add up to the total."""


def memory_of(pid: int) -> Memory | None:
    """None for a process that is gone, or on a system without /proc."""
    try:
        text = (PROCESSES / str(pid) / "smaps_rollup").read_text("ascii")
    except OSError:
        return None
    found = {name: 1024 * int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    return Memory(pid, found.get("Rss", 0), found.get("Pss", 0))


def children_of(pid: int) -> list[int]:
    """The processes that `pid` has started."""
    try:
        return [int(n) for n in (PROCESSES / f"{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class WorkerMemory(Collector):
    """Reports every worker's memory at each scrape, whichever worker answers it."""

    def __init__(self, master: int) -> None:
        self._master = master

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One gauge with a sample per worker and way of counting."""
        gauge = GaugeMetricFamily(
            "clinicoco_worker_memory_bytes", "Memory of a worker", labels=["pid", "counted"]
        )
        for pid in children_of(self._master):
            memory = memory_of(pid)
            if memory is not None:
                gauge.add_metric([str(pid), "resident"], memory.resident)
                gauge.add_metric([str(pid), "proportional"], memory.proportional)
        yield gauge
