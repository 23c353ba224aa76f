"""One trainer for all published extractors: the same features in, probabilities out.

Shapes: N EMRs, B of them in a minibatch, K codes, D width of a node.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from label_config.errors import ConfigError, DataError
from training.evaluate import micro_average_precision
from training.extractor import logits_of_frequency
from training.rival_batch import CodeFacts, word_batch
from training.rival_models import RIVALS, Rival, RivalConfig
from training.windows import minibatches_by_length
from training.words import RecordFeatures

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
WORDS_PER_MINIBATCH = 20_000
"""Of predictions."""


@dataclass(frozen=True, slots=True)
class Examples:
    """EMRs to learn from or to judge by: `weights_NK` (None: all 1) says what each cell counts."""

    features: Sequence[RecordFeatures]
    targets_NK: Bools
    weights_NK: Floats | None = None

    def __post_init__(self) -> None:
        shape = self.targets_NK.shape
        if len(self.features) != shape[0]:
            raise DataError(f"{len(self.features)} records need as many targets, got {shape[0]}")
        if self.weights_NK is not None and self.weights_NK.shape != shape:
            raise DataError(f"weights need the targets' shape {shape}, got {self.weights_NK.shape}")

    def select(self, rows: NDArray[np.int64]) -> Examples:
        """The given EMRs, in that order."""
        weights = self.weights_NK
        return Examples(
            [self.features[row] for row in rows],
            self.targets_NK[rows],
            None if weights is None else weights[rows],
        )


@dataclass(frozen=True, slots=True)
class FittedRival:
    """A trained model; `score` is its micro-averaged precision on the held-back EMRs, 0 to 1."""

    model: Rival
    config: RivalConfig
    score: float

    def predict(self, features: Sequence[RecordFeatures]) -> NDArray[np.float32]:
        """Return the probability of each code, shape (N, K), whatever the minibatches."""
        return _predict(self.model, features)


def fit(
    train: Examples,
    config: RivalConfig,
    facts: CodeFacts,
    *,
    held_back: Examples | None = None,
    device: torch.device | str = "cpu",
) -> FittedRival:
    """Train with Adam and end on the epoch that ranks the held-back EMRs best.

    Without `held_back`, `config.held_back` of the EMRs are taken for it. The same seed gives the
    same weights. Raises DataError for fewer than two EMRs or no code.
    """
    if len(train.features) < 2 or not train.targets_NK.shape[1]:
        raise DataError(f"a rival needs two EMRs and a code, got {train.targets_NK.shape}")
    rng = np.random.default_rng(config.seed)
    if held_back is None:
        order = rng.permutation(len(train.features))
        n_held = max(1, round(config.held_back * len(order)))
        train, held_back = train.select(order[n_held:]), train.select(order[:n_held])
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = RIVALS[config.model](
            config,
            node=train.features[0].states_VD.shape[1],
            summary=2 * len(train.features[0].cls_D),
            facts=facts,
        ).to(device)
        _start_bias(model, train.targets_NK)
        return FittedRival(model, config, _train(model, train, held_back, config, rng))


def tuned(
    train: Examples,
    configs: Iterable[RivalConfig],
    facts: CodeFacts,
    *,
    held_back: Examples | None = None,
    device: torch.device | str = "cpu",
) -> FittedRival:
    """The best of several settings by the held-back EMRs; of equal ones the first."""
    fits = [fit(train, c, facts, held_back=held_back, device=device) for c in configs]
    if not fits:
        raise ConfigError("tuning needs at least one setting, got none")
    return max(fits, key=lambda fitted: fitted.score)


def _train(
    model: Rival,
    train: Examples,
    held_back: Examples,
    config: RivalConfig,
    rng: np.random.Generator,
) -> float:
    """Train in place; return the best held-back score."""
    optimiser = torch.optim.Adam(model.parameters(), lr=config.lr)
    best, weights, waited = -1.0, copy.deepcopy(model.state_dict()), 0
    for _ in range(config.epochs):
        _run_epoch(model, train, optimiser, config.batch, rng)
        score = micro_average_precision(_predict(model, held_back.features), held_back.targets_NK)
        waited += 1
        if score > best:
            best, weights, waited = score, copy.deepcopy(model.state_dict()), 0
        if waited >= config.patience:
            break
    model.load_state_dict(weights)
    return best


def _run_epoch(
    model: Rival,
    train: Examples,
    optimiser: torch.optim.Optimizer,
    size: int,
    rng: np.random.Generator,
) -> None:
    model.train()
    device = model.bias_K.device
    order = rng.permutation(len(train.features))
    for start in range(0, len(order), size):
        part = train.select(order[start : start + size])
        targets_BK = _tensor(part.targets_NK, device)
        weights = part.weights_NK
        weights_BK = torch.ones_like(targets_BK) if weights is None else _tensor(weights, device)
        loss = model.loss(word_batch(part.features, device=device), targets_BK, weights_BK)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@torch.inference_mode()
def _predict(model: Rival, features: Sequence[RecordFeatures]) -> NDArray[np.float32]:
    model.eval()
    probs_NK = np.zeros((len(features), len(model.bias_K)), np.float32)
    lengths = [max(1, len(record.nodes_W)) for record in features]
    for rows in minibatches_by_length(lengths, WORDS_PER_MINIBATCH):
        batch = word_batch([features[row] for row in rows], device=model.bias_K.device)
        probs_NK[rows] = model(batch).sigmoid().cpu().numpy()
    return probs_NK


@torch.no_grad()
def _start_bias(model: Rival, targets_NK: Bools) -> None:
    """Start from how often each code occurs, as our own extractor does."""
    model.bias_K.copy_(logits_of_frequency(torch.from_numpy(targets_NK)))


def _tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).to(device)
