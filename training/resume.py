"""A training run that may be killed at any moment: its state on disk, and how it goes on.

A run folder holds `state-N`, its N-th state: a folder written whole or not at all, with the
weights, the optimiser, both random generators, and where in which stage the run stands. A run
that goes on from a state ends on the same weights, bit for bit on one processor.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor

from label_config.errors import CheckpointError
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.extractor import Extractor
from training.loss_log import LossLog
from training.parallel import Workers

KIND = "training state"
SECONDS_BETWEEN_STATES = 60.0


@dataclass(slots=True)
class TrainState:
    """Everything that changes while training, in one place."""

    extractor: Extractor
    optimiser: torch.optim.Optimizer
    rng: np.random.Generator
    stage: int = 0
    """Which stage is running, counted from 0."""
    epoch: int = 0
    """Epochs of this stage that are done."""
    minibatch: int = 0
    """Minibatches of this epoch that are done."""
    losses: list[float] = field(default_factory=list)
    """Of this epoch's minibatches."""
    before_epoch: Mapping[str, Any] = field(default_factory=dict)
    """The generator as it was before it drew this epoch's order."""
    best_score: float = -1.0
    """Of this stage's epochs, on the held-back EMRs."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0
    """Epochs since then."""
    saves: int = 0
    """How often this state has been saved."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per epoch: stage, epoch, loss, and the held-back score where there is one."""

    def enter(self, stage: int) -> None:
        """Stand at the beginning of a stage."""
        self.stage, self.epoch, self.minibatch, self.losses = stage, 0, 0, []
        self.best_score, self.best_weights, self.waited = -1.0, {}, 0

    def remember(self, score: float) -> None:
        """Keep the weights of an epoch that scored better than all before it."""
        self.waited += 1
        if score > self.best_score:
            self.best_score, self.waited = score, 0
            self.best_weights = copy.deepcopy(self.extractor.state_dict())


_PLACE = (
    "stage",
    "epoch",
    "minibatch",
    "losses",
    "before_epoch",
    "best_score",
    "waited",
    "saves",
    "history",
)


class RunFolder:
    """Where one run keeps its state; without a folder nothing is kept."""

    def __init__(
        self,
        folder: Path | None,
        run: Mapping[str, Any],
        *,
        seconds: float = SECONDS_BETWEEN_STATES,
    ) -> None:
        """`run` (settings, codes, data) says which run this is: another one's state is refused."""
        self.folder = folder
        self.seconds = seconds
        content = json.dumps(run, sort_keys=True, default=str)
        self._run = hashlib.sha256(content.encode()).hexdigest()
        self._saved = monotonic()
        self._writes = folder is not None and Workers.of_environment().rank == 0
        self._log = LossLog(folder) if folder is not None and self._writes else None

    def restore(self, state: TrainState) -> bool:
        """Put the newest state into `state`; False if there is none yet.

        Raises CheckpointError, naming it, for a damaged state or that of another run.
        """
        if self.folder is None or not (found := sorted(self.folder.glob("state-*"))):
            return False
        newest = found[-1]
        place = open_checkpoint(newest, kind=KIND)
        if place.get("run") != self._run:
            raise CheckpointError(
                f"{newest} belongs to a run with other data or settings: "
                "give this run a folder of its own"
            )
        try:
            _fill(state, place, load_tensors(newest / "state.safetensors"))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{newest} does not fit this version: {error}") from error
        return True

    def save_if_due(self, state: TrainState) -> None:
        """Save if the last time was long enough ago."""
        if monotonic() - self._saved >= self.seconds:
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Write the state, then remove the older ones and what a killed run left half-written."""
        if self.folder is None or not self._writes:
            return
        litter = list(self.folder.glob("*state-*"))
        state.saves += 1  # a name of its own: a state is never replaced, only outdated
        place = {name: getattr(state, name) for name in _PLACE} | {"run": self._run}

        def write(to: Path) -> None:
            save_tensors(to / "state.safetensors", _tensors(state))

        target = self.folder / f"state-{state.saves:08}"
        save_checkpoint(target, kind=KIND, config=place, write=write)
        for path in litter:
            shutil.rmtree(path, ignore_errors=True)
        self._saved = monotonic()

    def log(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Bring the losses on disk up to date."""
        if self._log is not None:
            self._log.write(history)


def _tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {f"weights.{name}": t for name, t in state.extractor.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in state.best_weights.items()}
    for row, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{row}.{name}": t for name, t in moments.items()}
    tensors["random"] = torch.get_rng_state()
    if state.extractor.device.type == "cuda":
        tensors["random_of_device"] = torch.cuda.get_rng_state(state.extractor.device)
    return tensors


def _fill(state: TrainState, place: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    device = state.extractor.device
    state.extractor.load_state_dict(_under("weights.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimiser.", tensors).items():
        row, moment = name.split(".")
        moments.setdefault(int(row), {})[moment] = tensor
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    for name in _PLACE:
        setattr(state, name, place[name])
    best = _under("best.", tensors)
    state.best_weights = {name: tensor.to(device) for name, tensor in best.items()}
    if state.before_epoch:  # empty where no epoch was begun
        state.rng.bit_generator.state = state.before_epoch
    torch.set_rng_state(tensors["random"])
    if "random_of_device" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random_of_device"], device)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
