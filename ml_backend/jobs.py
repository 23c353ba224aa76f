"""Training off the request path: a queue, one job at a time per workspace, status in files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huey import Huey, RedisHuey, SqliteHuey
from huey.api import Task

from label_config.errors import ClinicocoError
from label_config.files import write_json
from ml_backend.settings import settings
from ml_backend.workspace import Workspace

log = logging.getLogger(__name__)


def _make_queue() -> Huey:
    if settings().redis_url:
        return RedisHuey("clinicoco", url=settings().redis_url)
    path = settings().queue_file
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteHuey("clinicoco", filename=str(path))


queue = _make_queue()


@queue.task(context=True)  # type: ignore[untyped-decorator]
def train(folder: str, task: Task | None = None) -> str:
    """Train a new version for one workspace and let it serve if it passes its check."""
    from ml_backend.steps import train_model  # the web server imports this module without torch

    job = task.id if task else "direct"
    report = _reporter(Path(folder), job)
    with queue.lock_task(f"train:{folder}"):
        report(state="running", step="reading", done=0, total=0)
        try:
            trained = train_model(
                Workspace(Path(folder)),
                progress=lambda step, done, total: report(step=step, done=done, total=total),
            )
        except ClinicocoError as error:
            report(state="failed", error=str(error))
            raise
        except Exception as error:  # a bug: its message may quote a record, and the queue logs it
            report(state="failed", error=type(error).__name__)
            raise RuntimeError(f"training failed with {type(error).__name__}") from None
        report(state="done", version=trained.version.version, promoted=trained.promoted)
    return trained.version.version


def enqueue_training(folder: Path) -> str:
    """Queue a training and return its job id; a training already waiting is not queued twice."""
    key = str(folder.resolve())
    for waiting in queue.pending():
        if waiting.name == "train" and waiting.args and waiting.args[0] == key:
            return str(waiting.id)
    result = train(key)
    _reporter(folder, result.id)(state="queued")
    return str(result.id)


def job_status(folder: Path) -> list[dict[str, Any]]:
    """Every job of a workspace, newest first."""
    found = [json.loads(p.read_text("utf-8")) for p in (folder / "jobs").glob("*.json")]
    return sorted(found, key=lambda job: str(job["updated"]), reverse=True)


def run_worker() -> None:
    """Work on queued jobs until interrupted; one process, so that a crash spares the server."""
    consumer = queue.create_consumer(workers=1, worker_type="process", periodic=False)
    consumer.run()


def _reporter(folder: Path, job: str) -> Callable[..., None]:
    path = folder / "jobs" / f"{job}.json"

    def report(**changes: Any) -> None:
        known = json.loads(path.read_text("utf-8")) if path.exists() else {"job": job}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        write_json(path, {**known, **changes, "updated": now})

    return report
