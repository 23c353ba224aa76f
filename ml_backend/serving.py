"""The loaded models of this process: one per workspace, swapped when a new version goes live."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from label_config.advice import default_rules
from label_config.errors import CheckpointError, ClinicocoError, ConfigError
from label_config.record import EMR, Coding
from label_config.rules import RuleBook
from label_config.search import search_of
from label_config.suggestion import SuggestionSet
from ml_backend.feedback import Feedback, Journal
from ml_backend.quick import suggest_quickly
from ml_backend.registry import ModelVersion, Registry
from ml_backend.retrain import load_model
from ml_backend.workspace import Workspace
from training.suggest import Suggester

log = logging.getLogger(__name__)
AT_ONCE = 16
"""EMRs that the model reads before the next caller has its turn."""
QUICK_SHARE = 0.1
"""Of the time that a caller has, what is kept for the quick members."""


class Serving:
    """One workspace's live model.

    A new live version is loaded beside the old one, which answers until the new one is ready; one
    that cannot be loaded never serves. The model works in a thread of its own, a few EMRs at a
    time and callers in turn, so that a caller can stop waiting.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.registry = Registry(workspace.models_folder)
        self.journal = Journal(workspace.folder)
        self._model: Suggester | None = None
        self._loaded: str | None = None
        self._loading: threading.Thread | None = None
        self._failed: str | None = None
        self._swap = threading.RLock()
        self._words = threading.RLock()
        """Held to read or to teach names, lexicon and phrases: all that the quick members need."""
        self._turns = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._load_last_good()

    @property
    def version(self) -> str | None:
        """The version that answers now; None before the first model."""
        self._follow()
        return self._loaded

    @property
    def rules(self) -> RuleBook:
        """The project's coding rules; every built-in one while its own file is damaged."""
        try:
            return self.workspace.rules
        except ClinicocoError as error:
            log.error("%s: the team's rules are not read: %s", self.workspace.folder.name, error)
            return default_rules(self.workspace.taxonomy)

    def suggest(self, emrs: Sequence[EMR]) -> list[SuggestionSet]:
        """Suggest codes with the live model. Raises CheckpointError when there is none yet."""
        model = self._ready()
        return self._turns.submit(self._suggest, model, emrs).result()

    def suggest_within(
        self, emrs: Sequence[EMR], seconds: float
    ) -> tuple[list[SuggestionSet | None], int]:
        """Suggestions in about `seconds`, None for EMRs that there was no time for at all.

        Returns:
            One entry per EMR, and how many of them all members have read: when time runs short,
            names, lexicon and phrases read the rest.
        """
        model, start = self._ready(), time.monotonic()
        full = self._all_members(model, emrs, start + (1.0 - QUICK_SHARE) * seconds)
        found: list[SuggestionSet | None] = [*full]
        while len(found) < len(emrs) and time.monotonic() < start + seconds:
            with self._words:
                found += suggest_quickly(model, emrs[len(found) : len(found) + AT_ONCE])
        return found + [None] * (len(emrs) - len(found)), len(full)

    def remember(self, feedback: Sequence[Feedback]) -> int:
        """Write decisions down; every worker's next suggestion knows them. Returns how many were
        new.
        """
        return self.journal.append(feedback)

    def learn(self, emr: EMR, coding: Coding) -> None:
        """Let the next suggestion of this process know what a coder decided, without training."""
        if self._model is not None:
            self._turns.submit(self._learn, self._model, [(emr, coding)]).result()

    def wait(self) -> None:
        """Return once no version is being loaded."""
        self._follow()
        if self._loading is not None:
            self._loading.join()

    def _ready(self) -> Suggester:
        self._follow()
        if self._model is None:
            raise CheckpointError(
                f"no model serves {self.workspace.folder.name} yet: run `clinicoco train`"
            )
        return self._model

    # -- in the model's thread ----------------------------------------------------------------

    def _all_members(
        self, model: Suggester, emrs: Sequence[EMR], deadline: float
    ) -> list[SuggestionSet]:
        found: list[SuggestionSet] = []
        while len(found) < len(emrs):
            part = emrs[len(found) : len(found) + AT_ONCE]
            turn = self._turns.submit(self._suggest, model, part)
            try:
                found += turn.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                turn.cancel()
                break
        return found

    def _suggest(self, model: Suggester, emrs: Sequence[EMR]) -> list[SuggestionSet]:
        news = self.journal.news() if model is self._model else []
        if news:
            self._learn(model, records_of(self.workspace, news))
        return model.suggest(emrs)

    def _learn(self, model: Suggester, decided: Iterable[tuple[EMR, Coding]]) -> None:
        for emr, coding in decided:
            with self._words:
                model.learn(emr, coding)

    # -- versions -----------------------------------------------------------------------------

    def _load_last_good(self) -> None:
        """At the start: the live version, or the newest before it that can be loaded."""
        try:
            search_of(self.workspace.taxonomy)  # now, not when the first coder waits for it
        except ClinicocoError as error:
            log.error("%s has no code search: %s", self.workspace.folder.name, error)
        try:
            candidates = self.registry.candidates()
        except ClinicocoError as error:
            log.error("%s does not say which model is live: %s", self.workspace.folder.name, error)
            return
        for candidate in candidates:
            self._try_load(candidate)
            if self._model is not None:
                return

    def _follow(self) -> None:
        try:
            live = self.registry.live()
        except ClinicocoError:
            return  # a damaged registry does not stop the model that serves
        if live is None or live.version in (self._loaded, self._failed):
            return
        with self._swap:
            self._failed = None
            if self._loading is None or not self._loading.is_alive():
                self._loading = threading.Thread(target=self._try_load, args=(live,), daemon=True)
                self._loading.start()

    def _try_load(self, live: ModelVersion) -> None:
        try:
            self._load(live)
        except Exception as error:  # a damaged folder can raise anything; it must never serve
            self._failed = self._failed or live.version
            why = error if isinstance(error, ClinicocoError) else type(error).__name__
            name = self._loaded or "no model"
            log.error("model %s was not loaded: %s; %s serves", live.version, why, name)

    def _load(self, live: ModelVersion) -> None:
        model = load_model(live.folder)
        journal = Journal(self.workspace.folder)
        self._learn(
            model, records_of(self.workspace, decided_since(model, self.workspace, journal))
        )
        with self._swap:
            self._model, self._loaded, self.journal = model, live.version, journal
        log.info("model %s serves %s", live.version, self.workspace.folder.name)


def decided_since(model: Suggester, workspace: Workspace, journal: Journal) -> list[Feedback]:
    """What coders decided on EMRs that the model was not trained on, oldest first."""
    decided = [Feedback("", coding) for coding in workspace.read_clean()] + journal.news()
    trained_on = set(model.clean_ids)
    return [entry for entry in decided if entry.coding.emr_id not in trained_on]


def records_of(workspace: Workspace, feedback: Sequence[Feedback]) -> list[tuple[EMR, Coding]]:
    """The latest decision on each EMR, with its record."""
    latest = {entry.coding.emr_id: entry for entry in feedback}
    missing = [emr_id for emr_id, entry in latest.items() if entry.emr is None]
    pool = workspace.pool.get(missing) if missing else {}
    records = {i: entry.emr or pool.get(i) for i, entry in latest.items()}
    return [(emr, latest[i].coding) for i, emr in records.items() if emr is not None]


class Backend:
    """Every workspace that this process serves, found by Label Studio's project id."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._servings = [Serving(Workspace(folder)) for folder in folders]
        if not self._servings:
            raise ConfigError("the backend needs at least one workspace to serve")

    @property
    def servings(self) -> Sequence[Serving]:
        """In the order in which they were given."""
        return tuple(self._servings)

    def serving(self, project_id: int) -> Serving:
        """The workspace linked to a project. Raises ConfigError when none is."""
        for attempt in ("known", "read again"):
            linked = self._linked()
            if project_id in linked:
                return linked[project_id]
            if attempt == "known":  # set-up may have linked it after this process started
                self._reload()
        raise ConfigError(
            f"Label Studio project {project_id} is linked to no workspace of this backend: "
            "run `clinicoco set-up` for it"
        )

    def of_code_set(self, name: str) -> Serving:
        """A workspace with this `Workspace.code_set`. Raises ConfigError when none has it."""
        for attempt in ("known", "read again"):
            for serving in self._servings:
                if serving.workspace.code_set == name:
                    return serving
            if attempt == "known":
                self._reload()
        raise ConfigError("no workspace of this backend has that code set: run `clinicoco set-up`")

    def _reload(self) -> None:
        for serving in self._servings:
            serving.workspace.reload()

    def _linked(self) -> Mapping[int, Serving]:
        return {
            s.workspace.config.project_id: s
            for s in self._servings
            if s.workspace.config.project_id is not None
        }
