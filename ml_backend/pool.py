"""Random access to a pool of EMRs in a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from label_config.files import emr_from_dict
from label_config.record import EMR


class PoolIndex:
    """Reads single EMRs out of a Parquet pool without holding their texts in memory."""

    def __init__(self, path: Path) -> None:
        """Read where each EMR stands; the file may be replaced later."""
        self._path = path
        self._read: tuple[object, dict[str, tuple[int, int]]] = (None, {})
        self._positions()

    def _positions(self) -> dict[str, tuple[int, int]]:
        """Row group and row of each EMR, read anew when the file is another one."""
        found = self._path.stat()
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._read[0] != stamp:
            positions: dict[str, tuple[int, int]] = {}
            with pq.ParquetFile(self._path) as file:
                for group in range(file.num_row_groups):
                    ids = file.read_row_group(group, columns=["emr_id"])["emr_id"].to_pylist()
                    positions.update({emr_id: (group, i) for i, emr_id in enumerate(ids)})
            self._read = (stamp, positions)
        return self._read[1]

    def __contains__(self, emr_id: object) -> bool:
        return emr_id in self._positions()

    def __len__(self) -> int:
        return len(self._positions())

    def __iter__(self) -> Iterator[EMR]:
        with pq.ParquetFile(self._path) as file:
            for group in range(file.num_row_groups):
                for values in file.read_row_group(group).to_pylist():
                    yield emr_from_dict(values)

    def get(self, emr_ids: Sequence[str]) -> dict[str, EMR]:
        """The EMRs that the pool holds among `emr_ids`; unknown ids are left out."""
        groups: dict[int, list[int]] = {}
        positions = self._positions()
        for emr_id in emr_ids:
            if emr_id in positions:
                group, row = positions[emr_id]
                groups.setdefault(group, []).append(row)
        found: dict[str, EMR] = {}
        with pq.ParquetFile(self._path) as file:
            for group, rows in groups.items():
                for values in file.read_row_group(group).take(rows).to_pylist():
                    emr = emr_from_dict(values)
                    found[emr.emr_id] = emr
        return found
