"""The feature extractor: word graph -> gated graph network -> gated readout and per-code attention.

Shapes: V nodes of the minibatch, B records, K codes, D encoder width, H graph width, S the nodes
of the longest record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from label_config.errors import ConfigError
from training.graph import GraphBatch
from training.losses import unit
from training.readout import GatedWords, Readout
from training.word_graph import WordGraph

Attend = Literal["graph", "words", "both"]


@dataclass(frozen=True, slots=True)
class ExtractorConfig:
    """Shape of the network; the defaults are the paper's."""

    hidden: int = 128
    """Graph width H, to which the encoder's width is projected."""
    layers: int = 3
    """Rounds of message passing; 0 leaves the graph out."""
    window: int = 3
    """Words that share a sliding window of this size are linked."""
    normalise_edges: bool = False
    """Divide messages by the root of both words' degrees."""
    residual: bool = False
    """A node keeps its own features; what the graph makes of them is added by a learned share that
    starts at 0."""
    attend: Attend = "graph"
    """What per-code attention reads: "graph" what the graph made of each node, as in the paper;
    "words" the node before the graph, with the encoder's features; "both" the graph and those."""
    static: bool = False
    """Nodes also carry their word's static embedding, not only its state in context."""
    attention: int = 128
    """Width of the per-code attention."""
    prototypes: bool = False
    """Learn a point per code beside the readouts, which the contrastive losses over codes count as
    one more EMR with that code alone; the paper has none."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.hidden, self.attention) < 1 or self.layers < 0 or self.window < 2:
            raise ConfigError(
                "extractor needs hidden and attention >= 1, layers >= 0 and window >= 2, "
                f"got {self.hidden}, {self.attention}, {self.layers}, {self.window}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout must lie in 0 to below 1, got {self.dropout}")


@dataclass(frozen=True, slots=True)
class Extracted:
    """What the network says of a minibatch.

    `logits_BK`; `z_BH` the L2-normalised readout, which kNN and the contrastive losses compare;
    `summary_BH` the encoder's own summary in the same space; `attention_BKS` sums to 1 over each
    record's nodes (`GraphBatch.slot_V` gives a node's place in S); `prototypes_KH` the learned
    points of the codes, if there are any.
    """

    logits_BK: Tensor
    z_BH: Tensor
    summary_BH: Tensor
    attention_BKS: Tensor
    prototypes_KH: Tensor | None = None


class Extractor(nn.Module):
    """Eq. 2-3 and the per-code attention."""

    def __init__(self, config: ExtractorConfig, *, encoder_dim: int, n_codes: int) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.width = encoder_dim * (2 if config.static else 1)
        self.project = nn.Linear(self.width, hidden)
        self.graph = WordGraph(hidden, config.layers) if config.layers else None
        self.norm = nn.LayerNorm(hidden) if config.residual else nn.Identity()
        self.share_H = nn.Parameter(torch.zeros(hidden)) if config.residual else None
        self.gate = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.summarise = nn.Linear(encoder_dim, hidden)
        self.prototype_KH = (
            nn.Parameter(torch.randn(n_codes, hidden)) if config.prototypes else None
        )
        self.dropout = nn.Dropout(config.dropout)
        self.attend = CodeAttention(
            hidden,
            states=0 if config.attend == "graph" else self.width,
            attention=config.attention,
            n_codes=n_codes,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.project.weight.device

    def forward(
        self, batch: GraphBatch, *, nodes_VD: Tensor | None = None, codes: bool = True
    ) -> Extracted:
        """Run a minibatch; `nodes_VD` replaces its encoder states (to ask for their gradient).

        Without `codes` nothing is said of them (K is 0): losses that only compare records need no
        attention.
        """
        states_VD = (batch.nodes_VD if nodes_VD is None else nodes_VD)[:, : self.width]
        readers = self.attend.readers if codes else []
        projected_VH, *of_states = together(self.dropout(states_VD), [self.project, *readers])
        own_VH = torch.tanh(projected_VH)
        h_VH = own_VH
        if self.graph is not None:
            h_VH = self.graph(own_VH, batch.neighbours())
            if self.share_H is not None:
                h_VH = torch.addcmul(own_VH, self.share_H.to(own_VH.dtype), h_VH)
        h_VH = self._gated(h_VH)
        readout_BH: Tensor = Readout.apply(h_VH, batch.record_V, batch.sizes_B)  # type: ignore[no-untyped-call]
        summary_BH = self.summarise(batch.cls_BD).float()
        if codes:
            read_VH = self._gated(own_VH) if self.config.attend == "words" else h_VH
            logits_BK, attention_BKS = self.attend(self.dropout(read_VH), of_states, batch)
        else:
            n_records = len(readout_BH)
            logits_BK = readout_BH.new_zeros(n_records, 0)
            attention_BKS = readout_BH.new_zeros(n_records, 0, int(batch.sizes_B.max()))
        return Extracted(logits_BK, unit(readout_BH), summary_BH, attention_BKS, self.prototype_KH)

    def _gated(self, h_VH: Tensor) -> Tensor:
        """Eq. 3, first half: sigmoid(f1(h)) * tanh(f2(h)) for every node."""
        weight = torch.cat([self.gate.weight, self.value.weight]).to(h_VH.dtype)
        bias = torch.cat([self.gate.bias, self.value.bias]).to(h_VH.dtype)
        normed_VH = self.norm(h_VH).to(h_VH.dtype)
        gated_VH: Tensor = GatedWords.apply(normed_VH, weight, bias)  # type: ignore[no-untyped-call]
        return gated_VH

    @torch.no_grad()
    def start_from_names(self, states_KD: Tensor) -> None:
        """Point each code's query at words like those of its names.

        `states_KD` holds the mean node state of the code's names, as a node of a record has it.
        """
        apart_KD = (states_KD - states_KD.mean(0)).to(self.device)[:, : self.width]
        self.attend.start_from(apart_KD)


def together(x: Tensor, layers: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    """What several layers make of the same input, by one matrix product: it is read only once."""
    if len(layers) == 1:
        return (layers[0](x),)
    weight = torch.cat([layer.weight for layer in layers])
    widths = [layer.out_features for layer in layers]
    biases: list[Tensor] = [
        weight.new_zeros(width) if layer.bias is None else layer.bias
        for layer, width in zip(layers, widths, strict=True)
    ]
    made_VX = linear(x, weight, torch.cat(biases))
    return tuple(torch.split(made_VX, widths, dim=-1))


def logits_of_frequency(targets_NK: Tensor) -> Tensor:
    """The logit of how often each code occurs, never infinite, shape (K,)."""
    return torch.logit((targets_NK.sum(0) + 0.5) / (len(targets_NK) + 1.0))


class CodeAttention(nn.Module):
    """One query per code over the nodes: a vector, then a logit, per code."""

    def __init__(self, hidden: int, *, states: int, attention: int, n_codes: int) -> None:
        """`states` is the width of the encoder states that it also reads, 0 for none."""
        super().__init__()
        self.key = nn.Linear(hidden, attention)
        self.value = nn.Linear(hidden, attention)
        # layers of their own: the states need no gradient
        self.key_of_states = nn.Linear(states, attention, bias=False) if states else None
        self.value_of_states = nn.Linear(states, attention, bias=False) if states else None
        self.query_KA = nn.Parameter(torch.randn(n_codes, attention) / attention**0.5)
        self.weight_KA = nn.Parameter(torch.randn(n_codes, attention) / attention**0.5)
        self.bias_K = nn.Parameter(torch.zeros(n_codes))

    @property
    def readers(self) -> list[nn.Linear]:
        """The layers that read the encoder states: keys, then values; none for width 0."""
        layers = self.key_of_states, self.value_of_states
        return [layer for layer in layers if layer is not None]

    def forward(
        self, nodes_VH: Tensor, of_states: Sequence[Tensor], batch: GraphBatch
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and the attention (B, K, S).

        `of_states` holds what the `readers` made of the encoder states, each (V, A).
        """
        keys_VA, values_VA = together(nodes_VH, [self.key, self.value])
        if of_states:
            keys_VA, values_VA = keys_VA + of_states[0], values_VA + of_states[1]
        keys_BSA, mask_BS = batch.padded(torch.tanh(keys_VA))
        values_BSA, _ = batch.padded(values_VA)
        return self.weigh(keys_BSA, values_BSA, mask_BS)

    def weigh(self, keys_BSA: Tensor, values_BSA: Tensor, mask_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and the attention (B, K, S) of keys and values laid out by record."""
        scores_BKS = (self.query_KA @ keys_BSA.transpose(1, 2)).float()
        attention_BKS = scores_BKS.masked_fill(~mask_BS[:, None], -torch.inf).softmax(-1)
        codes_BKA = (attention_BKS @ values_BSA).float()
        return (codes_BKA * self.weight_KA).sum(-1) + self.bias_K, attention_BKS

    @torch.no_grad()
    def start_from(self, states_KD: Tensor) -> None:
        """Let each code attend to nodes whose encoder states are like the given ones."""
        if self.key_of_states is None:
            raise ConfigError('queries start from names only if attend is "words" or "both"')
        self.query_KA.copy_(torch.tanh(self.key_of_states(states_KD)))

    @torch.no_grad()
    def start_bias(self, targets_NK: Tensor) -> None:
        """Start from how often each code occurs, so that the first epochs need not learn that."""
        self.bias_K.copy_(logits_of_frequency(targets_NK))
