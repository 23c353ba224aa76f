"""The three stages: raw EMRs teach the reading, noisy codes the codes, clean codes the truth.

Shapes: N EMRs, B of them in a minibatch, K codes, D encoder width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor

from label_config.errors import ConfigError, DataError
from label_config.files import data_hash
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.adapt import adapt_encoder
from training.datastore import Datastore
from training.encoder import Encoder, has_bfloat16
from training.extractor import Extracted, Extractor
from training.features import FeatureStore
from training.graph import pack
from training.network import Network, build_graphs, run_graphs
from training.objectives import clean_objective, noisy_objective, raw_objective
from training.parallel import Workers
from training.resume import RunFolder, TrainState
from training.stage_config import CleanConfig, NoisyConfig, RawConfig, StagesConfig
from training.stage_data import (
    StageData,
    Taught,
    name_states,
    split_held_back,
    stage_data,
    with_teacher,
)

__all__ = [
    "CleanConfig",
    "Network",
    "NoisyConfig",
    "RawConfig",
    "StagesConfig",
    "Taught",
    "train_network",
    "train_stages",
]

Objective = Callable[[Extracted, NDArray[np.int64]], Tensor]
"""What the network said of a minibatch, and which rows of the stage's data it was."""
Progress = Callable[[str, int, int], None]
"""Called with (what is running, done, total)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what it reads, what it minimises, and what tells its best epoch."""

    name: Literal["raw", "noisy", "clean"]
    data: StageData
    objective: Objective
    epochs: int
    held_back: StageData | None = None


def train_network(
    emrs_raw: Sequence[EMR],
    emrs_noisy: Sequence[EMR],
    codings_noisy: Sequence[Coding],
    emrs_clean: Sequence[EMR],
    codings_clean: Sequence[Coding],
    *,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    encoder: Encoder,
    config: StagesConfig | None = None,
    cache: Path | None = None,
    run_folder: Path | None = None,
    taught: Taught | None = None,
    progress: Progress | None = None,
) -> Network:
    """Encode, train the three stages, fill the datastore; a stage without EMRs is left out.

    Under torchrun every process trains on its own minibatches and returns the same network.

    `cache` is the folder of the feature cache (None keeps features in memory). In `run_folder` the
    run keeps its state and writes its losses; called again after a kill, it goes on from there.
    With `config.noisy.taught` stage 2 also learns what a teacher says, `taught`, of its own EMRs
    and others. Codes outside `codes` are ignored. Raises DataError if EMRs and codings do not
    belong together, CheckpointError if `run_folder` holds a damaged state or that of another run.
    """
    config = config or StagesConfig.best()
    if not codes:
        raise ConfigError("training needs at least one code, got none")
    if config.noisy.taught and taught is None:
        raise ConfigError("noisy.taught needs what a teacher says, got none")
    taught = taught if config.noisy.taught else None
    emrs = [*emrs_raw, *emrs_noisy, *emrs_clean]
    emrs += [] if taught is None else _others(taught.emrs, emrs)
    if not emrs:
        raise DataError("training needs at least one EMR, got none")
    workers = Workers.of_environment()
    if config.adapt is not None:
        plain, adapt = encoder, config.adapt
        encoder = workers.first_alone(
            lambda: adapt_encoder(
                plain,
                emrs_clean,
                codings_clean,
                codes=codes,
                config=adapt,
                also=(emrs_noisy, codings_noisy),
                held_back=config.held_back,
                seed=config.seed,
                keep=run_folder and run_folder / "adapter",
                progress=_named(progress, "fine-tune the encoder"),
            )
        )
    features = workers.first_alone(
        lambda: FeatureStore(encoder, cache).features(emrs, progress=_named(progress, "encode"))
    )
    graphs = build_graphs(features, config.extractor)
    first_clean = len(emrs_raw) + len(emrs_noisy)
    raw = StageData(graphs[: len(emrs_raw)])
    noisy = stage_data(graphs[len(emrs_raw) : first_clean], emrs_noisy, codings_noisy, codes)
    last_clean = first_clean + len(emrs_clean)
    clean = stage_data(graphs[first_clean:last_clean], emrs_clean, codings_clean, codes)
    if taught is not None:
        graph_of = {emr.emr_id: graph for emr, graph in zip(emrs, graphs, strict=True)}
        noisy = with_teacher(noisy, emrs_noisy, taught, graph_of, weight=config.noisy.taught)

    torch.manual_seed(config.seed)
    extractor = Extractor(config.extractor, encoder_dim=encoder.dim, n_codes=len(codes))
    if config.start_from_names:
        states_KD = name_states(encoder, taxonomy, codes, hierarchy=config.hierarchy)
        extractor.start_from_names(torch.from_numpy(states_KD))
    provenance: dict[str, Any] = {
        "settings": dataclasses.asdict(config),
        "data": {
            "raw": data_hash(emrs_raw),
            "noisy": [data_hash(emrs_noisy), data_hash(codings_noisy)],
            "clean": [data_hash(emrs_clean), data_hash(codings_clean)],
            "taught": taught.hash() if taught else None,
        },
    }
    run = {
        **provenance,
        "codes": list(codes),
        "encoder": encoder.fingerprint,
        "processes": workers.count,
    }
    provenance["history"] = train_stages(
        extractor.to(encoder.device),
        raw,
        noisy,
        clean,
        config,
        progress,
        keep=RunFolder(run_folder, run),
    )
    _, z_NH = run_graphs(extractor, clean.graphs)
    return Network(
        extractor,
        codes=codes,
        encoder=encoder,
        datastore=Datastore.build(z_NH, emrs_clean, codings_clean, codes),
        knn=config.knn,
        provenance=provenance,
    )


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
    state = TrainState(extractor, _optimiser(extractor, config), np.random.default_rng(config.seed))
    clean, held_back = split_held_back(clean, config.held_back, state.rng)

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

    stages = (
        Stage("raw", raw, on_raw, config.raw.epochs),
        Stage(
            "noisy", noisy, on_noisy, config.noisy.epochs, held_back if config.noisy.codes else None
        ),
        Stage("clean", clean, on_clean, config.clean.epochs, held_back),
    )
    workers = Workers.of_environment()
    keep = keep or RunFolder(None, {})
    keep.restore(state)
    for number in range(state.stage, len(stages)):
        stage = stages[number]
        if state.epoch == state.minibatch == 0:
            state.optimiser = _optimiser(extractor, config)
            if stage.name == "noisy":
                extractor.attend.start_bias(torch.cat([noisy.targets_NK, clean.targets_NK]))
        _run_stage(state, stage, config, keep, workers, progress)
        state.enter(number + 1)
    keep.save(state)
    return state.history


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
    extractor, graphs = state.extractor.train(), stage.data.graphs
    state.before_epoch = state.rng.bit_generator.state
    order = state.rng.permutation(len(graphs))
    starts = range(0, len(order), config.batch)
    mixed = config.precision == "bfloat16"
    mixed = mixed or (config.precision == "auto" and has_bfloat16(extractor.device))
    minibatches = workers.share([order[start : start + config.batch] for start in starts])
    for rows in minibatches[state.minibatch :]:
        batch = pack(
            [graphs[row] for row in rows],
            device=extractor.device,
            dtype=torch.bfloat16 if mixed else torch.float32,
        )
        with torch.autocast(extractor.device.type, torch.bfloat16, enabled=mixed):
            said = extractor(batch)
        loss = stage.objective(said, rows)
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        workers.average_gradients(extractor)
        state.optimiser.step()
        state.losses.append(loss.item())
        state.minibatch += 1
        keep.save_if_due(state)


def held_back_score(extractor: Extractor, data: StageData) -> float:
    """Micro-averaged precision over all (EMR, code) pairs, 0 to 1; needs no threshold."""
    probs_NK = run_graphs(extractor, data.graphs)[0]
    truth = data.targets_NK.numpy().ravel()
    return float(average_precision_score(truth, probs_NK.ravel())) if truth.any() else 0.0


def _optimiser(extractor: Extractor, config: StagesConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(extractor.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def _others(emrs: Sequence[EMR], known: Sequence[EMR]) -> list[EMR]:
    ids = {emr.emr_id for emr in known}
    return [emr for emr in emrs if emr.emr_id not in ids]


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(what, done, total)
