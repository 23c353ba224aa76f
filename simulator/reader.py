"""Reads a dataset folder back: EMRs, gold codes, splits, shares and errors."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from label_config.errors import DataError
from label_config.files import coding_from_dict, emr_from_dict
from label_config.record import EMR, Coding
from simulator.quality import KINDS


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory; the lists run in parallel, one entry per EMR."""

    settings: dict[str, Any]
    emrs: list[EMR]
    gold: list[Coding]
    splits: list[str]
    """train, validation or test."""
    shares: list[str]
    """clean, noisy or raw."""
    errors: list[tuple[str, str]]
    """(emr_id, kind) of every error in the diagnosis names."""

    def of(self, *, split: str | None = None, share: str | None = None) -> list[int]:
        """Places of the EMRs of one split, one share, or both."""
        return [
            i
            for i in range(len(self.emrs))
            if split in (None, self.splits[i]) and share in (None, self.shares[i])
        ]

    def error_rates(self) -> dict[str, float] | None:
        """Errors of each kind per gold code of EMRs with diagnosis names; None without any."""
        ids = {e.emr_id for e, s in zip(self.emrs, self.shares, strict=True) if s != "raw"}
        codes = sum(len(coding.codes) for coding in self.gold if coding.emr_id in ids)
        counts = Counter(kind for emr_id, kind in self.errors if emr_id in ids)
        return {kind: counts[kind] / codes for kind in KINDS} if codes else None


def read_dataset(folder: Path, *, at_most: int | None = None) -> Dataset:
    """The first `at_most` EMRs of a folder that `write_dataset` made, or all of them.

    Raises DataError for a folder without a dataset.
    """
    try:
        settings = json.loads((folder / "dataset.json").read_text("utf-8"))["settings"]
    except (OSError, ValueError, KeyError):
        raise DataError(f"{folder} holds no dataset: dataset.json is missing or broken") from None
    emrs = [emr_from_dict(row) for row in _rows(folder / "emrs.parquet", at_most)]
    gold = [coding_from_dict(row) for row in _rows(folder / "gold.parquet", at_most)]
    about = list(_rows(folder / "about.parquet", at_most))
    known = {emr.emr_id for emr in emrs}
    errors = [
        (row["emr_id"], row["kind"])
        for row in _rows(folder / "errors.parquet", None)
        if row["emr_id"] in known
    ]
    return Dataset(
        settings,
        emrs,
        gold,
        [row["split"] for row in about],
        [row["share"] for row in about],
        errors,
    )


def _rows(path: Path, at_most: int | None) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"the dataset lacks {path.name}")
    rows: list[dict[str, Any]] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1000):
        rows += batch.to_pylist()
        if at_most is not None and len(rows) >= at_most:
            return rows[:at_most]
    return rows
