"""Cells, the parts that an experiment is made of: each is made once, kept, and then only read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from label_config.measured import Progress
from sampler.synthetic import SyntheticPool
from simulator.experiments.kept import Kept, Key

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """Rows that are made in one go."""

    key: Key
    """All that they depend on."""
    make: Callable[[], tuple[str, Rows]]
    """Returns the hash of the data that they were measured on, and the rows."""


def finished(
    cells: Iterable[Cell], total: int, *, kept: Kept, progress: Progress | None = None
) -> tuple[Rows, str]:
    """The rows of all cells in their order, and one hash of all data."""
    rows: Rows = []
    hashes = []
    for done, cell in enumerate(cells, start=1):
        data, found = kept.row(cell.key, cell.make)
        hashes.append(data)
        rows += found
        if progress is not None:
            progress(done, total)
    return rows, hash_of_all(hashes)


def hash_of(*parts: Any) -> str:
    """16 hex digits for anything that tells its content as text, as a config does."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:16]


def hash_of_all(hashes: Sequence[str]) -> str:
    """One hash, 16 hex digits, of the hashes of all data that an experiment ran on."""
    return hashlib.sha256("-".join(hashes).encode()).hexdigest()[:16]


def hash_of_pool(pool: SyntheticPool) -> str:
    """Of its noisy and clean codes."""
    return hashlib.sha256(pool.noisy.data.tobytes() + pool.clean.indices.tobytes()).hexdigest()[:16]


def first_seeds(seeds: Sequence[int], *, quick: bool, most: int) -> tuple[int, ...]:
    """All of them, or at most so many if quick."""
    return tuple(seeds)[:most] if quick else tuple(seeds)
