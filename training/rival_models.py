"""Published extractors over the frozen word features: CAML, LAAT, JointLAAT, BERT, PLM-CA.

Only the encoder differs from the publications: each reads the cached features that our own
extractor reads, its words in the order of the text. Shapes: B records of a minibatch, W words of
the longest, V nodes of all, D width of a node, E of a projected word, H of a word as the model has
read it, A of an attention, K codes, C categories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from label_config.errors import ConfigError
from training.losses import code_loss
from training.rival_batch import CodeFacts, WordBatch

RivalName = Literal["CAML", "LAAT", "JointLAAT", "BERT", "PLM-CA"]


@dataclass(frozen=True, slots=True)
class RivalConfig:
    """Which model, its shape, and how it is trained."""

    model: RivalName = "CAML"
    embed: int = 100
    """Width E to which a word's features are projected."""
    hidden: int = 64
    """Filters of the convolution, state per direction of the LSTM, width of BERT's pooler."""
    attention: int = 64
    kernel: int = 9
    """Words under a filter of the convolution; odd, so that a word stands in its middle."""
    dropout: float = 0.2
    lr: float = 1e-3
    epochs: int = 40
    patience: int = 6
    """Epochs without a better held-back score before training stops."""
    batch: int = 16
    held_back: float = 0.15
    """Share of the EMRs kept to choose the best epoch, where none are given for that."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in RIVALS:
            raise ConfigError(f"model must be one of {', '.join(RIVALS)}, got {self.model!r}")
        sizes = self.embed, self.hidden, self.attention, self.epochs, self.patience, self.batch
        if min(sizes) < 1 or self.lr <= 0:
            raise ConfigError(f"a rival needs sizes >= 1 and lr > 0, got {sizes} and {self.lr}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"kernel must be odd, got {self.kernel}")
        if not (0.0 <= self.dropout < 1.0 and 0.0 < self.held_back < 1.0):
            raise ConfigError(
                "a rival needs dropout in 0 to below 1 and held_back inside 0 to 1, "
                f"got {self.dropout} and {self.held_back}"
            )


class Rival(nn.Module):
    """A model that gives one logit per code."""

    def __init__(self, n_codes: int) -> None:
        super().__init__()
        self.bias_K = nn.Parameter(torch.zeros(n_codes))

    def forward(self, batch: WordBatch) -> Tensor:
        """Return logits, shape (B, K)."""
        raise NotImplementedError

    def loss(self, batch: WordBatch, targets_BK: Tensor, weights_BK: Tensor) -> Tensor:
        """What training minimises; `weights_BK` says how much each cell counts."""
        return code_loss(self(batch), targets_BK, weights_BK)


class CodeReader(nn.Module):
    """One query and one output vector per code over the words."""

    def __init__(self, n_codes: int, *, key: int, value: int) -> None:
        super().__init__()
        self.query_KA = nn.Parameter(torch.randn(n_codes, key) / key**0.5)
        self.weight_KH = nn.Parameter(torch.randn(n_codes, value) / value**0.5)

    def vectors(self, keys_BWA: Tensor, values_BWH: Tensor, mask_BW: Tensor) -> Tensor:
        """Per code the words it attends to, shape (B, K, H)."""
        scores_BKW = self.query_KA @ keys_BWA.transpose(1, 2)
        return scores_BKW.masked_fill(~mask_BW[:, None], -torch.inf).softmax(-1) @ values_BWH

    def logits(self, vectors_BKH: Tensor) -> Tensor:
        """Shape (B, K)."""
        return (vectors_BKH * self.weight_KH).sum(-1)


class Caml(Rival):
    """CAML: a convolution, then one attention per code.

    Mullenbach et al. 2018, "Explainable Prediction of Medical Codes from Clinical Text".
    """

    def __init__(self, config: RivalConfig, *, node: int, summary: int, facts: CodeFacts) -> None:
        n_codes = len(facts.category_K)
        super().__init__(n_codes)
        self.embed = nn.Linear(node, config.embed)
        self.dropout = nn.Dropout(config.dropout)
        around = config.kernel // 2
        self.convolve = nn.Conv1d(config.embed, config.hidden, config.kernel, padding=around)
        self.codes = CodeReader(n_codes, key=config.hidden, value=config.hidden)

    def forward(self, batch: WordBatch) -> Tensor:
        """Return logits, shape (B, K)."""
        words_BWE = self.dropout(batch.read(self.embed(batch.nodes_VD)))
        read_BWH = torch.tanh(self.convolve(words_BWE.transpose(1, 2))).transpose(1, 2)
        return (
            self.codes.logits(self.codes.vectors(read_BWH, read_BWH, batch.mask_BW)) + self.bias_K
        )


class Laat(Rival):
    """LAAT: a bidirectional LSTM, then structured attention per code.

    Vu, Nguyen and Nguyen 2020, "A Label Attention Model for ICD Coding from Clinical Text".
    """

    def __init__(
        self,
        config: RivalConfig,
        *,
        node: int,
        summary: int,
        facts: CodeFacts,
        beside: int = 0,
    ) -> None:
        """`beside` is the width of what a code reads beside the text."""
        n_codes, hidden = len(facts.category_K), config.hidden
        super().__init__(n_codes)
        self.embed = nn.Linear(node, config.embed)
        self.dropout = nn.Dropout(config.dropout)
        self.onwards = nn.LSTM(config.embed, hidden, batch_first=True)
        self.backwards = nn.LSTM(config.embed, hidden, batch_first=True)
        self.key = nn.Linear(2 * hidden, config.attention, bias=False)
        self.codes = CodeReader(n_codes, key=config.attention, value=2 * hidden + beside)

    def read(self, batch: WordBatch) -> tuple[Tensor, Tensor]:
        """Keys (B, W, A) and what the LSTM made of the words (B, W, 2 H)."""
        words_BWE = self.dropout(batch.read(self.embed(batch.nodes_VD)))
        # records reversed within their lengths: packed sequences take ten times as long to train
        onwards_BWH, _ = self.onwards(words_BWE)
        backwards_BWH, _ = self.backwards(batch.reverse(words_BWE))
        read_BWH = torch.cat([onwards_BWH, batch.reverse(backwards_BWH)], dim=-1)
        return torch.tanh(self.key(read_BWH)), read_BWH

    def forward(self, batch: WordBatch) -> Tensor:
        """Return logits, shape (B, K)."""
        keys_BWA, read_BWH = self.read(batch)
        vectors_BKH = self.codes.vectors(keys_BWA, read_BWH, batch.mask_BW)
        return self.codes.logits(vectors_BKH) + self.bias_K


class JointLaat(Laat):
    """JointLAAT: LAAT over categories first; what it says of them helps to tell the codes."""

    def __init__(self, config: RivalConfig, *, node: int, summary: int, facts: CodeFacts) -> None:
        beside = config.attention
        super().__init__(config, node=node, summary=summary, facts=facts, beside=beside)
        n_categories = int(facts.category_K.max()) + 1
        key, value = config.attention, 2 * config.hidden
        self.categories = CodeReader(n_categories, key=key, value=value)
        self.bias_C = nn.Parameter(torch.zeros(n_categories))
        self.hint = nn.Linear(n_categories, beside, bias=False)
        self.category_K: Tensor
        self.register_buffer("category_K", torch.from_numpy(facts.category_K))

    def both(self, batch: WordBatch) -> tuple[Tensor, Tensor]:
        """Logits of the codes (B, K) and of the categories (B, C)."""
        keys_BWA, read_BWH = self.read(batch)
        above_BCH = self.categories.vectors(keys_BWA, read_BWH, batch.mask_BW)
        categories_BC = self.categories.logits(above_BCH) + self.bias_C
        hint_BA = self.hint(categories_BC.sigmoid())
        vectors_BKH = self.codes.vectors(keys_BWA, read_BWH, batch.mask_BW)
        hint_BKA = hint_BA[:, None].expand(-1, vectors_BKH.shape[1], -1)
        joined_BKH = torch.cat([vectors_BKH, hint_BKA], dim=-1)
        return self.codes.logits(joined_BKH) + self.bias_K, categories_BC

    def forward(self, batch: WordBatch) -> Tensor:
        """Return logits, shape (B, K)."""
        return self.both(batch)[0]

    def loss(self, batch: WordBatch, targets_BK: Tensor, weights_BK: Tensor) -> Tensor:
        """Both levels; a category counts as much as the surest of its codes."""
        codes_BK, categories_BC = self.both(batch)
        place_BK = self.category_K.expand_as(targets_BK)
        none_BC = torch.zeros_like(categories_BC)
        given_BC = none_BC.scatter_reduce(1, place_BK, targets_BK, "amax")
        certain_BC = none_BC.scatter_reduce(1, place_BK, targets_BK * weights_BK, "amax")
        above = code_loss(categories_BC, given_BC, torch.where(given_BC > 0, certain_BC, 1.0))
        return code_loss(codes_BK, targets_BK, weights_BK) + above


class BertClassifier(Rival):
    """A BERT classifier as the paper takes it from Chen et al.: pooled windows, a linear layer.

    Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding". It reads the mean over windows of [CLS] and of all tokens.
    """

    def __init__(self, config: RivalConfig, *, node: int, summary: int, facts: CodeFacts) -> None:
        n_codes = len(facts.category_K)
        super().__init__(n_codes)
        self.pool = nn.Linear(summary, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.hidden, n_codes, bias=False)

    def forward(self, batch: WordBatch) -> Tensor:
        """Return logits, shape (B, K)."""
        pooled_BH = torch.tanh(self.pool(batch.summary_BS))
        logits_BK: Tensor = self.classify(self.dropout(pooled_BH)) + self.bias_K
        return logits_BK


class PlmCa(Rival):
    """PLM-CA: every code's query attends to the encoder's states, starting from its names.

    Edin et al. 2024, "An Unsupervised Approach to Achieve Supervised-Level Explainability in
    Healthcare Records"; the queries from names are as in our own extractor.
    """

    def __init__(self, config: RivalConfig, *, node: int, summary: int, facts: CodeFacts) -> None:
        n_codes, width = len(facts.category_K), config.attention
        super().__init__(n_codes)
        self.key = nn.Linear(node, width, bias=False)
        self.value = nn.Linear(node, width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(width)
        self.codes = CodeReader(n_codes, key=width, value=width)
        names_KD = torch.from_numpy(facts.names_KD)
        with torch.no_grad():
            self.codes.query_KA.copy_(self.key(names_KD - names_KD.mean(0)))

    def forward(self, batch: WordBatch) -> Tensor:
        """Return logits, shape (B, K)."""
        states_VD = self.dropout(batch.nodes_VD)
        keys_BWA = batch.read(self.key(states_VD)) / self.key.out_features**0.5
        vectors_BKA = self.codes.vectors(keys_BWA, batch.read(self.value(states_VD)), batch.mask_BW)
        return self.codes.logits(self.norm(vectors_BKA)) + self.bias_K


RIVALS: dict[RivalName, Callable[..., Rival]] = {
    "CAML": Caml,
    "LAAT": Laat,
    "JointLAAT": JointLaat,
    "BERT": BertClassifier,
    "PLM-CA": PlmCa,
}
