"""What a run's losses are written to: losses.csv, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from label_config.files import atomic_path

COLUMNS = ("stage", "epoch", "loss", "held_back")


class LossLog:
    """Writes the history of a run; rows that stand there already are not written twice."""

    def __init__(self, folder: Path) -> None:
        self._csv = folder / "losses.csv"
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))
        self._on_board: int | None = None

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write all rows to the CSV file, and those new since the last call to TensorBoard."""
        with atomic_path(self._csv) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(history)
        if self._board is None:
            return
        # a run that goes on has shown every epoch but the last before it was killed
        first = len(history) - 1 if self._on_board is None else self._on_board
        for step, row in enumerate(history[first:], start=first):
            for figure in COLUMNS[2:]:
                if figure in row:
                    self._board.add_scalar(f"{figure}/{row['stage']}", row[figure], step)
        self._board.flush()
        self._on_board = len(history)
