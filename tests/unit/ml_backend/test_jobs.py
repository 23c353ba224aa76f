import errno
import importlib
import json
import pickle
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from label_config.errors import DataError, ServerError
from ml_backend.locks import locked
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


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return Workspace.create(tmp_path / "other", ProjectConfig("Ward 8", ("I10",))).folder


def run_next(jobs: ModuleType) -> None:
    jobs.queue.execute(jobs.queue.dequeue())


def test_a_training_that_waits_already_is_not_queued_again(jobs: ModuleType, folder: Path):
    first = jobs.enqueue_training(folder)
    assert jobs.enqueue_training(folder) == first
    assert len(jobs.queue.pending()) == 1
    assert [job["state"] for job in jobs.job_status(folder)] == ["queued"]


def test_trainings_of_two_projects_wait_side_by_side(jobs: ModuleType, folder: Path, other: Path):
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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", MARKER), "No space left on device"),
        (OSError(MARKER), "OSError"),
    ],
)
def test_a_full_disk_is_named_and_nothing_else_of_the_message(
    jobs: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
):
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ml_backend.steps.train_model", broken)
    jobs.enqueue_training(folder)
    run_next(jobs)
    (job,) = jobs.job_status(folder)
    assert (job["state"], job["error"]) == ("failed", said)


def test_a_training_that_its_worker_did_not_end_is_queued_again_at_the_next_start(
    jobs: ModuleType, folder: Path
):
    job = jobs.enqueue_training(folder)
    jobs.queue.dequeue()  # a worker took it and was killed
    assert jobs.queue.pending() == []
    jobs.resume()
    jobs.resume()
    assert [task.id for task in jobs.queue.pending()] == [job]
    run_next(jobs)
    jobs.resume()
    assert jobs.queue.pending() == []


def test_a_training_that_kills_every_worker_is_given_up(jobs: ModuleType, folder: Path):
    jobs.enqueue_training(folder)
    for _ in range(jobs.MOST_STARTS):
        jobs.queue.dequeue()
        jobs.resume()
    (job,) = jobs.job_status(folder)
    assert job["state"] == "failed"
    assert "killed 3 times" in job["error"]
    assert jobs.queue.pending() == []


def test_a_training_that_another_worker_runs_is_left_to_it(jobs: ModuleType, folder: Path):
    jobs.enqueue_training(folder)
    jobs.queue.dequeue()
    with locked(folder / "jobs" / ".running"):
        jobs.resume()
    assert jobs.queue.pending() == []


@pytest.fixture
def cut_short(jobs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Queues trainings and lets a worker that is killed take them; the notes keep that order."""

    def cut_short(*folders: Path) -> list[str]:
        queued = [jobs.enqueue_training(folder) for folder in folders]
        while jobs.queue.dequeue():
            pass
        notes = [f"{jobs.NOTE}{job}" for job in queued]
        monkeypatch.setattr(jobs.queue, "all_results", lambda: notes)
        return queued

    return cut_short


def test_a_removed_workspace_is_not_made_anew_and_the_next_training_is_begun_again(
    jobs: ModuleType,
    cut_short: Callable[..., list[str]],
    folder: Path,
    other: Path,
    caplog: pytest.LogCaptureFixture,
):
    first, second = cut_short(folder, other)
    shutil.rmtree(folder)
    jobs.resume()
    assert [task.id for task in jobs.queue.pending()] == [second]
    assert not folder.exists()
    assert jobs.queue.get(jobs.NOTE + first, peek=True) is None
    assert f"job {first} is dropped: ward is" in caplog.text
    assert str(folder) not in caplog.text


def test_a_training_that_waits_does_not_make_a_removed_workspace_anew(
    jobs: ModuleType, folder: Path
):
    jobs.enqueue_training(folder)
    shutil.rmtree(folder)
    run_next(jobs)
    assert not folder.exists()
    assert jobs.queue.all_results() == {}


def test_a_workspace_that_cannot_be_reached_does_not_hold_up_the_others(
    jobs: ModuleType,
    cut_short: Callable[..., list[str]],
    folder: Path,
    other: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def unreachable(path: Path, **rest: Any) -> AbstractContextManager[bool]:
        if path.is_relative_to(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return locked(path, **rest)

    first, second = cut_short(folder, other)
    with monkeypatch.context() as now:
        now.setattr(jobs, "locked", unreachable)
        jobs.resume()
    assert [task.id for task in jobs.queue.pending()] == [second]
    assert f"job {first} was not queued again: PermissionError" in caplog.text
    jobs.resume()
    assert [task.id for task in jobs.queue.pending()] == [second, first], "it stayed noted"


def test_a_damaged_status_does_not_hold_up_the_other_trainings(
    jobs: ModuleType, cut_short: Callable[..., list[str]], folder: Path, other: Path
):
    first, second = cut_short(folder, other)
    (folder / "jobs" / f"{first}.json").write_text('{"state": ')
    jobs.resume()
    assert [task.id for task in jobs.queue.pending()] == [second]


def test_many_requests_at_once_queue_one_training(jobs: ModuleType, folder: Path):
    with ThreadPoolExecutor(8) as pool:
        asked = set(pool.map(lambda _: jobs.enqueue_training(folder), range(16)))
    assert len(asked) == len(jobs.queue.pending()) == 1


def test_a_pickle_in_the_queue_is_never_run(jobs: ModuleType, tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    jobs.queue.storage.enqueue(pickle.dumps(Trap()))
    with pytest.raises(ValueError):
        jobs.queue.dequeue()
    assert not (tmp_path / "ran").exists()


def test_a_queue_that_cannot_be_written_is_a_clear_error(
    jobs: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(jobs.queue.storage, "enqueue", broken)
    with pytest.raises(ServerError, match="job queue cannot be written"):
        jobs.enqueue_training(folder)


def test_jobs_are_listed_newest_first(jobs: ModuleType, folder: Path):
    for _ in range(3):
        jobs.enqueue_training(folder)
        run_next(jobs)
    updated = [job["updated"] for job in jobs.job_status(folder)]
    assert updated == sorted(updated, reverse=True)
    assert len(updated) == 3


def test_a_job_that_waits_can_be_cancelled_and_another_one_can_be_queued(
    jobs: ModuleType, folder: Path
):
    first = jobs.enqueue_training(folder)
    assert jobs.cancel(folder, first)["state"] == "cancelled"
    second = jobs.enqueue_training(folder)
    assert second != first
    run_next(jobs)
    run_next(jobs)
    states = {job["job"]: job["state"] for job in jobs.job_status(folder)}
    assert states == {first: "cancelled", second: "failed"}, "only the second one was begun"


def test_a_running_job_ends_at_its_next_step_and_is_not_begun_again(
    jobs: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    job = jobs.enqueue_training(folder)
    done: list[str] = []

    def slow(*_: object, progress: Callable[[str, int, int], None], **__: object) -> None:
        progress("sparse", 0, 2)
        assert jobs.cancel(folder, job)["state"] == "running"
        progress("sparse", 1, 2)
        done.append("trained")

    monkeypatch.setattr("ml_backend.steps.train_model", slow)
    run_next(jobs)
    [status] = jobs.job_status(folder)
    assert status["state"] == "cancelled"
    assert [line.split(" ", 2)[2] for line in status["log"]] == ["reading", "sparse"]
    assert not done
    jobs.resume()
    assert jobs.queue.pending() == []


def test_a_cancelled_job_whose_worker_was_killed_is_not_queued_again(
    jobs: ModuleType, folder: Path
):
    job = jobs.enqueue_training(folder)
    jobs.queue.dequeue()
    jobs.cancel(folder, job)
    jobs.resume()
    assert jobs.queue.pending() == []
    assert jobs.job_status(folder)[0]["state"] == "cancelled"


def test_only_a_job_that_has_not_ended_can_be_cancelled(jobs: ModuleType, folder: Path):
    job = jobs.enqueue_training(folder)
    with pytest.raises(DataError, match=f"no such job; there are: {job}"):
        jobs.cancel(folder, "../x")
    jobs.cancel(folder, job)
    with pytest.raises(DataError, match="has ended: cancelled"):
        jobs.cancel(folder, job)
