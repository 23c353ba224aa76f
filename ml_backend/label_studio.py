"""Label Studio's client: set a project up, push tasks, pull annotations, by the official SDK.

An EMR is known by its `emr_id` in the task's data and meta, never by the task id, which Label
Studio gives again after a deletion. Set-up, push and pull may be repeated at any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from label_config.annotation import read_export
from label_config.errors import ConfigError, ServerError, ServerRefused, ServerUnreachable
from label_config.files import Problem
from label_config.record import Coding
from ml_backend.project_setup import ProjectSetup, SetupConfig, our_backends
from ml_backend.refusals import Caller, explain

T = TypeVar("T")
Task = dict[str, Any]
"""A task as Label Studio answers it: id, data, meta, annotations, predictions ..."""

COUNTS = "id,total_annotations,cancelled_annotations"
TASKS_PER_IMPORT = 200
TASKS_PER_PAGE = 100
ROWS_PER_PAGE = 500
ID_CHARACTERS_PER_QUERY = 1_000
"""Ids travel in the address, and servers take addresses of about 4,000 characters."""
IMPORT_ATTEMPTS = 3
TIMEOUT_SECONDS = 120.0


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
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Import the tasks whose `emr_id` the project lacks, in their order; return how many.

        The label stream shows predictions of one version only, the pushed one from now on: refresh
        the tasks that wait with an older one.
        """
        pushed = 0
        for done, chunk in enumerate(_chunks(tasks, TASKS_PER_IMPORT)):
            pushed += self._import(project_id, chunk)
            if progress is not None:
                progress(min((done + 1) * TASKS_PER_IMPORT, len(tasks)), len(tasks))
        versions = [p["model_version"] for task in tasks for p in task.get("predictions", ())]
        if pushed and versions:
            self._show_version(project_id, versions[-1])
        return pushed

    def _import(self, project_id: int, tasks: Sequence[Task]) -> int:
        """Import a chunk exactly once: after a lost answer, look before sending again."""
        missing: dict[str, Task] = {}
        present = self._present(project_id, [task["data"]["emr_id"] for task in tasks])
        for task in tasks:
            if task["data"]["emr_id"] not in present:
                missing.setdefault(task["data"]["emr_id"], task)
        request: list[Any] = list(missing.values())
        for attempts_left in reversed(range(IMPORT_ATTEMPTS)):
            if not request:
                break
            try:
                self._call.once(
                    "import tasks", self._sdk.projects.import_tasks, project_id, request=request
                )
                break
            except ServerUnreachable:
                if not attempts_left:
                    raise
                present = self._present(project_id, list(missing))
                request = [task for emr_id, task in missing.items() if emr_id not in present]
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
            self._show_version(project_id, versions.pop())
        return len(request)

    def _show_version(self, project_id: int, version: str) -> None:
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

    def pull(self, project_id: int) -> Pulled:
        """Every EMR's latest coding, what could not be read, and who was skipped."""
        ids = [row["id"] for row in self._rows(project_id, COUNTS) if _is_touched(row)]
        report = read_export(self._full(project_id, ids))
        return Pulled(report.records, report.problems, report.skipped)

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
    return bool(row.get("total_annotations") or row.get("cancelled_annotations"))


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
