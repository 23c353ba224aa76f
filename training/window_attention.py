"""An encoder's attention one window after the other, for processors.

The scores of one window stay in cache; all windows at once have to go through memory. Padding is
never read, so that a window's states are the same in any company.

Shapes: B windows, H heads, T tokens, D dimensions of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

BY_WINDOW = "clinicoco_by_window"
ALL_SEE_ALL = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Kinds of models in which every token attends to all of its window, by its content alone."""


def read_by_window(model: Any) -> bool:
    """Have a model attend so from now on, if it is of a kind that can; return whether it is."""
    can = model.config.model_type in ALL_SEE_ALL and not model.config.is_decoder
    if can:
        model.set_attn_implementation(BY_WINDOW)
    return can


def attend_by_window(
    module: Any,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """What each token makes of its window, shape (B, T, H, D), as transformers asks for it.

    `attention_mask` (B, T) is 1 for a window's tokens, 0 for the padding behind them; None has
    none. What comes of padding is 0.
    """
    n_windows, n_heads, n_tokens, width = query_BHTD.shape
    lengths = [n_tokens] * n_windows if attention_mask is None else attention_mask.sum(1).tolist()
    attended_BTHD = query_BHTD.new_zeros(n_windows, n_tokens, n_heads, width)
    for window, length in enumerate(lengths):
        query, key, value = (x[window, :, :length] for x in (query_BHTD, key_BHTD, value_BHTD))
        shares_HTT = torch.softmax((query * scaling) @ key.transpose(1, 2), -1)
        attended_BTHD[window, :length] = (shares_HTT @ value).transpose(0, 1)
    return attended_BTHD, None


def _only_lengths(*, attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
    """Padding is all that attention must know of."""
    return attention_mask


AttentionInterface.register(BY_WINDOW, attend_by_window)
AttentionMaskInterface.register(BY_WINDOW, _only_lengths)
