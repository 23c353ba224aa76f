"""How a text longer than the encoder reads is cut: equal windows that overlap.

Windows of one length need no padding, and shorter ones less time, since attention grows with the
square of the length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

OVERLAP = 64
"""Tokens that two neighbouring windows share at least; each token's state comes from the window in
which it stands further from the edge."""


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens [start, end) go through the encoder together; those of [keep_from, keep_to) count."""

    start: int
    end: int
    keep_from: int
    keep_to: int


def windows(n_tokens: int, size: int) -> list[Window]:
    """Cut a text into as few windows of at most `size` tokens as will do, all of one length."""
    overlap = min(OVERLAP, size // 4)
    count = max(1, -(-(n_tokens - overlap) // (size - overlap)))
    length = -(-(n_tokens + (count - 1) * overlap) // count)
    starts = [round(i * (n_tokens - length) / max(1, count - 1)) for i in range(count)]
    # where two windows overlap, each counts up to the middle
    cuts = [(left + length + right) // 2 for left, right in pairwise(starts)]
    return [
        Window(start, start + length, keep_from, keep_to)
        for start, keep_from, keep_to in zip(starts, [0, *cuts], [*cuts, n_tokens], strict=True)
    ]


def minibatches_by_length(
    lengths: Sequence[int], tokens_per_minibatch: int
) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers in minibatches of like length, the longest first, within a token budget."""
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        end = start + max(1, tokens_per_minibatch // longest)
        yield order[start:end]
        start = end
