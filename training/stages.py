"""The three stages: raw EMRs teach the reading, noisy codes the codes, clean codes the truth.

Shapes: N EMRs, B of them in a minibatch, K codes, D encoder width.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
from training.datastore import Datastore
from training.encoder import Encoder
from training.extractor import Extracted, Extractor
from training.features import FeatureStore
from training.graph import pack
from training.losses import code_loss, evidence_loss, info_nce, label_contrastive
from training.network import Network, build_graphs, run_graphs
from training.stage_config import CleanConfig, NoisyConfig, RawConfig, StagesConfig
from training.stage_data import StageData, name_states, split_held_back, stage_data

__all__ = [
    "CleanConfig",
    "Network",
    "NoisyConfig",
    "RawConfig",
    "StagesConfig",
    "train_network",
    "train_stages",
]

StageName = Literal["raw", "noisy", "clean"]
Loss = Callable[[Extracted, NDArray[np.int64]], Tensor]
"""What the network said of a minibatch, and which rows of the stage's data it was."""
Progress = Callable[[str, int, int], None]
"""Called with (what is running, done, total)."""


@dataclass(slots=True)
class TrainState:
    """Everything that changes while training, in one place."""

    extractor: Extractor
    optimiser: torch.optim.Optimizer
    rng: np.random.Generator
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per epoch: stage, epoch, loss, and the held-back score where there is one."""


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
    progress: Progress | None = None,
) -> Network:
    """Encode, train the three stages, fill the datastore; a stage without EMRs is left out.

    `cache` is the folder of the feature cache (None keeps features in memory). Codes outside
    `codes` are ignored. Raises DataError if EMRs and codings do not belong together.
    """
    config = config or StagesConfig.best()
    if not codes:
        raise ConfigError("training needs at least one code, got none")
    emrs = [*emrs_raw, *emrs_noisy, *emrs_clean]
    if not emrs:
        raise DataError("training needs at least one EMR, got none")
    store = FeatureStore(encoder, cache)
    features = store.features(emrs, progress=_named(progress, "encode"))
    graphs = build_graphs(features, config.extractor)
    first_clean = len(emrs_raw) + len(emrs_noisy)
    raw = StageData(graphs[: len(emrs_raw)])
    noisy = stage_data(graphs[len(emrs_raw) : first_clean], emrs_noisy, codings_noisy, codes)
    clean = stage_data(graphs[first_clean:], emrs_clean, codings_clean, codes)

    torch.manual_seed(config.seed)
    extractor = Extractor(config.extractor, encoder_dim=encoder.dim, n_codes=len(codes))
    if config.start_from_names:
        extractor.start_from_names(torch.from_numpy(name_states(encoder, taxonomy, codes)))
    history = train_stages(extractor.to(encoder.device), raw, noisy, clean, config, progress)

    _, z_NH = run_graphs(extractor, clean.graphs)
    provenance = {
        "settings": dataclasses.asdict(config),
        "data": {
            "raw": data_hash(emrs_raw),
            "noisy": [data_hash(emrs_noisy), data_hash(codings_noisy)],
            "clean": [data_hash(emrs_clean), data_hash(codings_clean)],
        },
        "history": history,
    }
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
) -> list[dict[str, Any]]:
    """Run stages 1, 2 and 3 on one extractor, in place; return the history."""
    state = TrainState(extractor, _optimiser(extractor, config), np.random.default_rng(config.seed))
    clean, held_back = split_held_back(clean, config.held_back, state.rng)

    def raw_loss(said: Extracted, rows: NDArray[np.int64]) -> Tensor:
        return info_nce(said.z_BH, said.summary_BH, tau=config.raw.tau)

    def noisy_loss(said: Extracted, rows: NDArray[np.int64]) -> Tensor:
        step, targets_BK = config.noisy, noisy.targets_NK[rows]
        loss = step.contrastive * label_contrastive(
            said.z_BH, targets_BK, tau=step.tau, overlap=step.overlap
        )
        if step.codes:
            loss = loss + step.codes * code_loss(said.logits_BK, targets_BK, noisy.weights_NK[rows])
        return loss

    def clean_loss(said: Extracted, rows: NDArray[np.int64]) -> Tensor:
        step, targets_BK = config.clean, clean.targets_NK[rows]
        loss = (
            step.theta * code_loss(said.logits_BK, targets_BK)
            + step.gamma
            * label_contrastive(said.z_BH, targets_BK, tau=step.tau, overlap=step.overlap)
            + step.delta * info_nce(said.z_BH, said.summary_BH, tau=config.raw.tau)
        )
        if step.evidence:
            marked_P3 = clean.marked_in(rows).to(loss.device)
            loss = loss + step.evidence * evidence_loss(said.attention_BKS, marked_P3)
        return loss

    _run_stage(state, "raw", raw, raw_loss, config, None, progress)
    extractor.attend.start_bias(torch.cat([noisy.targets_NK, clean.targets_NK]))
    checked = held_back if config.noisy.codes else None
    _run_stage(state, "noisy", noisy, noisy_loss, config, checked, progress)
    _run_stage(state, "clean", clean, clean_loss, config, held_back, progress)
    return state.history


def _run_stage(
    state: TrainState,
    name: StageName,
    data: StageData,
    loss_of: Loss,
    config: StagesConfig,
    held_back: StageData | None,
    progress: Progress | None,
) -> None:
    """Train one stage; with held-back EMRs, end on the weights of its best epoch."""
    epochs = getattr(config, name).epochs if data.graphs else 0
    state.optimiser = _optimiser(state.extractor, config)
    best_score, best_weights, waited = -1.0, None, 0
    for epoch in range(epochs):
        state.extractor.train()
        losses = []
        for rows in _shuffled(len(data.graphs), config.batch, state.rng):
            batch = pack([data.graphs[r] for r in rows], device=state.extractor.device)
            loss = loss_of(state.extractor(batch), rows)
            state.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimiser.step()
            losses.append(loss.item())
        row: dict[str, Any] = {"stage": name, "epoch": epoch + 1, "loss": float(np.mean(losses))}
        state.history.append(row)
        if progress is not None:
            progress(name, epoch + 1, epochs)
        if held_back is None:
            continue
        row["held_back"] = score = held_back_score(state.extractor, held_back)
        waited += 1
        if score > best_score:
            best_score, waited = score, 0
            best_weights = copy.deepcopy(state.extractor.state_dict())
        if waited >= config.patience:
            break
    if best_weights is not None:
        state.extractor.load_state_dict(best_weights)


def held_back_score(extractor: Extractor, data: StageData) -> float:
    """Micro-averaged precision over all (EMR, code) pairs, 0 to 1; needs no threshold."""
    probs_NK = run_graphs(extractor, data.graphs)[0]
    truth = data.targets_NK.numpy().ravel()
    return float(average_precision_score(truth, probs_NK.ravel())) if truth.any() else 0.0


def _optimiser(extractor: Extractor, config: StagesConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(extractor.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def _shuffled(n: int, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    order = rng.permutation(n)
    for start in range(0, n, batch):
        yield order[start : start + batch]


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(what, done, total)
