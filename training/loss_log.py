"""What a run's losses are written to: losses.csv, TensorBoard and MLflow where installed."""

from __future__ import annotations

import csv
import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from label_config.files import atomic_path

COLUMNS = ("stage", "epoch", "loss", "held_back")
MLFLOW_SERVER = "MLFLOW_TRACKING_URI"
"""MLflow's own variable: without it nothing is sent anywhere."""
EXPERIMENT = "clinicoco"

_log = logging.getLogger(__name__)


class Board(Protocol):
    """Shows figures as a run goes on."""

    def show(self, figures: Mapping[str, float], step: int) -> None:
        """Take figures by their names."""

    def flush(self) -> None:
        """Make sure that people see them."""


class LossLog:
    """Writes the history of a run; rows that stand there already are not written twice."""

    def __init__(self, folder: Path) -> None:
        self._csv = folder / "losses.csv"
        self._boards: list[Board] = []
        if importlib.util.find_spec("tensorboard") is not None:
            self._boards.append(_TensorBoard(folder))
        if os.environ.get(MLFLOW_SERVER) and importlib.util.find_spec("mlflow") is not None:
            self._boards.append(_MLflow(folder))
        self._shown: int | None = None

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write all rows to the CSV file, and show those new since the last call on the boards."""
        with atomic_path(self._csv) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(history)
        # a run that goes on has shown every epoch but the last before it was killed
        first = len(history) - 1 if self._shown is None else self._shown
        for board in self._boards:
            for step, row in enumerate(history[first:], start=first):
                figures = {
                    f"{name}/{row['stage']}": row[name] for name in COLUMNS[2:] if name in row
                }
                board.show(figures, step)
            board.flush()
        self._shown = len(history)


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def show(self, figures: Mapping[str, float], step: int) -> None:
        for name, figure in figures.items():
            self._writer.add_scalar(name, figure, step)

    def flush(self) -> None:
        self._writer.flush()


class _MLflow:
    """A run on the server; one that cannot be reached costs the board, never the training."""

    def __init__(self, folder: Path) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # or it tells its makers of its use
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._error: type[Exception] = MlflowException
        self._client: Any = MlflowClient()
        self._run_id = ""
        try:
            self._run_id = self._run_of(folder / "mlflow-run")
        except self._error as error:
            self._give_up(error)

    def show(self, figures: Mapping[str, float], step: int) -> None:
        try:
            for name, figure in figures.items():
                if self._client is not None:
                    self._client.log_metric(self._run_id, name, figure, step=step)
        except self._error as error:
            self._give_up(error)

    def flush(self) -> None:
        """Nothing waits."""

    def _run_of(self, path: Path) -> str:
        """The run that the file names, or a new one: a training that goes on stays one run."""
        if path.exists():
            return path.read_text("utf-8")
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        run_id: str = self._client.create_run(experiment).info.run_id
        with atomic_path(path) as temporary:
            temporary.write_text(run_id, "utf-8")
        return run_id

    def _give_up(self, error: Exception) -> None:
        _log.warning(
            "MLflow cannot be reached (%s); losses go on in losses.csv", type(error).__name__
        )
        self._client = None
