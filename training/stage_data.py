"""What a stage trains on: graphs with their codes, and the clean EMRs held back to judge it.

Shapes: N EMRs, K codes, P marked words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from label_config.errors import DataError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.encoder import Encoder
from training.evidence import marked_nodes
from training.graph import RecordGraph
from training.words import record_features

MIN_HELD_BACK = 10
"""Fewer held-back EMRs could not tell one epoch from another."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher says of some EMRs, with codings or without: the probability of each code."""

    emrs: Sequence[EMR]
    probs_NK: NDArray[np.float64]

    def without(self, emr_ids: Collection[str]) -> Taught:
        """What it says of the others."""
        rows = [row for row, emr in enumerate(self.emrs) if emr.emr_id not in emr_ids]
        return Taught([self.emrs[row] for row in rows], self.probs_NK[rows])

    def hash(self) -> str:
        """Of whom it speaks and what it says, 16 hex digits."""
        digest = hashlib.sha256("\n".join(emr.emr_id for emr in self.emrs).encode())
        digest.update(np.ascontiguousarray(self.probs_NK, np.float32).tobytes())
        return digest.hexdigest()[:16]


@dataclass(slots=True)
class StageData:
    """The EMRs of one stage; only `graphs` is filled in stage 1.

    `targets_NK` lie in 0 to 1; `weights_NK` says how much each cell counts; `marked` lists per EMR
    the (code, node) pairs that evidence marks.
    """

    graphs: list[RecordGraph]
    targets_NK: Tensor = field(default_factory=lambda: torch.zeros(0))
    weights_NK: Tensor = field(default_factory=lambda: torch.zeros(0))
    marked: list[NDArray[np.int64]] = field(default_factory=list)

    def select(self, rows: NDArray[np.int64]) -> StageData:
        """The given EMRs, in that order."""
        return StageData(
            [self.graphs[row] for row in rows],
            self.targets_NK[rows],
            self.weights_NK[rows],
            [self.marked[row] for row in rows],
        )

    def marked_in(self, rows: NDArray[np.int64]) -> Tensor:
        """The (EMR, code, node) triples of a minibatch, shape (P, 3)."""
        triples = [np.insert(self.marked[row], 0, place, axis=1) for place, row in enumerate(rows)]
        return torch.from_numpy(np.concatenate(triples))


def stage_data(
    graphs: list[RecordGraph],
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
    codes: Sequence[str],
) -> StageData:
    """Pair graphs with their codes: targets 0 or 1; a noisy code weighs its confidence.

    Raises DataError if EMRs and codings do not belong together.
    """
    targets_NK, weights_NK = targets_of(emrs, codings, codes)
    column = {code: index for index, code in enumerate(codes)}
    marked = [marked_nodes(g.features, c, column) for g, c in zip(graphs, codings, strict=True)]
    return StageData(graphs, targets_NK, weights_NK, marked)


def targets_of(
    emrs: Sequence[EMR], codings: Sequence[Coding], codes: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Targets 0 or 1 and their weights, both (N, K): a noisy code weighs its confidence.

    Raises DataError if EMRs and codings do not belong together.
    """
    if [e.emr_id for e in emrs] != [c.emr_id for c in codings]:
        raise DataError(
            f"each EMR needs its own coding, in the same order; got {len(emrs)} EMRs "
            f"and {len(codings)} codings"
        )
    column = {code: index for index, code in enumerate(codes)}
    targets_NK = torch.zeros(len(emrs), len(codes))
    weights_NK = torch.ones(len(emrs), len(codes))
    for row, coding in enumerate(codings):
        confidence = coding.confidence or (1.0,) * len(coding.codes)
        for code, certain in zip(coding.codes, confidence, strict=True):
            if code in column:
                targets_NK[row, column[code]] = 1.0
                weights_NK[row, column[code]] = certain
    return targets_NK, weights_NK


def with_teacher(
    data: StageData,
    emrs: Sequence[EMR],
    taught: Taught,
    graph_of: Mapping[str, RecordGraph],
    *,
    weight: float,
) -> StageData:
    """Add a teacher's soft targets (Hinton et al. 2015) to those of the stage's own `emrs`.

    Both losses over codes are linear in the target, so one cell serves for two: w * loss(t) +
    `weight` * loss(p) = (w + weight) * loss((w t + weight p) / (w + weight)). EMRs that only the
    teacher speaks of are added, `graph_of` has their graphs by emr_id.
    """
    row_of = {emr.emr_id: row for row, emr in enumerate(emrs)}
    added = [emr.emr_id for emr in taught.emrs if emr.emr_id not in row_of]
    row_of |= {emr_id: len(emrs) + row for row, emr_id in enumerate(added)}
    nothing = torch.zeros(len(added), data.targets_NK.shape[1])
    targets_NK = torch.cat([data.targets_NK, nothing])
    weights_NK = torch.cat([data.weights_NK, nothing])
    rows = [row_of[emr.emr_id] for emr in taught.emrs]
    own_NK, both_NK = weights_NK[rows], weights_NK[rows] + weight
    said_NK = torch.from_numpy(np.asarray(taught.probs_NK, np.float32))
    targets_NK[rows] = (own_NK * targets_NK[rows] + weight * said_NK) / both_NK
    weights_NK[rows] = both_NK
    graphs = data.graphs + [graph_of[emr_id] for emr_id in added]
    marked = [*data.marked, *(np.zeros((0, 2), np.int64) for _ in added)]
    return StageData(graphs, targets_NK, weights_NK, marked)


def split_held_back(
    data: StageData, share: float, rng: np.random.Generator
) -> tuple[StageData, StageData | None]:
    """Keep a random share of the EMRs back; none if they would be too few to tell epochs apart."""
    kept, held_back = held_back_rows(len(data.graphs), share, rng)
    return (data.select(kept), data.select(held_back)) if len(held_back) else (data, None)


def held_back_rows(
    n: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to train on and those kept back, each in order; see `split_held_back`."""
    n_held = round(share * n)
    if n_held < MIN_HELD_BACK:
        return np.arange(n), np.zeros(0, np.int64)
    order = rng.permutation(n)
    return np.sort(order[n_held:]), np.sort(order[:n_held])


def name_states(
    encoder: Encoder, taxonomy: Taxonomy, codes: Sequence[str], *, hierarchy: float = 0.0
) -> NDArray[np.float32]:
    """The mean node state of each code's title and synonyms, shape (K, feature_dim).

    A share of `hierarchy` (0 to 1) comes from the codes above and right below it, the mean over
    those; a code that stands alone keeps its own.
    """
    if not hierarchy:
        return _states(encoder, taxonomy, codes)
    around = [(*taxonomy.ancestors(code), *taxonomy.children(code)) for code in codes]
    wanted = list(dict.fromkeys([*codes, *(code for near in around for code in near)]))
    state_of = dict(zip(wanted, _states(encoder, taxonomy, wanted), strict=True))
    mixed = []
    for code, near in zip(codes, around, strict=True):
        above_and_below = np.mean([state_of[c] for c in near or (code,)], axis=0)
        mixed.append((1.0 - hierarchy) * state_of[code] + hierarchy * above_and_below)
    return np.stack(mixed).astype(np.float32)


def _states(encoder: Encoder, taxonomy: Taxonomy, codes: Sequence[str]) -> NDArray[np.float32]:
    texts = [{"names": "\n".join(taxonomy.names(code))} for code in codes]
    return np.stack(
        [f.states_VD.mean(0, dtype=np.float32) for f in record_features(encoder, texts)]
    )
