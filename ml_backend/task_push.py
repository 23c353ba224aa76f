"""Imports tasks into Label Studio exactly once, whatever answers are lost on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from label_studio_sdk import LabelStudio

from label_config.errors import ServerUnreachable
from ml_backend.notes import PushNote
from ml_backend.refusals import Caller
from ml_backend.task_pages import COUNTS, Task, TaskPages, chunks, emr_id_of, is_touched

TASKS_PER_IMPORT = 200
IMPORT_ATTEMPTS = 3
SETTLE_SECONDS = 15.0
"""How long Label Studio may still work on an import that nobody waits for any more."""


class TaskPush:
    """Any project of one Label Studio server."""

    def __init__(self, sdk: LabelStudio, call: Caller, pages: TaskPages) -> None:
        self._sdk, self._call, self._pages = sdk, call, pages

    def send(
        self,
        project_id: int,
        tasks: Sequence[Task],
        *,
        note: PushNote | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Import the tasks whose `emr_id` the project lacks, in their order; return how many."""
        pushed = 0
        for done, chunk in enumerate(chunks(tasks, TASKS_PER_IMPORT)):
            pushed += self._import(project_id, chunk, note)
            if progress is not None:
                progress(min((done + 1) * TASKS_PER_IMPORT, len(tasks)), len(tasks))
        return pushed

    def settle(self, project_id: int, emr_ids: Sequence[str], *, sent_at: datetime) -> None:
        """Wait until an import without an answer has arrived or cannot any more; remove doubles.

        Of tasks that share an `emr_id` the one that a coder has touched stays, else the first.
        """
        while self._pages.present(project_id, emr_ids) != set(emr_ids):
            if (datetime.now(UTC) - sent_at).total_seconds() > SETTLE_SECONDS:
                break
            time.sleep(0.5)
        same: dict[str, list[Task]] = {}
        for row in self._pages.rows(project_id, f"meta,{COUNTS}"):
            same.setdefault(emr_id_of(row), []).append(row)
        for rows in same.values():
            rows.sort(key=is_touched, reverse=True)
            for extra in rows[1:]:
                if not is_touched(extra):
                    self._call("remove a double task", self._sdk.tasks.delete, str(extra["id"]))

    def _import(self, project_id: int, tasks: Sequence[Task], note: PushNote | None) -> int:
        """Import a chunk exactly once: after a lost answer, settle before sending again."""
        missing: dict[str, Task] = {}
        present = self._pages.present(project_id, [task["data"]["emr_id"] for task in tasks])
        for task in tasks:
            if task["data"]["emr_id"] not in present:
                missing.setdefault(task["data"]["emr_id"], task)
        request: list[Any] = list(missing.values())
        for attempts_left in reversed(range(IMPORT_ATTEMPTS)):
            if not request:
                break
            sent_at = datetime.now(UTC)
            if note is not None:
                note.open(list(missing))
            try:
                self._call.once(
                    "import tasks", self._sdk.projects.import_tasks, project_id, request=request
                )
                break
            except ServerUnreachable:
                if not attempts_left:
                    raise
                self.settle(project_id, list(missing), sent_at=sent_at)
                present = self._pages.present(project_id, list(missing))
                request = [task for emr_id, task in missing.items() if emr_id not in present]
        if note is not None:
            note.close()
        return len(missing)
