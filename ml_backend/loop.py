"""The crank: pull what was coded, refresh what waits, push the next batch before coders run dry.

A turn looks at the files and at Label Studio only, so that the loop can be stopped and started at
any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from label_config.errors import ConfigError, ServerUnreachable
from ml_backend import sampling, steps
from ml_backend.dashboard import history
from ml_backend.dashboard.coverage import code_rows
from ml_backend.label_studio import LabelStudioClient
from ml_backend.registry import Registry
from ml_backend.workspace import Batch, Workspace

Say = Callable[[str], None]
Task = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """When the loop acts."""

    batch: int = 25
    """EMRs of the next batch."""
    every: float = 30.0
    """Seconds between two looks."""
    nearly_done: float = 0.2
    """The next batch is pushed when this share of one is left waiting."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1, got {self.batch}")
        if self.every <= 0:
            raise ConfigError(f"every must be above 0 seconds, got {self.every:g}")
        if not 0.0 <= self.nearly_done <= 1.0:
            raise ConfigError(f"nearly_done must lie in 0 to 1, got {self.nearly_done:g}")


@dataclass(frozen=True, slots=True)
class CodeTotals:
    """Where the codes stand."""

    met: int
    open: int
    unreachable: tuple[str, ...]
    """Code and EMRs so far of each: "I63.9 (2 of 5)"."""

    def __str__(self) -> str:
        return f"{self.met} of {self.met + self.open} reachable codes met"


class Loop:
    """Turns the crank on one workspace and says every change in one line."""

    def __init__(
        self,
        workspace: Workspace,
        client: LabelStudioClient,
        config: LoopConfig | None = None,
        *,
        say: Say,
        progress: steps.Progress = lambda *_: None,
    ) -> None:
        self.workspace, self.client, self.config = workspace, client, config or LoopConfig()
        self._say, self._progress = say, progress
        self._annotated: int | None = None
        self._refreshed: str | None = None
        self._checked_last_batch = False
        self._away = False

    def run(self, stop: threading.Event | None = None) -> bool:
        """Turn until nothing is worth asking (True) or `stop` is set (False).

        An unreachable Label Studio is said once and tried again; other errors are raised.
        """
        stop = stop or threading.Event()
        while not stop.is_set():
            try:
                finished = self.turn()
                self._away = False
            except ServerUnreachable as error:
                finished = False
                if not self._away:
                    self._say(f"{error}; trying again")
                self._away = True
            if finished:
                return True
            stop.wait(self.config.every)
        return False

    def turn(self) -> bool:
        """Look once and do what is due; True when nothing is left to ask or to wait for."""
        self._pull()
        waiting = steps.waiting(self.workspace, self.client)
        if self._resend_last_batch(waiting):
            waiting = steps.waiting(self.workspace, self.client)
        self._refresh(waiting)
        if len(waiting) > self.config.nearly_done * self.config.batch:
            return False
        if self._push_next():
            return False
        if waiting:
            return False
        self._say(self._last_words())
        return True

    def totals(self) -> CodeTotals:
        """Counted anew from the files."""
        rows = code_rows(self.workspace, sampling.coverage(self.workspace).status())
        states = [row["state"] for row in rows]
        short = [row for row in rows if row["state"] == "unreachable"]
        return CodeTotals(
            met=states.count("met"),
            open=states.count("open"),
            unreachable=tuple(f"{r['code']} ({r['clean']} of {r['quota']})" for r in short),
        )

    # -- steps --------------------------------------------------------------------------------

    def _pull(self) -> None:
        count, problems = steps.pull(self.workspace, self.client)
        if count == self._annotated:
            return
        new = "" if self._annotated is None else f" ({count - self._annotated:+d})"
        left_out = f", {len(problems)} annotations left out" if problems else ""
        self._annotated = count
        history.note(self.workspace, self.workspace.read_clean())
        self._say(f"{count} EMRs coded{new}{left_out}, {self.totals()}")

    def _resend_last_batch(self, waiting: Mapping[str, Task]) -> bool:
        """Once after a start: a batch may have been chosen and not have reached Label Studio."""
        batches = self.workspace.batches()
        if self._checked_last_batch or not batches:
            self._checked_last_batch = True
            return False
        known = {coding.emr_id for coding in self.workspace.read_clean()} | set(waiting)
        sent = 0
        if not known.issuperset(batches[-1].emr_ids):
            sent = self._push(batches[-1])
        self._checked_last_batch = True
        if sent:
            self._say(f"batch {batches[-1].name} is in Label Studio now: {sent} EMRs were missing")
        return sent > 0

    def _refresh(self, waiting: Mapping[str, Task]) -> None:
        """Give waiting tasks the live version's suggestions, if they show another's."""
        live = Registry(self.workspace.models_folder).live()
        if live is None or live.version == self._refreshed:
            return
        if any(shown_version(task) != live.version for task in waiting.values()):
            count = steps.refresh(self.workspace, self.client, progress=self._progress)
            self._say(f"model {live.version} serves, {count} waiting EMRs refreshed")
        self._refreshed = live.version

    def _push_next(self) -> bool:
        batch = steps.select(self.workspace, self.config.batch, progress=self._progress)
        if batch is None:
            return False
        self._checked_last_batch = False  # until it has arrived
        sent = self._push(batch)
        self._checked_last_batch = True
        self._say(f"batch {batch.name} is in Label Studio: {sent} EMRs")
        return True

    def _push(self, batch: Batch) -> int:
        return steps.push(self.workspace, self.client, batch, progress=self._progress)

    def _last_words(self) -> str:
        totals = self.totals()
        words = f"nothing is left worth asking: {self._annotated} EMRs coded, {totals}"
        if totals.unreachable:
            words += f"; the pool cannot fill {', '.join(totals.unreachable)}"
        return words


def shown_version(task: Task) -> str | None:
    """The model version of the newest prediction that a task carries."""
    predictions = task.get("predictions") or ()
    newest = max(predictions, key=lambda p: p.get("id") or 0, default=None)
    return None if newest is None else str(newest.get("model_version"))
