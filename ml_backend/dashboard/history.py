"""When how many EMRs were annotated: a line per pull that changed the count, and the pace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from label_config.record import Coding
from ml_backend.workspace import Workspace

FILE = "history.jsonl"
WINDOW = timedelta(days=14)
"""The pace is that of the last two weeks: coders come, go and get quicker."""


class Point(NamedTuple):
    """So many EMRs were annotated at a time (UTC)."""

    at: datetime
    annotated: int


def note(workspace: Workspace, codings: Iterable[Coding], *, at: datetime | None = None) -> bool:
    """Write down how many EMRs are annotated; False if that is what the last line says.

    EMRs that their coder called unsure or bad do not count.
    """
    known, annotated = _lines(workspace), sum(c.quality == "clean" for c in codings)
    if known and known[-1].annotated == annotated:
        return False
    moment = (at or datetime.now(UTC)).isoformat(timespec="seconds")
    with (workspace.folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"at": moment, "annotated": annotated}) + "\n")
    return True


def read_history(workspace: Workspace) -> list[Point]:
    """Every point, oldest first; the first batch begins it with 0 annotated EMRs."""
    points = _lines(workspace)
    batches = workspace.batches()
    if batches and batches[0].made:
        start = datetime.fromisoformat(batches[0].made)
        if not points or start < points[0].at:
            points.insert(0, Point(start, 0))
    return points


def pace(points: Sequence[Point], now: datetime) -> float | None:
    """EMRs per calendar day over the window, a day at least; None before anything was annotated."""
    if not points:
        return None
    before = [point for point in points if point.at <= now - WINDOW]
    first = before[-1] if before else points[0]
    start = max(first.at, now - WINDOW)
    days = max((now - start) / timedelta(days=1), 1.0)
    done = points[-1].annotated - first.annotated
    return done / days if done > 0 else None


def _lines(workspace: Workspace) -> list[Point]:
    path = workspace.folder / FILE
    points = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
            point = Point(datetime.fromisoformat(values["at"]), int(values["annotated"]))
        except (ValueError, KeyError, TypeError):
            continue  # cut short by a crash: the next pull writes the count again
        points.append(point)
    return points
