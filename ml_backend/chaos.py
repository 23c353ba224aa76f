"""Kills at random moments: whatever dies while it works, nothing may be lost, doubled or unserved.

A real Label Studio, the real server, worker and commands; push, pull, promote, training and
predicting processes get SIGKILL, Label Studio is stopped in between, and each time the same command
is run again as a person would. `clinicoco bench kills` runs it.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from label_config.annotation import read_annotation
from label_config.errors import ServerError
from label_config.files import data_hash
from label_config.measured import Measured, Progress, goal
from label_config.record import Coding
from ml_backend import steps
from ml_backend.chaos_ward import Ward
from ml_backend.jobs import job_status
from ml_backend.memory import children_of
from ml_backend.registry import Registry
from ml_backend.retrain import load_model
from ml_backend.stand_in import end_on_sigterm

ACTIONS = ("push", "pull", "train", "promote", "predict")
QUICK_KILLS, KILLS = 10, 50
PATIENCE_SECONDS = 240.0
"""How long a resumed training or a restarted server may take until it has done its work."""


@dataclass(slots=True)
class Tally:
    """What happened to one action."""

    kills: int = 0
    while_working: int = 0
    """Kills that met a process which had not ended by itself."""
    lost: int = 0
    doubled: int = 0
    unserved: int = 0
    faults: list[str] = field(default_factory=list)


def run(
    quick: bool, progress: Progress | None = None, *, kills: int | None = None, seed: int = 0
) -> Measured:
    """Kill `kills` times, each action in turn; every row must end with zeros."""
    count = kills or (QUICK_KILLS if quick else KILLS)
    tell = progress or (lambda done, total: None)
    end_on_sigterm()
    with (
        tempfile.TemporaryDirectory(prefix="clinicoco-kills-") as folder,
        Ward(Path(folder), seed=seed) as ward,
    ):
        chaos = _Chaos(ward, Random(seed))
        for number in range(count):
            chaos.strike(ACTIONS[number % len(ACTIONS)], stop_label_studio=number % 10 in (0, 6))
            tell(number + 1, count)
        hashed = data_hash(ward.workspace.read_pool())
    rows: list[dict[str, Any]] = [
        {
            "action": action,
            "kills": tally.kills,
            "while_working": tally.while_working,
            "lost": tally.lost,
            "doubled": tally.doubled,
            "unserved": tally.unserved,
            "faults": "; ".join(tally.faults),
        }
        for action, tally in chaos.tallies.items()
    ]
    goals = [
        goal(name, "<= 0", sum(row[name] for row in rows))
        for name in ("lost", "doubled", "unserved")
    ]
    goals.append(goal("kills", f">= {count}", sum(row["kills"] for row in rows)))
    return Measured(rows, goals, seeds=(seed,), data_hash=hashed)


class _Chaos:
    def __init__(self, ward: Ward, rng: Random) -> None:
        self.ward = ward
        self.tallies = {action: Tally() for action in ACTIONS}
        self._rng = rng
        self._decided: dict[str, Coding] = {}
        """What the coders have submitted, by `emr_id`."""
        self._typical = {"push": 8.0, "pull": 6.0, "promote": 4.0, "train": 12.0, "predict": 0.5}
        """Seconds that an action takes; learned from the runs that were not killed."""

    def strike(self, action: str, *, stop_label_studio: bool) -> None:
        """Kill an action once, do it again, and count what is wrong then."""
        tally = self.tallies[action]
        tally.kills += 1
        getattr(self, f"_{action}")(tally, stop_label_studio and action in ("push", "pull"))
        self._check_serving(tally)

    # -- actions ------------------------------------------------------------------------------

    def _push(self, tally: Tally, stop_label_studio: bool) -> None:
        steps.select(self.ward.workspace, 4)
        self._command(tally, stop_label_studio, "push", str(self.ward.workspace.folder))
        sent = Counter(t["data"]["emr_id"] for t in self.ward.client.tasks(self.ward.project_id))
        wanted = {i for batch in self.ward.workspace.batches() for i in batch.emr_ids}
        self._compare(tally, "tasks", wanted=Counter(wanted), found=sent)

    def _pull(self, tally: Tally, stop_label_studio: bool) -> None:
        self._code(3)
        self._command(tally, stop_label_studio, "pull", str(self.ward.workspace.folder))
        clean = self.ward.workspace.read_clean()
        wanted = Counter({(c.emr_id, c.codes): 1 for c in self._decided.values()})
        self._compare(tally, "codings", wanted, Counter((c.emr_id, c.codes) for c in clean))
        annotated = Counter(
            task["data"]["emr_id"]
            for task in self.ward.client.tasks(self.ward.project_id)
            for _ in task["annotations"]
        )
        self._compare(tally, "annotations", Counter(list(self._decided)), annotated)

    def _promote(self, tally: Tally, _: bool) -> None:
        registry = self._registry()
        before = registry.live()
        version = self._rng.choice(registry.versions()).version
        folder = str(self.ward.workspace.folder)
        self._command(tally, False, "models", "promote", folder, version)
        live = registry.live()
        if live is None or live.version != version:
            tally.unserved += 1
            tally.faults.append(f"{version} was promoted, {live and live.version} is live")
        if before is not None and before.version not in {v.version for v in registry.versions()}:
            tally.lost += 1

    def _train(self, tally: Tally, _: bool) -> None:
        """Killed in the worker; the next worker must take the job up again."""
        self.ward.client.start_training(self.ward.project_id)
        self.ward.client.start_training(self.ward.project_id)  # asked twice, trained once
        self._wait("a job", lambda: bool(job_status(self.ward.workspace.folder)))
        time.sleep(self._rng.uniform(0.0, self._typical["train"]))
        states = [job["state"] for job in job_status(self.ward.workspace.folder)]
        tally.while_working += any(state in ("queued", "running") for state in states)
        self.ward.worker.kill()
        self.ward.worker.start()
        try:
            self._wait("the job's end", self._all_jobs_ended)
        except ServerError as error:
            tally.lost += 1
            tally.faults.append(str(error))
        failed = [job for job in job_status(self.ward.workspace.folder) if job["state"] == "failed"]
        tally.lost += len(failed)
        tally.faults += [str(job["error"]) for job in failed]
        origins = Counter(v.made_from for v in self._registry().versions())
        self._compare(tally, "models", wanted=Counter(list(origins)), found=origins)

    def _predict(self, tally: Tally, _: bool) -> None:
        """A worker of the server dies while it answers, and every other time all of it."""
        whole = tally.kills % 2 == 0
        with self._predicting():
            time.sleep(self._rng.uniform(0.1, self._typical["predict"]))
            pids = children_of(self.ward.server.pid)
            tally.while_working += bool(pids)
            if whole or not pids:
                self.ward.server.kill()
            else:
                os.kill(self._rng.choice(pids), signal.SIGKILL)
        if whole or not pids:
            self.ward.server.start()

    # -- parts --------------------------------------------------------------------------------

    def _command(self, tally: Tally, stop_label_studio: bool, *arguments: str) -> None:
        """Run a command, kill it at a random moment, run it again to its end."""
        name = arguments[1] if arguments[0] == "models" else arguments[0]
        process = self.ward.command(*arguments)
        time.sleep(self._rng.uniform(0.3, 1.0) * self._typical[name])
        if stop_label_studio:
            self.ward.stop_label_studio()
        tally.while_working += process.poll() is None
        process.kill()
        process.wait()
        if stop_label_studio:
            self.ward.start_label_studio()
        started = time.monotonic()
        status = self.ward.command(*arguments).wait()
        self._typical[name] = (self._typical[name] + time.monotonic() - started) / 2
        if status != 0:
            tally.lost += 1
            tally.faults.append(f"{name} ended with {status} when it was run again")

    def _code(self, count: int) -> None:
        """Coders work on what waits, through Label Studio's API."""
        for emr_id, task in list(self.ward.client.waiting(self.ward.project_id).items())[:count]:
            annotation = self.ward.coder.annotate(task, self.ward.gold[emr_id])
            self.ward.client.annotate(task["id"], annotation)
            self._decided[emr_id] = read_annotation(task, annotation)

    @contextmanager
    def _predicting(self) -> Iterator[None]:
        callers = [self.ward.call_predict() for _ in range(4)]
        yield
        for caller in callers:
            caller.join()

    def _check_serving(self, tally: Tally) -> None:
        """The live version can be loaded, and the server answers with it."""
        live = self._registry().live()
        try:
            if live is None:
                raise ServerError("nothing is live")
            load_model(live.folder)
            self._wait(f"{live.version} to serve", lambda: self.ward.served() == live.version)
        except Exception as error:  # whatever it is, it is what we look for
            tally.unserved += 1
            tally.faults.append(f"{type(error).__name__}: {error}")

    def _compare(self, tally: Tally, what: str, wanted: Counter[Any], found: Counter[Any]) -> None:
        lost, extra = wanted - found, found - wanted
        tally.lost += lost.total()
        tally.doubled += extra.total()
        if lost or extra:
            tally.faults.append(f"{what}: {lost.total()} missing, {extra.total()} too many")

    def _all_jobs_ended(self) -> bool:
        jobs = job_status(self.ward.workspace.folder)
        return all(job["state"] in ("done", "failed") for job in jobs)

    def _registry(self) -> Registry:
        return Registry(self.ward.workspace.models_folder)

    def _wait(self, what: str, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not until():
            if time.monotonic() > deadline:
                raise ServerError(f"waited {PATIENCE_SECONDS:.0f} s for {what}")
            time.sleep(0.5)
