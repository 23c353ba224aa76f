"""The loaded models of this process: one per workspace, swapped when a new version goes live."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from label_config.errors import CheckpointError, ClinicocoError, ConfigError
from label_config.record import EMR, Coding
from label_config.suggestion import SuggestionSet
from ml_backend.registry import ModelVersion, Registry
from ml_backend.workspace import Workspace
from training.suggest import Suggester

log = logging.getLogger(__name__)


class Serving:
    """One workspace's live model.

    A new live version is loaded beside the old one, which answers until the new one is ready.
    Calls are serialised: the model uses every core for one call, and `learn` changes it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.registry = Registry(workspace.models_folder)
        self._model: Suggester | None = None
        self._loaded: str | None = None
        self._loading: threading.Thread | None = None
        self._failed: str | None = None
        self._use = threading.RLock()
        live = self.registry.live()
        if live is not None:
            self._load(live)

    @property
    def version(self) -> str | None:
        """The version that answers now; None before the first model."""
        self._follow()
        return self._loaded

    def suggest(self, emrs: Sequence[EMR]) -> list[SuggestionSet]:
        """Suggest codes with the live model. Raises CheckpointError when there is none yet."""
        self._follow()
        with self._use:
            if self._model is None:
                raise CheckpointError(
                    f"no model serves {self.workspace.folder.name} yet: run `clinicoco train`"
                )
            return self._model.suggest(emrs)

    def learn(self, emr: EMR, coding: Coding) -> None:
        """Let the next suggestion know what a coder decided, without training."""
        with self._use:
            if self._model is not None:
                self._model.learn(emr, coding)

    def wait(self) -> None:
        """Return once no version is being loaded."""
        self._follow()
        if self._loading is not None:
            self._loading.join()

    def _follow(self) -> None:
        live = self.registry.live()
        if live is None or live.version in (self._loaded, self._failed):
            return
        with self._use:
            if self._loading is None or not self._loading.is_alive():
                self._loading = threading.Thread(target=self._try_load, args=(live,), daemon=True)
                self._loading.start()

    def _try_load(self, live: ModelVersion) -> None:
        try:
            self._load(live)
        except ClinicocoError as error:
            self._failed = live.version
            log.error("model %s was not loaded: %s; %s goes on", live.version, error, self._loaded)

    def _load(self, live: ModelVersion) -> None:
        model = Suggester.load(live.folder)
        self._catch_up(model)
        with self._use:
            self._model, self._loaded, self._failed = model, live.version, None
        log.info("model %s serves %s", live.version, self.workspace.folder.name)

    def _catch_up(self, model: Suggester) -> None:
        """Learn the clean codes that came after the model was trained."""
        trained_on = set(model.clean_ids)
        later = [c for c in self.workspace.read_clean() if c.emr_id not in trained_on]
        emrs = self.workspace.pool.get([c.emr_id for c in later]) if later else {}
        for coding in later:
            if coding.emr_id in emrs:
                model.learn(emrs[coding.emr_id], coding)


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
                for serving in self._servings:
                    serving.workspace.reload()
        raise ConfigError(
            f"Label Studio project {project_id} is linked to no workspace of this backend: "
            "run `clinicoco set-up` for it"
        )

    def _linked(self) -> Mapping[int, Serving]:
        return {
            s.workspace.config.project_id: s
            for s in self._servings
            if s.workspace.config.project_id is not None
        }
