"""Label Studio's client: set a project up, push tasks, pull annotations, by the official SDK.

An EMR is known by its `emr_id` in the task's data and meta, never by the task id, which Label
Studio gives again after a deletion. Set-up, push and pull may be repeated at any time.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from label_config.annotation import read_export
from label_config.errors import ConfigError, ServerError, ServerRefused, ServerUnreachable
from label_config.files import Problem
from label_config.record import Coding
from ml_backend.incremental import PullMark, annotation_count
from ml_backend.notes import PushNote
from ml_backend.project_setup import ProjectSetup, SetupConfig, our_backends
from ml_backend.refusals import Caller, explain

T = TypeVar("T")
Task = dict[str, Any]
"""A task as Label Studio answers it: id, data, meta, annotations, predictions ..."""

COUNTS = "id,total_annotations,cancelled_annotations"
PULL_FIELDS = f"{COUNTS},updated_at"
TASKS_PER_IMPORT = 200
TASKS_PER_PAGE = 100
ROWS_PER_PAGE = 500
ID_CHARACTERS_PER_QUERY = 1_000
"""Ids travel in the address, and servers take addresses of about 4,000 characters."""
IMPORT_ATTEMPTS = 3
TIMEOUT_SECONDS = 120.0
SETTLE_SECONDS = 15.0
"""How long Label Studio may still work on an import that nobody waits for any more."""


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """A project that is ready for coders."""

    id: int
    title: str
    url: str


class Pulled(NamedTuple):
    """What coders did so far."""

    codings: list[Coding]
    problems: list[Problem]
    """Annotations or items that could not be read, skips among them, by their id."""
    skipped: list[str]
    """EMRs that were skipped and not coded by anyone."""
    mark: PullMark
    """Where the next pull can go on."""
    read: frozenset[str] | None
    """The EMRs that were looked at; None: all of them."""


class LabelStudioClient:
    """One Label Studio server, as one user.

    Every method raises ServerUnreachable if nothing answers, and ServerRefused with a line that
    says what to change.
    """

    def __init__(self, url: str, token: str) -> None:
        """`token` is a personal access token or a legacy token; nothing is sent yet."""
        self.url = url.rstrip("/")
        if not token:
            raise ConfigError("Label Studio needs a token, got none (CLINICOCO_LABEL_STUDIO_TOKEN)")
        try:
            self._sdk = LabelStudio(  # type: ignore[no-untyped-call]
                base_url=self.url, api_key=token, timeout=TIMEOUT_SECONDS, max_retries=0
            )
        except ApiError as error:  # an expired personal access token
            raise explain(error, what="use the token", url=self.url) from None
        self._call = Caller(self.url)

    def set_up(
        self, title: str, *, on_project: Callable[[int], None] | None = None, **settings: Any
    ) -> ProjectInfo:
        """Create the project, or find it again and repair it; `settings` are `SetupConfig`'s.

        `on_project` gets the project's id before Label Studio asks the backend anything.
        """
        config = SetupConfig(title, **settings)
        project_id = ProjectSetup(self._sdk, self._call, config).run(on_project)
        return ProjectInfo(project_id, title, f"{self.url}/projects/{project_id}/data")

    # -- tasks --------------------------------------------------------------------------------

    def push(
        self,
        project_id: int,
        tasks: Sequence[Task],
        *,
        note: PushNote | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Import the tasks whose `emr_id` the project lacks, in their order; return how many.

        `note` is open while a request is out: call `settle` if an earlier push has left it open.
        The label stream shows predictions of one version only, the pushed one from now on: refresh
        the tasks that wait with an older one.
        """
        pushed = 0
        for done, chunk in enumerate(_chunks(tasks, TASKS_PER_IMPORT)):
            pushed += self._import(project_id, chunk, note)
            if progress is not None:
                progress(min((done + 1) * TASKS_PER_IMPORT, len(tasks)), len(tasks))
        versions = [p["model_version"] for task in tasks for p in task.get("predictions", ())]
        if pushed and versions:
            self.show_version(project_id, versions[-1])
        return pushed

    def settle(self, project_id: int, emr_ids: Sequence[str], *, sent_at: datetime) -> None:
        """Wait until an import without an answer has arrived or cannot any more; remove doubles.

        Of tasks that share an `emr_id` the one that a coder has touched stays, else the first.
        """
        while self._present(project_id, emr_ids) != set(emr_ids):
            if (datetime.now(UTC) - sent_at).total_seconds() > SETTLE_SECONDS:
                break
            time.sleep(0.5)
        same: dict[str, list[Task]] = {}
        for row in self._rows(project_id, f"meta,{COUNTS}"):
            same.setdefault(_emr_id(row), []).append(row)
        for rows in same.values():
            rows.sort(key=_is_touched, reverse=True)
            for extra in rows[1:]:
                if not _is_touched(extra):
                    self._call("remove a double task", self._sdk.tasks.delete, str(extra["id"]))

    def _import(self, project_id: int, tasks: Sequence[Task], note: PushNote | None) -> int:
        """Import a chunk exactly once: after a lost answer, settle before sending again."""
        missing: dict[str, Task] = {}
        present = self._present(project_id, [task["data"]["emr_id"] for task in tasks])
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
                present = self._present(project_id, list(missing))
                request = [task for emr_id, task in missing.items() if emr_id not in present]
        if note is not None:
            note.close()
        return len(missing)

    def _present(self, project_id: int, emr_ids: Sequence[str]) -> set[str]:
        """Those of the ids that the project holds already."""
        found: set[str] = set()
        for chunk in _chunks_of_text(emr_ids):
            condition = {
                "filter": "filter:tasks:data.emr_id",
                "operator": "regex",
                "type": "String",
                "value": f"^({'|'.join(chunk)})$",
            }
            for row in self._rows(project_id, "id,meta", condition):
                found.add(_emr_id(row))
        return found & set(emr_ids)

    def tasks(self, project_id: int) -> Iterator[Task]:
        """Every task in import order, with annotations and predictions."""
        return self._full(project_id, [row["id"] for row in self._rows(project_id, "id")])

    def waiting(self, project_id: int) -> dict[str, Task]:
        """The tasks that nobody has annotated or skipped, in import order, by `emr_id`."""
        ids = [row["id"] for row in self._rows(project_id, COUNTS) if not _is_touched(row)]
        return {_emr_id(task): task for task in self._full(project_id, ids)}

    def _rows(self, project_id: int, fields: str, *conditions: Mapping[str, Any]) -> Iterator[Task]:
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

    def _full(self, project_id: int, task_ids: Sequence[int]) -> Iterator[Task]:
        """Whole tasks; those that were deleted meanwhile are left out."""
        for chunk in _chunks(task_ids, TASKS_PER_PAGE):
            query = {
                "selectedItems": {"all": False, "included": list(chunk)},
                "ordering": ["tasks:id"],
            }
            yield from self._page(project_id, query, TASKS_PER_PAGE, fields="all")

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

    def refresh_predictions(
        self, project_id: int, predictions: Mapping[str, Mapping[str, Any]]
    ) -> int:
        """Give waiting tasks new predictions, by `emr_id`; return how many.

        All predictions must be of one `model_version`, which the label stream then shows.
        """
        versions = {str(prediction["model_version"]) for prediction in predictions.values()}
        if len(versions) > 1:
            raise ConfigError(f"predictions must be of one version, got {sorted(versions)}")
        request: list[Any] = [
            {**predictions[_emr_id(row)], "task": row["id"]}
            for row in self._rows(project_id, f"meta,{COUNTS}")
            if _emr_id(row) in predictions and not _is_touched(row)
        ]
        for chunk in _chunks(request, TASKS_PER_IMPORT):
            answer = self._call.once(
                "import predictions",
                self._sdk.projects.import_predictions,
                project_id,
                request=chunk,
            )
            if answer.created != len(chunk):
                raise ServerRefused(
                    f"Label Studio kept {answer.created} of {len(chunk)} predictions: its "
                    "interface lacks a control that they use; run set-up again"
                )
        if request:
            self.show_version(project_id, versions.pop())
        return len(request)

    def show_version(self, project_id: int, version: str) -> None:
        """Let the label stream show this version's predictions."""
        self._call(
            "choose the model version",
            self._sdk.projects.update,
            project_id,
            model_version=version,
        )

    # -- annotations --------------------------------------------------------------------------

    def annotate(self, task_id: int, annotation: Mapping[str, Any]) -> int:
        """Submit {result, lead_time, was_cancelled}, as a coder would; return its id."""
        created = self._call.once(
            "submit an annotation", self._sdk.annotations.create, task_id, **annotation
        )
        if created.id is None:
            raise ServerError("Label Studio took the annotation without an id")
        return int(created.id)

    def pull(self, project_id: int, mark: PullMark | None = None) -> Pulled:
        """Every EMR's starred or latest coding, what could not be read, and who was skipped.

        With the `mark` of an earlier pull, only of the tasks that have changed since.
        """
        if mark is not None and mark.project_id == project_id and mark.updated_at:
            changed = self._changed(project_id, mark)
            if changed is not None:
                return changed
        rows = list(self._rows(project_id, PULL_FIELDS))
        report = read_export(self._full(project_id, [r["id"] for r in rows if _is_touched(r)]))
        mark = PullMark(project_id, "").after(rows)
        return Pulled(report.records, report.problems, report.skipped, mark, None)

    def _changed(self, project_id: int, mark: PullMark) -> Pulled | None:
        """What changed since; None if annotations went without a trace."""
        behind = {
            "filter": "filter:tasks:updated_at",
            "operator": "greater_or_equal",
            "type": "Datetime",
            "value": mark.since,
        }
        rows = list(self._rows(project_id, f"{PULL_FIELDS},meta", behind))
        new = mark.after(rows)
        project = self._call("read the project", self._sdk.projects.get, project_id)
        coded, skipped = project.total_annotations_number, project.skipped_annotations_number
        if new.total != (coded or 0) + (skipped or 0):
            return None
        unread = mark.unread(rows)
        report = read_export(self._full(project_id, [r["id"] for r in unread if _is_touched(r)]))
        read = frozenset(map(_emr_id, unread))
        return Pulled(report.records, report.problems, report.skipped, new, read)

    def show_tab(self, project_id: int, title: str, task_ids: Sequence[int]) -> None:
        """A Data Manager tab with just these tasks; without tasks it goes away."""
        views = self._call("list the views", self._sdk.views.list, project=project_id)
        mine = [str(view.id) for view in views if (view.data or {}).get("title") == title]
        for extra in mine[1:] if task_ids else mine:
            self._call("remove a view", self._sdk.views.delete, extra)
        if not task_ids:
            return
        items = [
            {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": task_id}
            for task_id in task_ids
        ]
        data: Any = {
            "title": title,
            "type": "list",
            "target": "tasks",
            "filters": {"conjunction": "or", "items": items},
        }
        if mine:
            self._call(
                "change a view", self._sdk.views.update, mine[0], project=project_id, data=data
            )
        else:
            self._call.once("create a view", self._sdk.views.create, project=project_id, data=data)

    # -- training -----------------------------------------------------------------------------

    def start_training(self, project_id: int) -> None:
        """Press "Start training": the backend gets START_TRAINING."""
        self._call("start a training", self._sdk.ml.train, self._backend(project_id).id)

    def served_version(self, project_id: int) -> str | None:
        """The version that the backend says it serves; Label Studio asks it now."""
        version = self._backend(project_id).model_version
        return None if version is None else str(version)

    def _backend(self, project_id: int) -> Any:
        backends = our_backends(self._sdk, self._call, project_id)
        if not backends:
            raise ServerRefused(f"project {project_id} has no ML backend; run set-up")
        return backends[0]


def _emr_id(task: Mapping[str, Any]) -> str:
    """The task's `emr_id`; tasks that came another way are told apart by their id."""
    for holder in (task.get("meta"), task.get("data")):
        if isinstance(holder, dict) and isinstance(holder.get("emr_id"), str):
            return str(holder["emr_id"])
    return f"task {task.get('id')}"


def _is_touched(row: Mapping[str, Any]) -> bool:
    return annotation_count(row) > 0


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _chunks_of_text(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts as patterns, grouped so that each group fits into an address."""
    group: list[str] = []
    for pattern in map(re.escape, texts):
        if group and sum(map(len, group)) + len(pattern) > ID_CHARACTERS_PER_QUERY:
            yield group
            group = []
        group.append(pattern)
    if group:
        yield group
