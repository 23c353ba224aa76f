import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ml_backend.settings import settings
from ml_backend.workspace import ProjectConfig, Workspace

MARKER = "patient-Jane-Roe"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The queue's module on a queue file of its own."""
    import ml_backend.jobs

    monkeypatch.setenv("CLINICOCO_QUEUE_FILE", str(tmp_path / "queue" / "jobs.db"))
    settings.cache_clear()
    yield importlib.reload(ml_backend.jobs)
    monkeypatch.undo()
    settings.cache_clear()
    importlib.reload(sys.modules["ml_backend.jobs"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Workspace.create(tmp_path / "ward", ProjectConfig("Ward 7", ("I10",))).folder


def run_next(jobs: ModuleType) -> None:
    jobs.queue.execute(jobs.queue.dequeue())


def test_a_training_that_waits_already_is_not_queued_again(jobs: ModuleType, folder: Path):
    first = jobs.enqueue_training(folder)
    assert jobs.enqueue_training(folder) == first
    assert len(jobs.queue.pending()) == 1
    assert [job["state"] for job in jobs.job_status(folder)] == ["queued"]


def test_trainings_of_two_projects_wait_side_by_side(
    jobs: ModuleType, folder: Path, tmp_path: Path
):
    other = Workspace.create(tmp_path / "other", ProjectConfig("Ward 8", ("I10",))).folder
    assert jobs.enqueue_training(folder) != jobs.enqueue_training(other)
    assert len(jobs.queue.pending()) == 2


def test_a_job_that_fails_says_why_and_the_next_one_can_run(jobs: ModuleType, folder: Path):
    jobs.enqueue_training(folder)
    run_next(jobs)
    (job,) = jobs.job_status(folder)
    assert job["state"] == "failed"
    assert "run `clinicoco import` first" in job["error"]
    second = jobs.enqueue_training(folder)
    assert second != job["job"]
    run_next(jobs)
    assert {j["state"] for j in jobs.job_status(folder)} == {"failed"}


def test_a_bug_s_message_reaches_neither_status_nor_log(
    jobs: ModuleType,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(MARKER)

    monkeypatch.setattr("ml_backend.steps.train_model", broken)
    jobs.enqueue_training(folder)
    run_next(jobs)
    (job,) = jobs.job_status(folder)
    assert job["error"] == "RuntimeError"
    assert MARKER not in json.dumps(job) + caplog.text


def test_jobs_are_listed_newest_first(jobs: ModuleType, folder: Path):
    for _ in range(3):
        jobs.enqueue_training(folder)
        run_next(jobs)
    updated = [job["updated"] for job in jobs.job_status(folder)]
    assert updated == sorted(updated, reverse=True)
    assert len(updated) == 3
