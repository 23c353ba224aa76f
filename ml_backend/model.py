"""The model class that Label Studio's requests reach: the label-studio-ml 2.x contract."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from label_config.annotation import read_annotation
from label_config.errors import DataError
from label_config.record import EMR
from label_config.suggestion import SuggestionSet
from label_config.task import build_prediction, candidate_codes, read_emr
from label_config.validate import keep_valid
from ml_backend import jobs
from ml_backend.serving import Backend, Serving

log = logging.getLogger(__name__)
Task = Mapping[str, Any]

TRAIN_EVENT = "START_TRAINING"
ANNOTATION_EVENTS = frozenset(
    {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_UPDATED"}
)


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """One prediction per task, in the tasks' order."""

    predictions: list[dict[str, Any]]
    model_version: str | None


class CliniCoCoModel:
    """Suggests codes for tasks and learns from annotations.

    `project_id` is Label Studio's, "7" or "7.1795283132" (id and creation time).
    """

    def __init__(
        self, project_id: str | int | None, label_config: str | None = None, *, backend: Backend
    ) -> None:
        self.project_id = parse_project_id(project_id)
        self.label_config = label_config
        self.serving: Serving = backend.serving(self.project_id)
        self.setup()

    def setup(self) -> None:
        """Read what the workspace says about the project; models are loaded once per process."""
        self.model_version = self.serving.version

    def predict(
        self, tasks: Sequence[Task], context: Mapping[str, Any] | None = None, **_: Any
    ) -> ModelResponse:
        """Suggest codes for each task from the record that it shows.

        A task that this project did not make, or an interactive request (`context`), gets an empty
        result: an answer that repeats regions of the open task would crash the editor.
        """
        emrs = {} if context else {n: emr for n, emr in enumerate(map(_emr, tasks)) if emr}
        suggested = self.serving.suggest(list(emrs.values())) if emrs else []
        version = suggested[0].model_version if suggested else self.serving.version
        by_place = dict(zip(emrs, suggested, strict=True))
        predictions = [
            self._prediction(task, emrs[n], by_place[n])
            if n in emrs
            else {"result": [], "score": 0.0, "model_version": version or "none"}
            for n, task in enumerate(tasks)
        ]
        return ModelResponse(predictions, version)

    def fit(self, event: str, data: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """Handle one event: queue a training, or learn the annotations that it carries."""
        if event == TRAIN_EVENT:
            return {"job": jobs.enqueue_training(self.serving.workspace.folder)}
        if event in ANNOTATION_EVENTS:
            pairs = zip(as_list(data.get("task")), as_list(data.get("annotation")), strict=False)
            return {"learned": sum(self._learn(task, annotation) for task, annotation in pairs)}
        return {}

    def _prediction(self, task: Task, emr: EMR, suggested: SuggestionSet) -> dict[str, Any]:
        taxonomy = self.serving.workspace.taxonomy
        shown = candidate_codes(task)
        prediction = build_prediction(emr, suggested, taxonomy, candidates=shown)
        good, problems = keep_valid(prediction["result"], task["data"])
        for problem in problems:  # a bad item would take the whole editor away from the coder
            log.error("prediction for EMR %s, %s was dropped", emr.emr_id, problem)
        return {**prediction, "result": good}

    def _learn(self, task: Task, annotation: Mapping[str, Any]) -> bool:
        emr = _emr(task)
        if emr is None or annotation.get("was_cancelled"):
            return False
        try:
            coding = read_annotation(task, annotation)
        except DataError as error:
            log.warning("annotation %s was not learned: %s", annotation.get("id"), error)
            return False
        if coding.quality == "clean":
            self.serving.learn(emr, coding)
        return coding.quality == "clean"


def parse_project_id(value: str | int | None) -> int:
    """Label Studio sends 7, "7" or "7.<creation time>". Raises DataError for anything else."""
    head = str(value).split(".")[0]
    if not head.isascii() or not head.isdigit() or len(head) > 12:
        raise DataError("project must be Label Studio's project id")
    return int(head)


def as_list(value: Any) -> list[Any]:
    """Label Studio sends one object or a list of them, by the event."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _emr(task: Task) -> EMR | None:
    """The EMR that a task shows; None for a task made elsewhere."""
    try:
        return read_emr(task)
    except DataError as error:
        log.warning("task %s has no suggestions: %s", task.get("id"), error)
        return None
