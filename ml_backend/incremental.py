"""How far the last pull read, so that the next one reads only what changed since.

Label Studio touches a task's `updated_at` when one of its annotations is made, changed or deleted.
Tasks deleted whole, and annotations deleted in bulk, leave no such trace: then the project's own
count of annotations differs from ours, and everything is read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Row = Mapping[str, Any]
"""A task's id, counts and `updated_at`."""
OVERLAP = timedelta(minutes=2)
"""Looked at again: server processes need not agree on the second, nor commit in order."""


@dataclass(frozen=True)
class PullMark:
    """The state of a project as last read."""

    project_id: int
    updated_at: str
    """Latest change of any task, ISO time; empty before the first."""
    tasks: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Task id -> its annotations, skips included, and its `updated_at`; only tasks with any."""

    @property
    def total(self) -> int:
        """Annotations in all, skips included."""
        return sum(int(count) for count, _ in self.tasks.values())

    @property
    def since(self) -> str:
        """From when on tasks are to be read, as Label Studio's filters spell it; empty for all."""
        if not self.updated_at:
            return ""
        start = datetime.fromisoformat(self.updated_at).astimezone(UTC) - OVERLAP
        return start.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def unread(self, rows: Iterable[Row]) -> list[Row]:
        """Those of the rows that differ from what was read."""
        return [row for row in rows if list(self.tasks.get(str(row["id"]), (0, ""))) != _seen(row)]

    def after(self, rows: Iterable[Row]) -> PullMark:
        """The mark once these rows, with their counts and `updated_at`, have been read."""
        latest, tasks = self.updated_at, dict(self.tasks)
        for row in rows:
            latest = max(latest, str(row.get("updated_at") or ""), key=_moment)
            tasks.pop(str(row["id"]), None)
            if annotation_count(row):
                tasks[str(row["id"])] = _seen(row)
        return PullMark(self.project_id, latest, tasks)


def annotation_count(row: Row) -> int:
    """How many annotations a task has, skips included."""
    return int(row.get("total_annotations") or 0) + int(row.get("cancelled_annotations") or 0)


def _seen(row: Row) -> list[Any]:
    count = annotation_count(row)
    return [count, str(row.get("updated_at") or "") if count else ""]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
