"""What the encoder's lower layers made of each record, kept on disk for the layers above.

Shapes: N records, W windows, T tokens, D the encoder's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from label_config.errors import DataError
from training.adapter import layers_of
from training.encoder import Encoder, has_bfloat16
from training.windows import minibatches_by_length

TOKENS_PER_STEP = 4_096
"""Bounds the memory of one step."""


@dataclass(frozen=True, slots=True)
class KeptWindow:
    """Where a window's states lie among those kept, and which of its tokens count."""

    start: int
    end: int
    counts: slice


@dataclass(frozen=True, slots=True)
class KeptRecords:
    """What the lower layers made of each record's windows; no window for one without tokens."""

    states_TD: NDArray[np.float16]
    windows: list[list[KeptWindow]]

    @classmethod
    def read(
        cls, model: Any, encoder: Encoder, texts: Sequence[str], layers: int, folder: Path
    ) -> KeptRecords:
        """Run all texts once; the states that enter the top `layers` go into a file in `folder`."""
        if not any(texts):
            raise DataError(f"fine-tuning needs EMRs with text, got none in {len(texts)}")
        ids = encoder.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        windows: list[list[KeptWindow]] = []
        flat: list[tuple[list[int], int]] = []
        n_tokens = 0
        for tokens in ids:
            windows.append([])
            for window, counts in encoder.windows_of(tokens) if tokens else ():
                windows[-1].append(KeptWindow(n_tokens, n_tokens + len(window), counts))
                flat.append((window, n_tokens))
                n_tokens += len(window)
        model.eval()
        states_TD = np.memmap(
            folder / "states.npy", np.float16, "w+", shape=(max(1, n_tokens), encoder.dim)
        )
        for rows in minibatches_by_length([len(window) for window, _ in flat], TOKENS_PER_STEP):
            batch = [flat[row] for row in rows]
            ids_WT = pad_sequence([torch.tensor(window) for window, _ in batch], batch_first=True)
            mask_WT = mask_of([len(window) for window, _ in batch])
            with torch.no_grad(), mixed(encoder.device):
                said = model(
                    input_ids=ids_WT.to(encoder.device),
                    attention_mask=mask_WT.to(encoder.device),
                    output_hidden_states=True,
                )
            entering_WTD = said.hidden_states[-1 - layers].half().cpu().numpy()
            for (window, start), entering_TD in zip(batch, entering_WTD, strict=True):
                states_TD[start : start + len(window)] = entering_TD[: len(window)]
        return cls(states_TD, windows)

    def size(self, row: int) -> int:
        """Tokens of a record's windows."""
        return sum(window.end - window.start for window in self.windows[row])


@contextmanager
def only_top(model: Any, count: int) -> Iterator[None]:
    """Within it, the model's `inputs_embeds` enter its top `count` layers as they are."""
    name, layers = layers_of(model.get_base_model())
    parent, _, attribute = name.rpartition(".")
    owner = model.get_base_model().get_submodule(parent)
    top, given = nn.ModuleList(list(layers)[-count:]), list[Tensor]()

    def remember(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given[:] = [kwargs["inputs_embeds"]]
        # the table of embeddings may be narrower than a layer: it is given any tokens
        ids_WT = torch.zeros(given[0].shape[:2], dtype=torch.long, device=given[0].device)
        return args, {**kwargs, "inputs_embeds": None, "input_ids": ids_WT}

    def enter(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        rest = {key: value for key, value in kwargs.items() if key != "hidden_states"}
        return (given[0], *args[1:]), rest

    hooks = [
        model.get_base_model().register_forward_pre_hook(remember, with_kwargs=True),
        top[0].register_forward_pre_hook(enter, with_kwargs=True),
    ]
    setattr(owner, attribute, top)
    try:
        yield
    finally:
        setattr(owner, attribute, layers)
        for hook in hooks:
            hook.remove()


def mask_of(lengths: Sequence[int]) -> Tensor:
    """True for the first so many of each row."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def mixed(device: torch.device) -> torch.autocast:
    """Bfloat16 products where the processor multiplies it natively."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))
