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
        self._path = path
        with pq.ParquetFile(path) as file:
            self._position: dict[str, tuple[int, int]] = {}
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["emr_id"])["emr_id"].to_pylist()
                self._position.update({emr_id: (group, i) for i, emr_id in enumerate(ids)})

    def __contains__(self, emr_id: object) -> bool:
        return emr_id in self._position

    def __len__(self) -> int:
        return len(self._position)

    def __iter__(self) -> Iterator[EMR]:
        with pq.ParquetFile(self._path) as file:
            for group in range(file.num_row_groups):
                for values in file.read_row_group(group).to_pylist():
                    yield emr_from_dict(values)

    def get(self, emr_ids: Sequence[str]) -> dict[str, EMR]:
        """The EMRs that the pool holds among `emr_ids`; unknown ids are left out."""
        groups: dict[int, list[int]] = {}
        for emr_id in emr_ids:
            if emr_id in self._position:
                group, row = self._position[emr_id]
                groups.setdefault(group, []).append(row)
        found: dict[str, EMR] = {}
        with pq.ParquetFile(self._path) as file:
            for group, rows in groups.items():
                for values in file.read_row_group(group).take(rows).to_pylist():
                    emr = emr_from_dict(values)
                    found[emr.emr_id] = emr
        return found
