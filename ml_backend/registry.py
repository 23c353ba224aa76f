"""Model versions of one project: which one serves, which came before; switched atomically."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from label_config.errors import CheckpointError, DataError
from label_config.files import read_json, write_json
from ml_backend.locks import locked

MOST_NAMED = 5
"""Codes in one message."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One trained model."""

    version: str
    folder: Path
    made: str
    validation: dict[str, float]
    """Scores on held-back clean EMRs at training time; empty for a cold start."""
    made_from: str = ""
    """A hash of the data and settings: equal ones give the same model."""

    @property
    def codes(self) -> tuple[str, ...]:
        """What it suggests. Raises CheckpointError where its folder does not say so."""
        try:
            return read_json(self.folder / "config.json", lambda values: tuple(values["codes"]))
        except (DataError, OSError):
            raise CheckpointError(f"{self.folder} is missing or damaged") from None


class Registry:
    """The versions under one folder, and `live.json`, which names the one that serves.

    A version is a folder with an entry of the same name beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def live_path(self) -> Path:
        """The file whose replacement switches the serving model."""
        return self.folder / "live.json"

    def versions(self) -> list[ModelVersion]:
        """All versions, oldest first; a half-written folder has no entry and is skipped."""
        found = []
        for entry in self.folder.glob("v*.json"):
            model = read_json(
                entry, lambda values: ModelVersion(folder=self.folder / values["version"], **values)
            )
            if model.version == entry.stem:  # else it may name a folder anywhere
                found.append(model)
        return sorted(found, key=lambda v: _number(v.version))

    def next_number(self) -> int:
        """The number of the next version."""
        return max((_number(v.version) for v in self.versions()), default=0) + 1

    def add(
        self, folder: Path, version: str, validation: dict[str, float], *, made_from: str = ""
    ) -> ModelVersion:
        """Register a complete model folder, named by its version, under the registry's folder."""
        if folder != self.folder / version:
            raise CheckpointError(f"{folder} must be {self.folder / version}")
        made = datetime.now(UTC).isoformat(timespec="seconds")
        values: dict[str, Any] = {"version": version, "made": made, "validation": validation}
        values["made_from"] = made_from
        write_json(self.folder / f"{version}.json", values)
        return ModelVersion(folder=folder, **values)

    def live(self) -> ModelVersion | None:
        """The version that serves, or None before the first promotion."""
        history = self._history()
        return self[history[-1]] if history else None

    def candidates(self) -> list[ModelVersion]:
        """The live version, then those that served before it, newest first."""
        known = {model.version: model for model in self.versions()}
        return [known[name] for name in reversed(self._history()) if name in known]

    def promote(self, version: str, codes: Collection[str] | None = None) -> ModelVersion:
        """Let a version serve from now on.

        Raises CheckpointError for an unknown one, and for one that would suggest what is not among
        the project's `codes`, if they are given.
        """
        with locked(self.folder / ".lock"):
            model = self[version]
            _refuse_foreign(model, codes)
            history = [v for v in self._history() if v != version]
            write_json(self.live_path, {"history": [*history, version]})
        return model

    def rollback(self, codes: Collection[str] | None = None) -> ModelVersion:
        """Let the version before the live one serve again; raises as `promote` does."""
        with locked(self.folder / ".lock"):
            history = self._history()
            if len(history) < 2:
                raise CheckpointError("there is no earlier model version to go back to")
            _refuse_foreign(self[history[-2]], codes)
            write_json(self.live_path, {"history": history[:-1]})
        return self[history[-2]]

    def __getitem__(self, version: str) -> ModelVersion:
        for model in self.versions():
            if model.version == version:
                return model
        known = ", ".join(v.version for v in self.versions()) or "none"
        raise CheckpointError(f"no model version {version!r}; there are: {known}")

    def _history(self) -> list[str]:
        if not self.live_path.exists():
            return []
        return read_json(self.live_path, lambda values: list(values["history"]))


def _refuse_foreign(model: ModelVersion, codes: Collection[str] | None) -> None:
    foreign = [] if codes is None else sorted(set(model.codes) - set(codes))
    if foreign:
        more = f" and {len(foreign) - MOST_NAMED} more" if len(foreign) > MOST_NAMED else ""
        raise CheckpointError(
            f"{model.version} suggests codes that the project no longer has: "
            f"{', '.join(foreign[:MOST_NAMED])}{more}; run `clinicoco train`"
        )


def _number(version: str) -> int:
    digits = version.removeprefix("v").split("-")[0]
    return int(digits) if digits.isdigit() else 0
