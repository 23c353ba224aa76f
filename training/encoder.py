"""The pretrained encoder, run over whole records in overlapping windows.

Shapes: N texts, T tokens, D the encoder's width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from label_config.errors import CheckpointError, ConfigError
from training.back_end import BackEnd, OpenVinoRuns, Runs, TorchRuns
from training.encoder_files import DEFAULT_ENCODER, read_model
from training.int8 import calibration_ids, in_int8
from training.windows import OVERLAP, minibatches_by_length, windows

if TYPE_CHECKING:
    from training.adapter import Adapter
    from training.words import RecordFeatures


MAX_EMBED_TOKENS = 256
"""What the sentence-transformers recipe reads of a text."""
TOKENS_AT_ONCE, TOKENS_ON_GPU = 2_048, 32_768
"""In a minibatch: what a processor's cache holds, and what keeps a GPU busy."""

Precision = Literal["auto", "float32", "bfloat16"]
Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True, slots=True)
class TokenStates:
    """One text after the encoder.

    `states_TD` float32, one row per token of the text (special tokens left out); `ids_T` the
    tokens; `spans_T2` their (start, end) in code points; `cls_D` the [CLS] state, averaged over the
    windows.
    """

    states_TD: NDArray[np.float32]
    ids_T: NDArray[np.int64]
    spans_T2: NDArray[np.int32]
    cls_D: NDArray[np.float32]


class Encoder:
    """A frozen Hugging Face encoder with its tokenizer.

    `checksum` is the SHA-256 of its weights: what was trained on one encoder must not be served
    with another.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        checksum: str,
        device: str = "cpu",
        precision: Precision = "auto",
        back_end: BackEnd = "torch",
        adapter: Adapter | None = None,
    ) -> None:
        """Wrap a loaded float32 model and its fast tokenizer (offsets are needed).

        `precision` "auto" takes bfloat16 where the processor multiplies it natively. `adapter` is
        what its weights were fine-tuned by, if they were. Raises ConfigError for a `back_end` that
        is not installed or cannot use the device.
        """
        if not tokenizer.is_fast:
            raise ConfigError(f"encoder {name} needs a fast tokenizer (tokenizer.json), got a slow")
        if tokenizer.cls_token_id is None:
            raise ConfigError(f"encoder {name} needs a tokenizer with a [CLS] token, got none")
        self.name = name
        self.checksum = checksum
        self.device = torch.device(device)
        self.precision, self.back_end, self.adapter = precision, back_end, adapter
        fast = precision == "auto" and has_bfloat16(self.device)
        bfloat16 = fast or precision == "bfloat16"
        # RoBERTa-like models keep the first position ids for padding: stay below both limits
        limit = min(512, int(getattr(model.config, "max_position_embeddings", 512)))
        self.window = limit - 2
        model = model.eval().requires_grad_(False)
        self._static = model.get_input_embeddings().weight
        self._run: Runs
        if back_end != "torch":
            if self.device.type != "cpu":
                raise ConfigError(f"back_end {back_end} needs device cpu, got {device}")
            if back_end == "openvino-int8":
                model = in_int8(model, calibration_ids(tokenizer, limit))
            self._run = OpenVinoRuns(model, longest=limit, bfloat16=bfloat16)
        else:
            dtype = torch.bfloat16 if bfloat16 else torch.float32
            self._run = TorchRuns(model.to(self.device, dtype))
        numbers = "bfloat16" if bfloat16 else "float32"
        self._computed = f"{back_end} {numbers} {'by window' if self._run.by_window else ''}"
        self._config = model.config.to_json_string()
        self.tokenizer = tokenizer
        self.dim = int(model.config.hidden_size)
        self.feature_dim = 2 * self.dim
        """Width of a word node: its state in context, then its state without."""

    def check_is(self, wanted: Mapping[str, Any], folder: Path) -> None:
        """Raise CheckpointError unless its weights are those that a model folder wants.

        `wanted` is the encoder's {name, checksum} in the folder's settings.
        """
        if wanted["checksum"] != self.checksum:
            raise CheckpointError(
                f"{folder} was trained on encoder {wanted['name']} "
                f"({wanted['checksum'][:12]}...), got {self.name} ({self.checksum[:12]}...)"
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that its features depend on.

        Weights, settings, tokenizer, back end, precision, windows.
        """
        parts = (self.checksum, self._computed, self.window, OVERLAP, self._read_as)
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    @cached_property
    def _read_as(self) -> str:
        """SHA-256 of the model's settings and the tokenizer's, padding and truncation apart."""
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        tokenizer |= {"padding": None, "truncation": None}
        text = json.dumps([self._config, tokenizer], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(
        cls,
        name_or_folder: str = DEFAULT_ENCODER,
        *,
        device: str = "cpu",
        precision: Precision = "auto",
        back_end: BackEnd = "torch",
    ) -> Encoder:
        """Find the encoder (local folder, installed package, hub cache, hub) and load it.

        Raises ConfigError where nothing is found, naming what was tried, and CheckpointError for
        weights that are damaged or not the ones that the name stands for.
        """
        model, tokenizer, checksum = read_model(name_or_folder)
        return cls(
            model,
            tokenizer,
            name=name_or_folder,
            checksum=checksum,
            device=device,
            precision=precision,
            back_end=back_end,
        )

    def embed(
        self, texts: Sequence[str], *, batch_tokens: int = 8_192, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return the mean-pooled, L2-normalised embedding of each text, shape (N, D)."""
        embeddings_ND = np.zeros((len(texts), self.dim), np.float32)
        if not texts:
            return embeddings_ND
        limit = min(MAX_EMBED_TOKENS, self.window + 2)
        ids = self.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        done = 0
        for rows in minibatches_by_length([len(i) for i in ids], batch_tokens):
            states_BTD, mask_BT = self._forward([ids[row] for row in rows])
            sums_BD = (states_BTD * mask_BT[..., None]).sum(1)
            mean_BD = torch.nn.functional.normalize(sums_BD / mask_BT.sum(1, keepdim=True))
            embeddings_ND[rows] = mean_BD.cpu().numpy()
            done += len(rows)
            if progress is not None:
                progress(done, len(texts))
        return embeddings_ND

    def token_states(self, texts: Sequence[str]) -> list[TokenStates]:
        """Return every token's state of every text, whole texts of any length."""
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        parts = [
            (row, window)
            for row, ids in enumerate(encoded["input_ids"])
            for window in windows(len(ids), self.window)
        ]
        results = [
            TokenStates(
                np.zeros((len(ids), self.dim), np.float32),
                np.asarray(ids, np.int64),
                np.asarray(offsets, np.int32).reshape(-1, 2),
                np.zeros(self.dim, np.float32),
            )
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]
        n_windows = np.bincount([row for row, _ in parts], minlength=len(texts))
        lengths = [window.end - window.start + 2 for _, window in parts]
        at_once = TOKENS_AT_ONCE if self.device.type == "cpu" else TOKENS_ON_GPU
        for members in minibatches_by_length(lengths, at_once):
            batch = [parts[m] for m in members]
            ids = [self._with_special(encoded["input_ids"][r][w.start : w.end]) for r, w in batch]
            states_BTD = self._forward(ids)[0].cpu().numpy()
            for (row, window), states_TD in zip(batch, states_BTD, strict=True):
                results[row].cls_D[:] += states_TD[0] / n_windows[row]
                inner = states_TD[1 + window.keep_from - window.start :]
                kept = inner[: window.keep_to - window.keep_from]
                results[row].states_TD[window.keep_from : window.keep_to] = kept
        return results

    @torch.inference_mode()
    def static_states(self, ids_T: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return each token's entry in the embedding table, without context, shape (T, D)."""
        states_TD: NDArray[np.float32] = (
            self._static[torch.from_numpy(ids_T).to(self.device)].float().cpu().numpy()
        )
        return states_TD

    def features(self, text: str) -> RecordFeatures:
        """Return the word-level node features of one text, taken as a section of its own."""
        from training.words import record_features

        return record_features(self, [{"text": text}])[0]

    def windows_of(self, ids: list[int]) -> list[tuple[list[int], slice]]:
        """Cut a text's tokens as `token_states` does.

        Each window is its token ids, special ones included, and those of them that count.
        """
        return [
            (
                self._with_special(ids[window.start : window.end]),
                slice(1 + window.keep_from - window.start, 1 + window.keep_to - window.start),
            )
            for window in windows(len(ids), self.window)
        ]

    def _with_special(self, ids: list[int]) -> list[int]:
        tokenizer = self.tokenizer
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        return [first, *ids, first if last is None else last]

    def _forward(self, ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode padded id lists; return float32 states (B, T, D) and the mask (B, T)."""
        longest = max(map(len, ids))
        ids_BT = np.full((len(ids), longest), self.tokenizer.pad_token_id or 0, np.int64)
        mask_BT = np.zeros((len(ids), longest), np.int64)
        for row, sequence in enumerate(ids):
            ids_BT[row, : len(sequence)] = sequence
            mask_BT[row, : len(sequence)] = 1
        mask = torch.from_numpy(mask_BT).to(self.device)
        inputs = torch.from_numpy(ids_BT).to(self.device)
        return self._run(inputs, mask).float(), mask.float()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 natively; elsewhere it would only be slower."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
