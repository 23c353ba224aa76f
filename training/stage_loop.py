"""Runs the three stages on one extractor: epochs, minibatches, the best weights, what is kept.

Shapes: N EMRs, B of them in a minibatch, K codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.encoder import has_bfloat16
from training.evaluate import micro_average_precision
from training.extractor import Extracted, Extractor
from training.graph import pack
from training.network import run_graphs
from training.objectives import clean_objective, noisy_objective, raw_objective
from training.parallel import Workers
from training.resume import RunFolder, TrainState
from training.stage_config import StageName, StagesConfig
from training.stage_data import StageData, split_held_back

Objective = Callable[[Extracted, NDArray[np.int64]], Tensor]
"""What the network said of a minibatch, and which rows of the stage's data it was."""
Progress = Callable[[str, int, int], None]
"""Called with (what is running, done, total)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what it reads, what it minimises, and what tells its best epoch."""

    name: StageName
    data: StageData
    objective: Objective
    epochs: int
    held_back: StageData | None = None
    codes: bool = True
    """Whether the objective reads what the network says of codes."""


def train_stages(
    extractor: Extractor,
    raw: StageData,
    noisy: StageData,
    clean: StageData,
    config: StagesConfig,
    progress: Progress | None = None,
    *,
    keep: RunFolder | None = None,
) -> list[dict[str, Any]]:
    """Run stages 1, 2 and 3 on one extractor, in place; return the history.

    With `keep`, go on from the state that it holds.
    """
    state = TrainState(
        extractor, optimiser_of(extractor, config), np.random.default_rng(config.seed)
    )
    clean, held_back = split_held_back(clean, config.held_back, state.rng)

    stages = stages_of(raw, noisy, clean, config, held_back)
    workers = Workers.of_environment()
    keep = keep or RunFolder(None, {})
    keep.restore(state)
    for number in range(state.stage, len(stages)):
        stage = stages[number]
        if state.epoch == state.minibatch == 0:
            state.optimiser = optimiser_of(extractor, config)
            if stage.name == "noisy":
                extractor.attend.start_bias(torch.cat([noisy.targets_NK, clean.targets_NK]))
        _run_stage(state, stage, config, keep, workers, progress)
        state.enter(number + 1)
    keep.save(state)
    return state.history


def stages_of(
    raw: StageData,
    noisy: StageData,
    clean: StageData,
    config: StagesConfig,
    held_back: StageData | None = None,
) -> tuple[Stage, ...]:
    """Stages 1, 2 and 3 on these EMRs."""

    def on_raw(said: Extracted, rows: NDArray[np.int64]) -> Tensor:
        return raw_objective(said, config.raw)

    def on_noisy(said: Extracted, rows: NDArray[np.int64]) -> Tensor:
        targets_BK, weights_BK = noisy.targets_NK[rows], noisy.weights_NK[rows]
        device = said.z_BH.device
        return noisy_objective(said, targets_BK.to(device), weights_BK.to(device), config.noisy)

    def on_clean(said: Extracted, rows: NDArray[np.int64]) -> Tensor:
        targets_BK, marked_P3 = clean.targets_NK[rows], clean.marked_in(rows)
        device = said.z_BH.device
        return clean_objective(
            said, targets_BK.to(device), marked_P3.to(device), config.clean, config.raw
        )

    return (
        Stage("raw", raw, on_raw, config.raw.epochs, codes=False),
        Stage(
            "noisy",
            noisy,
            on_noisy,
            config.noisy.epochs,
            held_back if config.noisy.codes else None,
            codes=config.noisy.codes > 0,
        ),
        Stage("clean", clean, on_clean, config.clean.epochs, held_back),
    )


def _run_stage(
    state: TrainState,
    stage: Stage,
    config: StagesConfig,
    keep: RunFolder,
    workers: Workers,
    progress: Progress | None,
) -> None:
    """Train one stage from where it stands; with held-back EMRs, end on the best weights."""
    epochs = stage.epochs if stage.data.graphs else 0
    while state.epoch < epochs and state.waited < config.patience:
        _run_epoch(state, stage, config, keep, workers)
        loss = workers.mean(float(np.mean(state.losses)), state.extractor.device)
        row: dict[str, Any] = {"stage": stage.name, "epoch": state.epoch + 1, "loss": loss}
        if stage.held_back is not None:
            score = held_back_score(state.extractor, stage.held_back)
            row["held_back"] = workers.mean(score, state.extractor.device)
            state.remember(row["held_back"])
        state.history.append(row)
        state.epoch, state.minibatch, state.losses = state.epoch + 1, 0, []
        keep.log(state.history)
        if progress is not None:
            progress(stage.name, state.epoch, epochs)
    if state.best_weights:
        state.extractor.load_state_dict(state.best_weights)


def _run_epoch(
    state: TrainState, stage: Stage, config: StagesConfig, keep: RunFolder, workers: Workers
) -> None:
    """Train on the minibatches of this epoch that are still to come."""
    extractor = state.extractor.train()
    state.before_epoch = state.rng.bit_generator.state
    order = state.rng.permutation(len(stage.data.graphs))
    starts = range(0, len(order), config.batch)
    minibatches = workers.share([order[start : start + config.batch] for start in starts])
    for rows in minibatches[state.minibatch :]:
        state.losses.append(take_step(extractor, state.optimiser, stage, rows, config, workers))
        state.minibatch += 1
        keep.save_if_due(state)


def take_step(
    extractor: Extractor,
    optimiser: torch.optim.Optimizer,
    stage: Stage,
    rows: NDArray[np.int64],
    config: StagesConfig,
    workers: Workers,
) -> float:
    """One step on these rows of the stage's EMRs; return its loss."""
    mixed = config.precision == "bfloat16"
    mixed = mixed or (config.precision == "auto" and has_bfloat16(extractor.device))
    batch = pack(
        [stage.data.graphs[row] for row in rows],
        device=extractor.device,
        dtype=torch.bfloat16 if mixed else torch.float32,
        width=extractor.width,
    )
    with torch.autocast(extractor.device.type, torch.bfloat16, enabled=mixed):
        said = extractor(batch, codes=stage.codes)
    loss = stage.objective(said, rows)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    workers.average_gradients(extractor)
    optimiser.step()
    return loss.item()


def held_back_score(extractor: Extractor, data: StageData) -> float:
    """By what an epoch is chosen."""
    probs_NK = run_graphs(extractor, data.graphs)[0]
    return micro_average_precision(probs_NK, data.targets_NK.numpy())


def optimiser_of(extractor: Extractor, config: StagesConfig) -> torch.optim.Optimizer:
    """A new one, as every stage begins with."""
    return torch.optim.Adam(extractor.parameters(), lr=config.lr, weight_decay=config.weight_decay)
