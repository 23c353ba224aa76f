"""What the published extractors read: records as padded words in the order of the text.

Shapes: B records, W words of the longest, V nodes (unique words) of all, D width of a node, S of a
record's summary, E of what stands at a node, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.words import RecordFeatures


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """What a model may know of the codes before it has seen an EMR.

    `category_K` numbers each code's category from 0; `names_KD` is the mean node state of its
    title and synonyms, as `training.stage_data.name_states` gives it.
    """

    category_K: NDArray[np.int64]
    names_KD: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WordBatch:
    """Records as padded words: `words_BW` is the node of each word, 0 where `mask_BW` is false."""

    nodes_VD: Tensor
    words_BW: Tensor
    mask_BW: Tensor
    summary_BS: Tensor

    def read(self, values_VE: Tensor) -> Tensor:
        """What stands at each word, zeros behind a record's end, shape (B, W, E)."""
        return functional.embedding(self.words_BW, values_VE) * self.mask_BW[..., None]

    def reverse(self, values_BWE: Tensor) -> Tensor:
        """Each record's words from its last to its first; what stands behind its end stays."""
        place_W = torch.arange(self.mask_BW.shape[1], device=self.mask_BW.device)
        last_B1 = self.mask_BW.sum(1, keepdim=True) - 1
        from_BW = torch.where(self.mask_BW, last_B1 - place_W, place_W)
        return values_BWE.gather(1, from_BW[..., None].expand_as(values_BWE))


def word_batch(
    features: Sequence[RecordFeatures], *, device: torch.device | str = "cpu"
) -> WordBatch:
    """Lay records out as padded words; one without words reads its single node of zeros."""
    words = [f.nodes_W if len(f.nodes_W) else np.zeros(1, np.int32) for f in features]
    words_BW = np.zeros((len(features), max(map(len, words))), np.int64)
    mask_BW = np.zeros(words_BW.shape, bool)
    start = 0
    for row, (nodes_W, record) in enumerate(zip(words, features, strict=True)):
        words_BW[row, : len(nodes_W)] = nodes_W + start
        mask_BW[row, : len(nodes_W)] = True
        start += record.n_nodes
    summary_BS = np.stack([np.concatenate([f.cls_D, f.mean_D]) for f in features])
    nodes_VD = np.concatenate([f.states_VD for f in features])
    return WordBatch(
        torch.from_numpy(nodes_VD).to(device).float(),
        torch.from_numpy(words_BW).to(device),
        torch.from_numpy(mask_BW).to(device),
        torch.from_numpy(summary_BS).to(device),
    )
