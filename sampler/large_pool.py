"""Large pools: synthetic ones made and kept part by part in files that are mapped, not loaded.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import ConfigError
from sampler.synthetic import Codes, PoolConfig, categories, draw_clean, map_names, topic_tastes

EMRS_AT_ONCE = 250_000


@dataclass(frozen=True)
class LargePool:
    """What a benchmark needs of a pool; the matrices' arrays are maps of read-only files."""

    noisy: sp.csr_matrix
    """(N, K) confidence of the mapper's codes, in (0, 1]."""
    clean: sp.csr_matrix
    """(N, K) ones: what a coder would find."""
    category: Codes
    """(K,) category of each code."""

    @classmethod
    def make(cls, config: PoolConfig, seed: int, folder: Path) -> LargePool:
        """Draw a pool into `folder`, of which EMRS_AT_ONCE are in memory at a time.

        The same configuration and seed give the same pool; it is another than `make_pool`'s.
        """
        if config.systematic:
            raise ConfigError("a large pool has errors of chance only, needed systematic=0")
        noisy_file, clean_file = _CsrFile(folder / "noisy"), _CsrFile(folder / "clean")
        with noisy_file, clean_file:
            for clean, noisy in _drawn(config, seed):
                noisy_file.append(noisy)
                clean_file.append(clean)
        return cls(
            noisy_file.mapped(config.n_codes),
            clean_file.mapped(config.n_codes),
            categories(config),
        )


def _drawn(config: PoolConfig, seed: int) -> Iterator[tuple[sp.csr_matrix, sp.csr_matrix]]:
    """Clean and noisy codes of one part after another."""
    rng = np.random.default_rng(seed)
    tastes, category = topic_tastes(config, rng), categories(config)
    for start in range(0, config.n_emrs, EMRS_AT_ONCE):
        count = min(EMRS_AT_ONCE, config.n_emrs - start)
        clean = draw_clean(tastes, count, config, rng)
        yield clean, map_names(clean, category, config, rng)[0]


class _CsrFile:
    """A CSR matrix that grows by rows on disk: its values and columns; row ends stay in memory."""

    def __init__(self, path: Path) -> None:
        self._paths = path.with_suffix(".values"), path.with_suffix(".columns")
        self._files: list[IO[bytes]] = []
        self._lengths: list[NDArray[np.int32]] = []

    def __enter__(self) -> None:
        self._files = [path.open("wb") for path in self._paths]

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def append(self, rows: sp.csr_matrix) -> None:
        """Add rows at the end."""
        values, columns = self._files
        rows.data.astype(np.float32, copy=False).tofile(values)
        rows.indices.astype(np.int32, copy=False).tofile(columns)
        self._lengths.append(np.diff(rows.indptr).astype(np.int32))

    def mapped(self, n_columns: int) -> sp.csr_matrix:
        """The whole matrix, read from the files as it is used."""
        ends = np.concatenate([[0], np.cumsum(np.concatenate(self._lengths))]).astype(np.int32)
        values = np.memmap(self._paths[0], np.float32, mode="r")
        columns = np.memmap(self._paths[1], np.int32, mode="r")
        matrix = sp.csr_matrix((values, columns, ends), shape=(ends.size - 1, n_columns))
        # Rows were written sorted and without repeats; to look again would read all of them.
        matrix.has_canonical_format = True
        return matrix
