"""Fine-tune the top layers of the encoder on EMRs with codes, before it is frozen again.

The layers below run once. An epoch runs only the top ones, under a light head, one attention per
code, that reads the tokens of all windows of a record and is thrown away in the end.

Shapes: N EMRs, B of them in a minibatch, K codes, W windows, T tokens, D the encoder's width, S
the tokens of the longest record.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence

from label_config.errors import ConfigError
from label_config.files import data_hash
from label_config.record import EMR, Coding
from training.adapter import Adapter, LoraShape, lora_tensors, own_random, plain_model, with_lora
from training.encoder import Encoder
from training.evaluate import micro_average_precision
from training.extractor import CodeAttention, together
from training.lower_layers import TOKENS_PER_STEP, KeptRecords, mask_of, mixed, only_top
from training.parallel import Workers
from training.stage_data import held_back_rows, targets_of
from training.windows import minibatches_by_length
from training.words import SECTION_BREAK, read_sections

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

ATTENTION = 128
"""Width of the head's attention."""
HEAD_LR = 3e-3
"""The head starts from nothing: it must learn faster than the adapters."""


@dataclass(frozen=True, slots=True)
class AdaptConfig:
    """How the encoder's top layers are fine-tuned; the layers below stay as they are."""

    layers: int = 2
    """Transformer layers to fine-tune, counted from the top."""
    rank: int = 8
    """Width of the adapter beside each weight matrix."""
    alpha: float = 16.0
    """What the adapters count: their product is multiplied by alpha / rank."""
    epochs: int = 8
    """At most; fewer if the held-back EMRs say so."""
    lr: float = 1e-3
    """Of the adapters."""
    batch: int = 16
    """EMRs per minibatch."""
    dropout: float = 0.0
    """Share of each adapter's inputs hidden in training."""
    patience: int = 2
    """Epochs without a better held-back score before it stops."""

    def __post_init__(self) -> None:
        LoraShape(self.layers, self.rank, self.alpha)
        if min(self.epochs, self.batch, self.patience) < 1 or self.lr <= 0:
            raise ConfigError(
                "fine-tuning needs epochs, batch and patience >= 1 and lr above 0, "
                f"got {self.epochs}, {self.batch}, {self.patience} and {self.lr}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout must lie in 0 to below 1, got {self.dropout}")


def adapt_encoder(
    encoder: Encoder,
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
    *,
    codes: Sequence[str],
    config: AdaptConfig,
    also: tuple[Sequence[EMR], Sequence[Coding]] = ((), ()),
    held_back: float = 0.15,
    seed: int = 0,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Encoder:
    """Return the encoder fine-tuned on clean EMRs and `also` noisy ones; it knows its `adapter`.

    `held_back` is the share of the clean EMRs that choose the best epoch: with the same share and
    seed they are the ones that stage 3 holds back. Too few of them, and it trains to the end.
    Where `keep` holds the adapter of this very run, it is taken from there; else it is put there.
    Raises ConfigError without the extra or without a code, DataError without any EMR with text,
    CheckpointError for a damaged or foreign `keep`, or an encoder that is not plain. A run of some
    thousand EMRs needs gigabytes in the folder for temporary files.
    """
    if not codes:
        raise ConfigError("fine-tuning needs at least one code, got none")
    if keep is None and Workers.of_environment().count > 1:
        raise ConfigError("several processes share a fine-tuned encoder in run_folder, got none")
    about = [asdict(config), encoder.checksum, list(codes), held_back, seed]
    about += [data_hash(part) for part in (emrs, codings, *also)]
    run = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    if keep is not None and keep.exists():
        return Adapter.load(keep, run=run).apply(encoder)
    trained, judges = held_back_rows(len(emrs), held_back, np.random.default_rng(seed))
    trained = np.concatenate([trained, len(emrs) + np.arange(len(also[0]))])
    everyone = [*emrs, *also[0]]
    targets = targets_of(everyone, [*codings, *also[1]], codes)
    adapter = _fine_tune(encoder, everyone, *targets, config, (trained, judges), seed, progress)
    if keep is not None:
        adapter.save(keep, run=run)
    return adapter.apply(encoder)


def _fine_tune(
    encoder: Encoder,
    emrs: Sequence[EMR],
    targets_NK: Tensor,
    weights_NK: Tensor,
    config: AdaptConfig,
    split: tuple[NDArray[np.int64], NDArray[np.int64]],
    seed: int,
    progress: Progress | None,
) -> Adapter:
    """Train adapters on the first rows of `split`; the others choose their best epoch."""
    with tempfile.TemporaryDirectory() as folder, own_random(encoder.device):
        torch.manual_seed(seed)
        shape = LoraShape(config.layers, config.rank, config.alpha)
        model = with_lora(plain_model(encoder), shape, dropout=config.dropout)
        texts = [SECTION_BREAK.join(read_sections(emr).values()) for emr in emrs]
        records = KeptRecords.read(model, encoder, texts, config.layers, Path(folder))
        trainer = _Trainer(model, encoder, records, targets_NK, weights_NK)
        history, tensors = trainer.train(config, *split, seed, progress)
    return Adapter(encoder.checksum, shape, tensors, history)


class _Trainer:
    """The top layers under their head."""

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        records: KeptRecords,
        targets_NK: Tensor,
        weights_NK: Tensor,
    ) -> None:
        self.model, self.device, self.records = model, encoder.device, records
        self.targets_NK, self.weights_NK = targets_NK.to(self.device), weights_NK.to(self.device)
        n_codes = targets_NK.shape[1]
        self.head = CodeAttention(encoder.dim, states=0, attention=ATTENTION, n_codes=n_codes)
        self.head.to(self.device)

    def train(
        self,
        config: AdaptConfig,
        trained: NDArray[np.int64],
        judges: NDArray[np.int64],
        seed: int,
        progress: Progress | None,
    ) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
        """Train on some rows; return the history, and the matrices of the best epoch."""
        trained, judges = self._with_text(trained), self._with_text(judges)
        self.head.start_bias(self.targets_NK[torch.from_numpy(trained)])
        adapters = [p for p in self.model.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(
            [
                {"params": adapters, "lr": config.lr},
                {"params": list(self.head.parameters()), "lr": HEAD_LR},
            ]
        )
        rng = np.random.default_rng(seed)
        history: list[dict[str, float]] = []
        best, best_score, waited = lora_tensors(self.model), -1.0, 0
        while len(history) < config.epochs and waited < config.patience:
            with only_top(self.model, config.layers):
                history.append({"loss": self._epoch(trained, config.batch, rng, optimiser)})
                if not np.isfinite(history[-1]["loss"]):
                    raise ConfigError(f"fine-tuning diverged: it needs lr below {config.lr}")
                score = float(len(history))  # without judges the last epoch is the best
                if len(judges):
                    score = history[-1]["held_back"] = self._score(judges)
            waited += 1
            if score > best_score:
                best, best_score, waited = lora_tensors(self.model), score, 0
            if progress is not None:
                progress(len(history), config.epochs)
        return history, best

    def _with_text(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[[bool(self.records.windows[row]) for row in rows]]

    def _epoch(
        self,
        trained: NDArray[np.int64],
        batch: int,
        rng: np.random.Generator,
        optimiser: torch.optim.Optimizer,
    ) -> float:
        """One pass over the records; return the mean loss."""
        for name, module in self.model.named_modules():
            module.training = "lora_dropout" in name  # the model's own dropout slows attention down
        order, total = rng.permutation(trained), 0.0
        for start in range(0, len(order), batch):
            minibatch = order[start : start + batch]
            optimiser.zero_grad()
            for rows, logits_BK in self._said(minibatch):
                at = torch.from_numpy(rows)
                loss = binary_cross_entropy_with_logits(
                    logits_BK, self.targets_NK[at], self.weights_NK[at], reduction="sum"
                )
                loss = loss / (len(minibatch) * logits_BK.shape[1])
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.item() * len(minibatch)
            optimiser.step()
        return total / max(1, len(order))

    @torch.no_grad()
    def _score(self, judges: NDArray[np.int64]) -> float:
        """By what an epoch is chosen."""
        self.model.eval()
        truth, probs = [], []
        for rows, logits_BK in self._said(judges):
            truth.append(self.targets_NK[torch.from_numpy(rows)].cpu().numpy())
            probs.append(logits_BK.sigmoid().cpu().numpy())
        return micro_average_precision(np.concatenate(probs), np.concatenate(truth))

    def _said(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Logits (B, K) of the records, as many at once as one step may hold."""
        sizes = [self.records.size(row) for row in rows]
        for members in minibatches_by_length(sizes, TOKENS_PER_STEP):
            with mixed(self.device):
                tokens_BSD, sizes_B = self._tokens(rows[members])
                keys, values = together(tokens_BSD, [self.head.key, self.head.value])
                logits_BK, _ = self.head.weigh(
                    torch.tanh(keys), values, mask_of(sizes_B).to(self.device)
                )
            yield rows[members], logits_BK

    def _tokens(self, rows: NDArray[np.int64]) -> tuple[Tensor, list[int]]:
        """The last states of all tokens of each record, padded, and how many they are."""
        windows = [(place, w) for place, row in enumerate(rows) for w in self.records.windows[row]]
        entering = [torch.from_numpy(self.records.states_TD[w.start : w.end]) for _, w in windows]
        entering_WTD = pad_sequence(entering, batch_first=True).to(self.device).float()
        mask_WT = mask_of([len(states_TD) for states_TD in entering]).to(self.device)
        said = self.model(inputs_embeds=entering_WTD, attention_mask=mask_WT)
        of_record: list[list[Tensor]] = [[] for _ in rows]
        for (place, window), states_TD in zip(windows, said.last_hidden_state, strict=True):
            of_record[place].append(states_TD[window.counts])
        tokens = [torch.cat(parts) for parts in of_record]
        return pad_sequence(tokens, batch_first=True), [len(part) for part in tokens]
