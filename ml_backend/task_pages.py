"""Reads the tasks of a Label Studio project by pages, few fields or whole.

An EMR is known by its `emr_id` in the task's data and meta, never by the task id, which Label
Studio gives again after a deletion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from label_studio_sdk import LabelStudio

from ml_backend.incremental import annotation_count
from ml_backend.refusals import Caller

T = TypeVar("T")
Task = dict[str, Any]
"""A task as Label Studio answers it: id, data, meta, annotations, predictions ..."""

COUNTS = "id,total_annotations,cancelled_annotations"
TASKS_PER_PAGE = 100
ROWS_PER_PAGE = 500
ID_CHARACTERS_PER_QUERY = 1_000
"""Ids travel in the address, and servers take addresses of about 4,000 characters."""


class TaskPages:
    """Any project of one Label Studio server."""

    def __init__(self, sdk: LabelStudio, call: Caller) -> None:
        self._sdk, self._call = sdk, call

    def rows(self, project_id: int, fields: str, *conditions: Mapping[str, Any]) -> Iterator[Task]:
        """The named fields of every task, by rising id; ten times faster than whole tasks.

        Each page starts behind the last id: page numbers would skip tasks while coders work.
        """
        last = 0
        while True:
            behind = {
                "filter": "filter:tasks:id",
                "operator": "greater",
                "type": "Number",
                "value": last,
            }
            filters = {"conjunction": "and", "items": [behind, *conditions]}
            query = {"filters": filters, "ordering": ["tasks:id"]}
            rows = self._page(project_id, query, ROWS_PER_PAGE, fields="task_only", include=fields)
            yield from rows
            if len(rows) < ROWS_PER_PAGE:
                return
            last = rows[-1]["id"]

    def full(self, project_id: int, task_ids: Sequence[int]) -> Iterator[Task]:
        """Whole tasks; those that were deleted meanwhile are left out."""
        for chunk in chunks(task_ids, TASKS_PER_PAGE):
            query = {
                "selectedItems": {"all": False, "included": list(chunk)},
                "ordering": ["tasks:id"],
            }
            yield from self._page(project_id, query, TASKS_PER_PAGE, fields="all")

    def present(self, project_id: int, emr_ids: Sequence[str]) -> set[str]:
        """Those of the ids that the project holds already."""
        found: set[str] = set()
        for chunk in chunks_of_text(emr_ids):
            condition = {
                "filter": "filter:tasks:data.emr_id",
                "operator": "regex",
                "type": "String",
                "value": f"^({'|'.join(chunk)})$",
            }
            for row in self.rows(project_id, "id,meta", condition):
                found.add(emr_id_of(row))
        return found & set(emr_ids)

    def _page(
        self, project_id: int, query: Mapping[str, Any], size: int, **options: Any
    ) -> list[Task]:
        answer: Any = self._call(
            "read the tasks",
            self._sdk.tasks.list,
            project=project_id,
            query=json.dumps(query),
            page_size=size,
            resolve_uri=False,
            **options,
        )
        return [task.model_dump(mode="json") for task in answer.items or []]


def emr_id_of(task: Mapping[str, Any]) -> str:
    """The task's `emr_id`; tasks that came another way are told apart by their id."""
    for holder in (task.get("meta"), task.get("data")):
        if isinstance(holder, dict) and isinstance(holder.get("emr_id"), str):
            return str(holder["emr_id"])
    return f"task {task.get('id')}"


def is_touched(row: Mapping[str, Any]) -> bool:
    """Whether a coder has annotated or skipped it."""
    return annotation_count(row) > 0


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in their order, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def chunks_of_text(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts as patterns, grouped so that each group fits into an address."""
    group: list[str] = []
    for pattern in map(re.escape, texts):
        if group and sum(map(len, group)) + len(pattern) > ID_CHARACTERS_PER_QUERY:
            yield group
            group = []
        group.append(pattern)
    if group:
        yield group
