"""SimCSE on names: dropout views and names of one code pull together, the minibatch pushes apart.

The encoder stays frozen, because every other part reads it too; what learns is one residual linear
layer on its sentence vectors, so that 2,000 names take seconds on one core. Loss (Gao et al. 2021,
eq. 4, with names of the same code as further positives):

    l_i = -log( exp(sim(h_i, h_i+) / tau) / sum_j exp(sim(h_i, h_j+) / tau) )

Shapes: N names, D dimensions, P positive pairs, B minibatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout, normalize

from label_config.errors import ConfigError

Floats = npt.NDArray[np.float32]
_NEVER = -1e4
"""A logit that stands for "not a negative"; finite, so that no row can become NaN."""


@dataclass(frozen=True, slots=True)
class SimCSEConfig:
    """How the name layer trains."""

    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    dropout: float = 0.3
    """Share of the encoder's features hidden in each of the two views."""
    temperature: float = 0.1
    """tau: low means that near negatives count most."""

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 2:
            raise ConfigError(
                "SimCSE needed epochs >= 0 and batch_size >= 2, "
                f"got {self.epochs} and {self.batch_size}"
            )
        if not 0 < self.dropout < 1 or self.temperature <= 0:
            raise ConfigError(
                "SimCSE needed dropout inside 0 to 1 and temperature above 0, "
                f"got {self.dropout} and {self.temperature}"
            )


def train_layer(
    embeddings_ND: Floats,
    pairs: Sequence[tuple[int, int]],
    groups: Sequence[int],
    *,
    config: SimCSEConfig,
    seed: int = 0,
) -> Floats:
    """Return the layer's (D, D) matrix A; a name's vector becomes normalise(x + x A).

    `pairs` are rows that mean the same ((i, i) for two dropout views of one name). `groups` (N,)
    holds a number per name; names with the same one (>= 0) are never each other's negatives.
    """
    D = embeddings_ND.shape[1]
    if not pairs or config.epochs == 0:
        return np.zeros((D, D), dtype=np.float32)
    generator = torch.Generator().manual_seed(seed)
    x_ND, group_N = torch.from_numpy(embeddings_ND), torch.tensor(groups)
    pairs_P2 = torch.tensor(pairs)
    A = torch.zeros(D, D, requires_grad=True)
    optimiser = torch.optim.AdamW([A], lr=config.learning_rate, weight_decay=config.weight_decay)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(config.epochs):
            order = torch.randperm(len(pairs_P2), generator=generator)
            for start in range(0, len(order), config.batch_size):
                one, other = pairs_P2[order[start : start + config.batch_size]].unbind(1)
                first_BD = _apply(dropout(x_ND[one], config.dropout), A)
                second_BD = _apply(dropout(x_ND[other], config.dropout), A)
                loss = _info_nce(first_BD, second_BD, group_N[one], one, config.temperature)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return A.detach().numpy().astype(np.float32)


def apply_layer(embeddings_ND: Floats, A_DD: Floats, strength: float = 1.0) -> Floats:
    """normalise(x + strength * x A), rows of length 1."""
    moved = embeddings_ND + strength * (embeddings_ND @ A_DD)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(length, 1e-9), dtype=np.float32)


def _apply(x_BD: Tensor, A: Tensor) -> Tensor:
    return normalize(x_BD + x_BD @ A, dim=-1)


def _info_nce(
    first_BD: Tensor, second_BD: Tensor, group_B: Tensor, row_B: Tensor, tau: float
) -> Tensor:
    logits_BB = first_BD @ second_BD.T / tau
    alike = (group_B[:, None] == group_B[None]) & (group_B[:, None] >= 0)
    alike |= row_B[:, None] == row_B[None]
    alike.fill_diagonal_(False)
    target_B = torch.arange(len(logits_BB))
    return cross_entropy(logits_BB.masked_fill(alike, _NEVER), target_B)
