"""The word graph of a record (co-occurrence in a sliding window), and packed minibatches of them.

Shapes: W words, V nodes (of the whole minibatch), E directed edges, B records, D encoder width,
S the nodes of the longest record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.word_graph import Neighbours
from training.words import RecordFeatures


@dataclass(frozen=True, slots=True)
class RecordGraph:
    """A record's nodes with its edges, each in both directions, sorted, without self-loops."""

    features: RecordFeatures
    edges_2E: NDArray[np.int64]
    weights_E: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GraphBatch:
    """A minibatch of graphs as one large graph without edges between records.

    `nodes_VD` encoder states; `edges_2E` (to, from); `record_V` the row of each node's record;
    `slot_V` its place among that record's nodes; `sizes_B` nodes per record.
    """

    nodes_VD: Tensor
    edges_2E: Tensor
    weights_E: Tensor
    record_V: Tensor
    slot_V: Tensor
    sizes_B: Tensor
    cls_BD: Tensor

    def neighbours(self) -> Neighbours:
        """Who is linked to whom, by rows."""
        rows = torch.bincount(self.edges_2E[0], minlength=len(self.nodes_VD))
        starts = torch.cat([rows.new_zeros(1), rows.cumsum(0)])
        return Neighbours(starts.int(), self.edges_2E[1].int(), self.weights_E)

    def padded(self, values_VH: Tensor) -> tuple[Tensor, Tensor]:
        """Lay nodes out as (B, S, H), zeros behind each record, with the mask (B, S)."""
        n_records, longest = len(self.sizes_B), int(self.sizes_B.max())
        padded = values_VH.new_zeros(n_records, longest, values_VH.shape[1])
        padded = padded.index_put((self.record_V, self.slot_V), values_VH)
        mask = torch.arange(longest, device=values_VH.device) < self.sizes_B[:, None]
        return padded, mask


def build_graph(features: RecordFeatures, *, window: int, normalise: bool = False) -> RecordGraph:
    """Link words that share a sliding window of `window` words inside one section.

    `normalise` divides each edge by the root of both nodes' degrees; else every weight is 1.
    """
    edges_2E = cooccurrence(features.nodes_W, features.sections_W, features.n_nodes, window)
    weights_E = np.ones(edges_2E.shape[1], np.float32)
    if normalise and len(weights_E):
        degree_V = np.bincount(edges_2E[0], minlength=features.n_nodes)
        weights_E /= np.sqrt(degree_V[edges_2E[0]] * degree_V[edges_2E[1]])
    return RecordGraph(features, edges_2E, weights_E)


def cooccurrence(
    nodes_W: NDArray[np.int32], sections_W: NDArray[np.int32], n_nodes: int, window: int
) -> NDArray[np.int64]:
    """Return the directed edges (2, E), both directions, sorted by row, each once."""
    keys = []
    for distance in range(1, window):
        left, right = nodes_W[:-distance].astype(np.int64), nodes_W[distance:].astype(np.int64)
        linked = (sections_W[:-distance] == sections_W[distance:]) & (left != right)
        left, right = left[linked], right[linked]
        keys += [left * n_nodes + right, right * n_nodes + left]
    unique = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    return np.stack([unique // n_nodes, unique % n_nodes])


def pack(
    graphs: Sequence[RecordGraph],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    width: int | None = None,
) -> GraphBatch:
    """Put records side by side in one graph; the order of `graphs` is the order of B.

    `dtype` is that of the node states: mixed precision reads them as bfloat16. `width` leaves out
    what an extractor does not read of them.
    """
    sizes_B = np.array([graph.features.n_nodes for graph in graphs], np.int64)
    starts_B = np.cumsum(sizes_B) - sizes_B
    record_V = np.repeat(np.arange(len(graphs)), sizes_B)
    slot_V = np.arange(sizes_B.sum()) - starts_B[record_V]
    edges = [g.edges_2E + start for g, start in zip(graphs, starts_B, strict=True)]
    nodes_VD = np.concatenate([g.features.states_VD[:, :width] for g in graphs])

    def tensor(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return GraphBatch(
        nodes_VD=tensor(nodes_VD).to(dtype),
        edges_2E=tensor(np.concatenate(edges, axis=1)),
        weights_E=tensor(np.concatenate([g.weights_E for g in graphs])),
        record_V=tensor(record_V),
        slot_V=tensor(slot_V),
        sizes_B=tensor(sizes_B),
        cls_BD=tensor(np.stack([g.features.cls_D for g in graphs])),
    )
