"""Label Studio's client: set a project up, push tasks, pull annotations, by the official SDK.

An EMR is known by its `emr_id` in the task's data and meta, never by the task id, which Label
Studio gives again after a deletion. Set-up, push and pull may be repeated at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from label_config.annotation import read_export
from label_config.errors import ConfigError, ServerError, ServerRefused
from label_config.files import Problem
from label_config.record import Coding
from ml_backend.incremental import PullMark
from ml_backend.notes import PushNote
from ml_backend.project_setup import ProjectSetup, SetupConfig, our_backends
from ml_backend.refusals import Caller, explain
from ml_backend.task_pages import COUNTS, Task, TaskPages, chunks, emr_id_of, is_touched
from ml_backend.task_push import TASKS_PER_IMPORT, TaskPush

PULL_FIELDS = f"{COUNTS},updated_at"
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
        self._pages = TaskPages(self._sdk, self._call)
        self._push = TaskPush(self._sdk, self._call, self._pages)

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
        pushed = self._push.send(project_id, tasks, note=note, progress=progress)
        versions = [p["model_version"] for task in tasks for p in task.get("predictions", ())]
        if pushed and versions:
            self.show_version(project_id, versions[-1])
        return pushed

    def settle(self, project_id: int, emr_ids: Sequence[str], *, sent_at: datetime) -> None:
        """Wait until an import without an answer has arrived or cannot any more; remove doubles."""
        self._push.settle(project_id, emr_ids, sent_at=sent_at)

    def tasks(self, project_id: int) -> Iterator[Task]:
        """Every task in import order, with annotations and predictions."""
        return self._pages.full(
            project_id, [row["id"] for row in self._pages.rows(project_id, "id")]
        )

    def waiting(self, project_id: int) -> dict[str, Task]:
        """The tasks that nobody has annotated or skipped, in import order, by `emr_id`."""
        ids = [row["id"] for row in self._pages.rows(project_id, COUNTS) if not is_touched(row)]
        return {emr_id_of(task): task for task in self._pages.full(project_id, ids)}

    def places(self, project_id: int) -> dict[str, int]:
        """Every task's id, by `emr_id`."""
        return {emr_id_of(row): row["id"] for row in self._pages.rows(project_id, "id,meta")}

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
            {**predictions[emr_id_of(row)], "task": row["id"]}
            for row in self._pages.rows(project_id, f"meta,{COUNTS}")
            if emr_id_of(row) in predictions and not is_touched(row)
        ]
        for chunk in chunks(request, TASKS_PER_IMPORT):
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
        rows = list(self._pages.rows(project_id, PULL_FIELDS))
        report = read_export(self._pages.full(project_id, [r["id"] for r in rows if is_touched(r)]))
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
        rows = list(self._pages.rows(project_id, f"{PULL_FIELDS},meta", behind))
        new = mark.after(rows)
        project = self._call("read the project", self._sdk.projects.get, project_id)
        coded, skipped = project.total_annotations_number, project.skipped_annotations_number
        if new.total != (coded or 0) + (skipped or 0):
            return None
        unread = mark.unread(rows)
        report = read_export(
            self._pages.full(project_id, [r["id"] for r in unread if is_touched(r)])
        )
        read = frozenset(map(emr_id_of, unread))
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
