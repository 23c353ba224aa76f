"""Row keys hashed into a fixed random order, so that ties do not depend on the order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from label_config.errors import DataError

U64 = NDArray[np.uint64]
ROWS_AT_ONCE = 200_000
_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def random_order(keys: Sequence[Any] | NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Give each key a number in [0, 1) that depends on the key and the seed alone.

    Args:
        keys: (N,) distinct integers or texts, for example `emr_id`s.
        seed: Another seed gives an unrelated order.

    Returns:
        (N,) uniform numbers; sorting by them is a random permutation of the keys.

    Raises:
        DataError: Two rows share a key.
    """
    values = np.asarray(keys)
    hashes = values.astype(np.uint64) if values.dtype.kind in "iu" else _hash_texts(values)
    mixed = _mix(hashes ^ _mix(np.full(1, seed & (2**64 - 1), np.uint64)))
    if np.unique(mixed).size != mixed.size:
        raise DataError(f"row keys must be distinct, got a repeat among {mixed.size}")
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _mix(x: U64) -> U64:
    """Scramble 64 bits so that every input bit moves every output bit (splitmix64, a bijection)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hash_texts(keys: NDArray[Any]) -> U64:
    """64-bit FNV-1a over code points, a column of characters at a time."""
    parts = [_hash_chunk(keys[i : i + ROWS_AT_ONCE]) for i in range(0, keys.size, ROWS_AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _hash_chunk(keys: NDArray[Any]) -> U64:
    texts = np.ascontiguousarray(keys.astype(np.str_))
    letters = texts.view(np.uint32).reshape(texts.size, -1)
    hashes: U64 = np.full(texts.size, _FNV_START)
    for column in letters.T:
        # Short keys are padded with zeros: skipping them keeps the hash free of the longest key.
        hashes = np.where(column == 0, hashes, (hashes ^ column) * _FNV_PRIME)
    return hashes
