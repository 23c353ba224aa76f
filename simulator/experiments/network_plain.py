"""The network's training as one would write it first: what the benchmark measures against.

Every document by itself, in Python loops, through torch-geometric's own objects; the encoder in
float32 with eager attention, anew in every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GatedGraphConv
from transformers import AutoModel

from label_config.record import EMR
from training.encoder import Encoder
from training.encoder_files import find_encoder
from training.graph import RecordGraph
from training.losses import code_loss, info_nce, label_contrastive
from training.stage_config import StageName, StagesConfig
from training.words import WORD

PLAIN = "plain"
"""What measurements call it."""


class PlainEncoder:
    """The same weights, one window after the other, in float32 with eager attention."""

    def __init__(self, encoder: Encoder) -> None:
        folder = find_encoder(encoder.name)
        self.model = AutoModel.from_pretrained(
            folder, local_files_only=True, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.tokenizer = encoder.tokenizer
        self.window = encoder.window

    def states(self, text: str) -> Tensor:
        """The state of every token, special ones left out, shape (T, D)."""
        ids = self.ids(text)
        starts = range(0, max(1, len(ids)), self.window)
        return torch.cat([self.window_states(ids[i : i + self.window]) for i in starts])

    def ids(self, text: str) -> list[int]:
        """The text's tokens."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return found

    @torch.inference_mode()
    def window_states(self, ids: list[int]) -> Tensor:
        """The state of each of these tokens, shape (T, D)."""
        window = torch.tensor([[self.tokenizer.cls_token_id, *ids, self.tokenizer.sep_token_id]])
        mask = torch.ones_like(window)
        states: Tensor = self.model(input_ids=window, attention_mask=mask).last_hidden_state
        return states[0, 1:-1]


def build_plain(emr: EMR, states_TD: Tensor, spans: Sequence[tuple[int, int]]) -> Data:
    """Merge tokens into words and link words of a window, one after the other."""
    words = [(m.start(), m.end(), m.group().casefold()) for m in WORD.finditer(emr.long_text)]
    node_of: dict[str, int] = {}
    for _, _, word in words:
        node_of.setdefault(word, len(node_of))
    sums = [torch.zeros(states_TD.shape[1]) for _ in node_of] or [torch.zeros(states_TD.shape[1])]
    counts = [0] * len(sums)
    place = 0
    for state, (_, end) in zip(states_TD, spans, strict=True):
        while place < len(words) and words[place][1] < end:
            place += 1
        if place < len(words) and words[place][0] < end:
            node = node_of[words[place][2]]
            sums[node] = sums[node] + state
            counts[node] += 1
    edges = set()
    for start in range(len(words)):
        for left in words[start : start + 3]:
            for right in words[start : start + 3]:
                if left[2] != right[2]:
                    edges.add((node_of[left[2]], node_of[right[2]]))
    x = torch.stack([total / max(1, n) for total, n in zip(sums, counts, strict=True)])
    edge_index = torch.tensor(sorted(edges), dtype=torch.long).reshape(-1, 2).T.contiguous()
    return Data(x=x, edge_index=edge_index)


def as_data(graph: RecordGraph, width: int) -> Data:
    """The same graph as torch-geometric's object."""
    states = torch.from_numpy(np.array(graph.features.states_VD[:, :width])).float()
    return Data(x=states, edge_index=torch.from_numpy(graph.edges_2E))


class PlainNetwork(nn.Module):
    """The paper's extractor and label attention, document by document."""

    def __init__(self, width: int, config: StagesConfig, n_codes: int) -> None:
        super().__init__()
        hidden, attention = config.extractor.hidden, config.extractor.attention
        self.project = nn.Linear(width, hidden)
        self.graph = GatedGraphConv(hidden, config.extractor.layers)
        self.gate, self.value = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.key, self.values = nn.Linear(hidden, attention), nn.Linear(hidden, attention)
        self.summarise = nn.Linear(width, hidden)
        self.queries = nn.Parameter(torch.randn(n_codes, attention) / attention**0.5)
        self.weights = nn.Parameter(torch.randn(n_codes, attention) / attention**0.5)
        self.bias = nn.Parameter(torch.zeros(n_codes))

    def forward(
        self, batch: Any, summary_BD: Tensor, *, codes: bool = True
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Logits (B, K), or None without `codes`; readouts (B, H); summaries (B, H)."""
        h = self.graph(torch.tanh(self.project(batch.x)), batch.edge_index)
        logits, readouts = [], []
        for row in range(batch.num_graphs):
            nodes = h[batch.batch == row]
            gated = torch.sigmoid(self.gate(nodes)) * torch.tanh(self.value(nodes))
            readouts.append(gated.mean(0) + gated.max(0).values)
            if not codes:
                continue
            keys, values = torch.tanh(self.key(gated)), self.values(gated)
            attention = (self.queries @ keys.T).softmax(1)
            logits.append(((attention @ values) * self.weights).sum(1) + self.bias)
        said = torch.stack(logits) if codes else None
        return said, torch.stack(readouts), self.summarise(summary_BD)


def plain_step(
    network: PlainNetwork,
    optimiser: torch.optim.Optimizer,
    documents: Sequence[Data],
    summary_BD: Tensor,
    targets_BK: Tensor,
    config: StagesConfig,
    stage: StageName,
) -> None:
    """One step of the paper's stage 1, 2 or 3: eq. 4, 5-8 or 10."""
    batch = Batch.from_data_list(list(documents))
    logits, z, summary = network(batch, summary_BD, codes=stage == "clean")
    clean = config.clean
    if stage == "raw":
        loss = info_nce(z, summary, tau=config.raw.tau)
    elif stage == "noisy":
        loss = label_contrastive(z, targets_BK, tau=config.noisy.tau)
    else:
        loss = (
            clean.theta * code_loss(logits, targets_BK)
            + clean.gamma * label_contrastive(z, targets_BK, tau=clean.tau)
            + clean.delta * info_nce(z, summary, tau=config.raw.tau)
        )
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
