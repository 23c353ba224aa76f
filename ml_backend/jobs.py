"""Training off the request path: a queue, one job at a time per workspace, status in files.

A job is noted in the queue's store before it is queued and until it has ended: what a killed worker
had begun is queued again when a worker starts, and data that gave a version already gives no
second one. A mark beside its status cancels a job: one that waits is not begun, one that runs ends
at its next step.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huey import Huey, RedisHuey, SqliteHuey
from huey.api import Task
from huey.registry import Message
from huey.serializer import Serializer

from label_config.errors import ClinicocoError, ConfigError, DataError, ServerError
from label_config.files import read_json, write_json
from ml_backend.locks import locked
from ml_backend.settings import settings
from ml_backend.workspace import Workspace

log = logging.getLogger(__name__)
MOST_STARTS = 3
"""A training that took its worker down so many times is given up."""
NOTE = "clinicoco-wanted:"
LOG_LINES = 20
"""Steps that a job's status keeps, each with its time (UTC)."""


class JobCancelled(ClinicocoError):
    """Somebody asked this training to end."""


class JsonSerializer(Serializer):  # type: ignore[misc]
    """Messages as JSON: reading the queue must never run what somebody wrote into it."""

    def _serialize(self, data: Any) -> bytes:
        values = {"message": data._asdict()} if isinstance(data, Message) else {"value": data}
        return json.dumps(values).encode()

    def _deserialize(self, data: bytes) -> Any:
        values = json.loads(data)
        return Message(**values["message"]) if "message" in values else values["value"]


def _make_queue() -> Huey:
    """Made when this module is imported. Raises ConfigError for Redis without its extra."""
    options: dict[str, Any] = {"serializer": JsonSerializer(), "results": False}
    if settings().redis_url:
        if find_spec("redis") is None:
            raise ConfigError("CLINICOCO_REDIS_URL needs the extra: pip install 'clinicoco[redis]'")
        return RedisHuey("clinicoco", url=settings().redis_url, **options)
    path = settings().queue_file
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteHuey("clinicoco", filename=str(path), **options)


queue = _make_queue()


@queue.task(context=True)  # type: ignore[untyped-decorator]
def train(folder: str, task: Task | None = None) -> str:
    """Train a new version for one workspace and let it serve if it passes its check."""
    job = task.id if task else "direct"
    try:
        return _train(Path(folder), job) if _is_there(Path(folder), job) else ""
    finally:  # not reached by a worker that is killed
        queue.delete(NOTE + job)


def _train(folder: Path, job: str) -> str:
    from ml_backend.steps import train_model  # the web server imports this module without torch

    report = _reporter(folder, job)
    said: list[str] = report().get("log", [])

    def progress(step: str, done: int, total: int) -> None:
        if _mark(folder, job).exists():
            raise JobCancelled
        if not said or not said[-1].endswith(f" {step}"):
            said.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {step}")
        report(state="running", step=step, done=done, total=total, log=said[-LOG_LINES:])

    try:
        progress("reading", 0, 0)
        trained = train_model(Workspace(folder), progress=progress, again=False)
    except JobCancelled:
        report(state="cancelled")
        return ""
    except ClinicocoError as error:
        report(state="failed", error=str(error))
        raise
    except Exception as error:  # its message may quote a record, and the queue logs it
        reason = error.strerror if isinstance(error, OSError) else None
        report(state="failed", error=reason or type(error).__name__)
        raise RuntimeError(f"training failed with {type(error).__name__}") from None
    version = trained.version.version
    report(state="done", version=version, promoted=trained.promoted, new=trained.new)
    return version


def enqueue_training(folder: Path) -> str:
    """Queue a training and return its job id; a training already waiting is not queued twice.

    Raises ServerError when the queue cannot be written.
    """
    key = str(folder.resolve())
    try:
        with locked(folder / "jobs" / ".lock"):
            for waiting in queue.pending():
                is_ours = waiting.name == "train" and waiting.args and waiting.args[0] == key
                if is_ours and not _mark(folder, waiting.id).exists():
                    return str(waiting.id)
            job = train.s(key)
            _reporter(folder, job.id)(state="queued", starts=1)
            queue.put(NOTE + job.id, key)
            queue.enqueue(job)
    except ClinicocoError:
        raise
    except Exception as error:  # of SQLite, of Redis, of a full disk
        log.error("the queue failed: %s", type(error).__name__)
        raise ServerError("the job queue cannot be written: ask again later") from None
    return str(job.id)


def cancel(folder: Path, job: str) -> dict[str, Any]:
    """Let a job that waits never begin, and one that runs end at its next step; its status then.

    Raises DataError for a job that the workspace does not have or that has ended.
    """
    with locked(folder / "jobs" / ".lock"):
        known = {status["job"]: status for status in job_status(folder)}
        if job not in known:
            raise DataError(f"no such job; there are: {', '.join(known) or 'none'}")
        if known[job]["state"] not in ("queued", "running"):
            raise DataError(f"job {job} has ended: {known[job]['state']}")
        _mark(folder, job).touch()
        report = _reporter(folder, job)
        return report(state="cancelled") if known[job]["state"] == "queued" else report()


def _mark(folder: Path, job: str) -> Path:
    return folder / "jobs" / f"{job}.cancel"


@queue.on_startup()  # type: ignore[untyped-decorator]
def resume() -> None:
    """Queue again what was begun or noted and is neither done nor waiting.

    Jobs of a workspace that was removed are forgotten. One whose files cannot be used now is logged
    and stays noted; the others go on.
    """
    waiting = {str(task.id) for task in queue.pending()}
    for key in list(queue.all_results()):
        name = key.decode() if isinstance(key, bytes) else str(key)
        job = name.removeprefix(NOTE)
        if not name.startswith(NOTE) or job in waiting:
            continue
        try:
            _resume(Path(queue.get(name, peek=True)), job)
        except (OSError, DataError) as error:
            log.error("job %s was not queued again: %s", job, type(error).__name__)


def _resume(folder: Path, job: str) -> None:
    if not _is_there(folder, job):
        queue.delete(NOTE + job)
        return
    with locked(folder / "jobs" / ".running", wait=False) as is_free:
        if is_free:
            _start_again(folder, job)


def _is_there(folder: Path, job: str) -> bool:
    """Whether the workspace still stands: a lock or a status would make its folder anew."""
    found = (folder / "project.json").is_file()
    if not found:
        log.warning("job %s is dropped: %s is no workspace any more", job, folder.name)
    return found


def _start_again(folder: Path, job: str) -> None:
    report = _reporter(folder, job)
    if _mark(folder, job).exists():
        queue.delete(NOTE + job)
        report(state="cancelled")
        return
    starts = report().get("starts", 1) + 1
    if starts > MOST_STARTS:
        queue.delete(NOTE + job)
        report(state="failed", error=f"its worker was killed {MOST_STARTS} times")
        return
    log.warning("job %s was cut short and is queued again", job)
    report(state="queued", starts=starts)
    queue.enqueue(train.task_class((str(folder.resolve()),), id=job))


def job_status(folder: Path) -> list[dict[str, Any]]:
    """Every job of a workspace, newest first."""
    found = [read_json(path, _status) for path in (folder / "jobs").glob("*.json")]
    return sorted(found, key=lambda job: str(job["updated"]), reverse=True)


def _status(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("job", "state", "updated")} | values


def run_worker() -> None:
    """Work on queued jobs until interrupted; one process, so that a crash spares the server."""
    consumer = queue.create_consumer(workers=1, worker_type="process", periodic=False)
    consumer.run()


def _reporter(folder: Path, job: str) -> Callable[..., dict[str, Any]]:
    path = folder / "jobs" / f"{job}.json"

    def report(**changes: Any) -> dict[str, Any]:
        known: dict[str, Any] = read_json(path, dict) if path.exists() else {}
        if changes:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            known = {"job": job, **known, **changes, "updated": now}
            write_json(path, known)
        return known

    return report
