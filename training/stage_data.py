"""What a stage trains on: graphs with their codes, and the clean EMRs held back to judge it.

Shapes: N EMRs, K codes, P marked words.
"""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(slots=True)
class StageData:
    """The EMRs of one stage; only `graphs` is filled in stage 1.

    `weights_NK` says how much each cell counts; `marked` lists per EMR the (code, node) pairs that
    evidence marks.
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
    marked = [marked_nodes(g.features, c, column) for g, c in zip(graphs, codings, strict=True)]
    return StageData(graphs, targets_NK, weights_NK, marked)


def split_held_back(
    data: StageData, share: float, rng: np.random.Generator
) -> tuple[StageData, StageData | None]:
    """Keep a random share of the EMRs back; none if they would be too few to tell epochs apart."""
    n_held = round(share * len(data.graphs))
    if n_held < MIN_HELD_BACK:
        return data, None
    order = rng.permutation(len(data.graphs))

    return data.select(np.sort(order[n_held:])), data.select(np.sort(order[:n_held]))


def name_states(encoder: Encoder, taxonomy: Taxonomy, codes: Sequence[str]) -> NDArray[np.float32]:
    """The mean node state of each code's title and synonyms, shape (K, feature_dim)."""
    texts = [{"names": "\n".join(taxonomy.names(code))} for code in codes]
    return np.stack(
        [f.states_VD.mean(0, dtype=np.float32) for f in record_features(encoder, texts)]
    )
