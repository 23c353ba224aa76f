"""The model class that Label Studio's requests reach: the label-studio-ml 2.x contract."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from label_config.annotation import read_annotation
from label_config.errors import DataError
from label_config.record import EMR
from label_config.suggestion import SuggestionSet
from label_config.task import build_prediction, candidate_codes, read_emr
from label_config.validate import keep_valid
from ml_backend import jobs
from ml_backend.feedback import Feedback
from ml_backend.interactive import answer
from ml_backend.serving import Backend, Serving

log = logging.getLogger(__name__)
Task = Mapping[str, Any]

TRAIN_EVENT = "START_TRAINING"
ANNOTATION_EVENTS = frozenset(
    {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_UPDATED"}
)


SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """One prediction per task, in the tasks' order."""

    predictions: list[dict[str, Any] | list[Any]]
    """An empty list where time ran out: Label Studio stores nothing and asks again later."""
    model_version: str | None
    read: int = 0
    """Tasks that all members have read."""
    hurried: int = 0
    """Tasks that only the quick members have read."""
    unread: int = 0
    """Tasks that there was no time for."""


class CliniCoCoModel:
    """Suggests codes for tasks and learns from annotations.

    `project_id` is Label Studio's, "7" or "7.1795283132" (id and creation time). `predict` answers
    in about `seconds`.
    """

    def __init__(
        self,
        project_id: str | int | None,
        label_config: str | None = None,
        *,
        backend: Backend,
        seconds: float = SECONDS,
    ) -> None:
        self.project_id = parse_project_id(project_id)
        self.label_config = label_config
        self.seconds = seconds
        self.serving: Serving = backend.serving(self.project_id)
        self.setup()

    def setup(self) -> None:
        """Read what the workspace says about the project; models are loaded once per process."""
        self.model_version = self.serving.version

    def predict(
        self, tasks: Sequence[Task], context: Mapping[str, Any] | None = None, **_: Any
    ) -> ModelResponse:
        """Suggest codes for each task from the record that it shows.

        A task that this project did not make gets an empty result. With a `context` a coder asks
        from the open editor, about the first task.
        """
        if context:
            return self._answer(tasks, context)
        emrs = {n: emr for n, emr in enumerate(map(_emr, tasks)) if emr}
        found, read = self.serving.suggest_within(list(emrs.values()), self.seconds)
        by_place = dict(zip(emrs, found, strict=True))
        version = next((s.model_version for s in found if s is not None), self.serving.version)
        predictions: list[dict[str, Any] | list[Any]] = []
        for n, task in enumerate(tasks):
            suggested = by_place.get(n)
            if suggested is not None:
                predictions.append(self._prediction(task, emrs[n], suggested))
            elif n in emrs:
                predictions.append([])
            else:
                nothing = {"result": [], "score": 0.0, "model_version": version or "none"}
                predictions.append(nothing)
        unread = found.count(None)
        return ModelResponse(predictions, version, read, len(found) - read - unread, unread)

    def fit(self, event: str, data: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """Handle one event: queue a training, or write down the annotations that it carries.

        The same annotation told again, alone or in a list, changes nothing.
        """
        if event == TRAIN_EVENT:
            return {"job": jobs.enqueue_training(self.serving.workspace.folder)}
        if event in ANNOTATION_EVENTS:
            tasks, annotations = as_list(data.get("task")), as_list(data.get("annotation"))
            return {"learned": self.serving.remember([*self._feedback(tasks, annotations)])}
        return {}

    def _answer(self, tasks: Sequence[Task], context: Mapping[str, Any]) -> ModelResponse:
        taxonomy, version = self.serving.workspace.taxonomy, self.serving.version
        result: list[dict[str, Any]] = []
        if tasks and _emr(tasks[0]) is not None:
            ask = self.serving.suggest
            rules = self.serving.rules
            result = answer(tasks[0], context, suggest=ask, taxonomy=taxonomy, rules=rules)
        prediction = {"result": result, "score": 0.0, "model_version": version or "none"}
        return ModelResponse([prediction], version)

    def _prediction(self, task: Task, emr: EMR, suggested: SuggestionSet) -> dict[str, Any]:
        taxonomy = self.serving.workspace.taxonomy
        shown = candidate_codes(task)
        prediction = build_prediction(emr, suggested, taxonomy, candidates=shown)
        good, problems = keep_valid(prediction["result"], task["data"])
        if problems:  # a bad item would take the whole editor away from the coder
            log.error("%d items of a prediction for task %s were dropped", len(problems), _id(task))
        return {**prediction, "result": good}

    def _feedback(
        self, tasks: Sequence[Task], annotations: Sequence[Mapping[str, Any]]
    ) -> Iterator[Feedback]:
        """The clean decisions among the annotations; a single task is that of all of them."""
        if len(tasks) == 1:
            tasks = [tasks[0]] * len(annotations)
        for task, annotation in zip(tasks, annotations, strict=False):
            emr = _emr(task)
            if emr is None or annotation.get("was_cancelled"):
                continue
            try:
                coding = read_annotation(task, annotation)
            except DataError:
                log.warning("annotation %s was not learned: it cannot be read", _id(annotation))
                continue
            if coding.quality == "clean":
                known = emr.emr_id in self.serving.workspace.pool
                yield Feedback(_key(annotation), coding, None if known else emr)


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


def _key(annotation: Mapping[str, Any]) -> str:
    """Names an annotation in one state, however it was told."""
    state = json.dumps([annotation.get("result"), annotation.get("updated_at")], sort_keys=True)
    return f"{_id(annotation)}:{hashlib.sha256(state.encode()).hexdigest()[:16]}"


def _id(thing: Mapping[str, Any]) -> int | str:
    """Label Studio's number; anything else is not repeated."""
    number = thing.get("id")
    return number if isinstance(number, int) and abs(number) < 2**63 else "?"


def _emr(task: Task) -> EMR | None:
    """The EMR that a task shows; None for a task made elsewhere."""
    try:
        return read_emr(task)
    except DataError:  # its message may quote the task
        log.warning("task %s has no suggestions: it holds no record of ours", _id(task))
        return None
