"""Datasets: EMRs, gold codes, errors and splits as Parquet, written by any number of processes.

A folder holds

    emrs.parquet     the records, names degraded; raw ones have no diagnosis names
    gold.parquet     their gold codes and evidence
    about.parquet    emr_id, split (train, validation, test), share (clean, noisy, raw)
    errors.parquet   every error that was put into the names
    dataset.json     settings, seeds, counts and hashes
    CARD.md          what it is and how it compares with real records

Chunk i is a pure function of the settings, and chunks are written in order: the bytes do not
depend on the number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from label_config.errors import ConfigError
from label_config.files import atomic_path, write_json
from label_config.record import EMR
from simulator.hospital import Hospital
from simulator.knowledge import load_pack
from simulator.patient import visit_of
from simulator.phrase import Bank
from simulator.quality import PRESETS, NoiseRates, degrade
from simulator.tables import TABLE_SCHEMAS, Rows, Tables
from simulator.workers import answer, in_order

CHUNK = 500
"""EMRs per unit of work."""
CHUNKS_PER_GROUP = 4
"""Per row group of Parquet: what a file tells of its row groups stays in memory to the end."""
Progress = Callable[[int, int], None]
"""Called with (EMRs written, EMRs in all)."""


@dataclass(frozen=True)
class DatasetConfig:
    """What to write; the same settings give the same bytes."""

    emrs: int = 10_000
    """Number of EMRs."""
    profile: Literal["hph", "aph"] = "hph"
    """Kind of hospital."""
    codes: int = 50
    """How many of the most frequent codes."""
    noise: NoiseRates = field(default_factory=lambda: PRESETS["nhc2020"])
    """How often diagnosis names are spoilt."""
    seed: int = 0
    """Of the hospital, the noise and the splits."""
    bank: Bank = "A"
    """Which hospital's wording."""
    language: str = "en"
    """Which knowledge pack."""
    clean: float = 0.25
    """Share of EMRs whose codes a coder has checked."""
    raw: float = 0.0
    """Share of incomplete EMRs without diagnosis names; the rest is noisy."""
    train: float = 0.6
    """Share of patients for training."""
    validation: float = 0.2
    """Share of patients for validation; the rest is for testing."""
    first: int = 0
    """Index of the first EMR: datasets of one seed whose ranges do not meet share no EMR."""

    def __post_init__(self) -> None:
        if self.emrs < 1:
            raise ConfigError(f"emrs must be at least 1, got {self.emrs}")
        if not (self.clean >= 0 and self.raw >= 0 and self.clean + self.raw <= 1):
            raise ConfigError(
                f"clean and raw must be shares that sum to at most 1, got {self.clean}, {self.raw}"
            )
        if not (self.train > 0 and self.validation >= 0 and self.train + self.validation <= 1):
            raise ConfigError(
                "train must be above 0, and train and validation sum to at most 1, got "
                f"{self.train} and {self.validation}"
            )
        if self.first < 0:
            raise ConfigError(f"first must be at least 0, got {self.first}")


DATASETS: dict[str, DatasetConfig] = {
    "A": DatasetConfig(),
    "B": DatasetConfig(clean=0.0, raw=1.0, first=5_000_000),
}
"""The two of the paper's Fig. 4: `A` holds complete EMRs, a quarter of them clean and the others
noisy; `B` holds raw ones, incomplete as they come, of patients who do not stand in `A`."""


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What was written."""

    folder: Path
    emrs: int
    patients: int
    errors: int
    hashes: dict[str, str]
    """File name -> SHA-256 of its bytes."""


def write_dataset(
    folder: Path,
    config: DatasetConfig,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> DatasetReport:
    """Write the tables and `dataset.json` into `folder`; memory does not grow with `emrs`."""
    if processes < 1:
        raise ConfigError(f"processes must be at least 1, got {processes}")
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"emrs": 0, "errors": 0}
    with ExitStack() as stack:
        writers = {
            name: pq.ParquetWriter(
                stack.enter_context(atomic_path(folder / f"{name}.parquet")),
                schema,
                compression="zstd",
            )
            for name, schema in TABLE_SCHEMAS.items()
        }
        group: list[Tables] = []
        for tables in _chunks(config, processes):
            group.append(tables)
            for name in counts:
                counts[name] += tables[name].num_rows
            if len(group) == CHUNKS_PER_GROUP or counts["emrs"] == config.emrs:
                _write_group(writers, group)
                group.clear()
            if progress is not None:
                progress(counts["emrs"], config.emrs)
        for writer in writers.values():
            writer.close()
    return _finished(folder, config, counts["emrs"], counts["errors"])


def _write_group(writers: dict[str, pq.ParquetWriter], group: list[Tables]) -> None:
    for name, writer in writers.items():
        table = pa.concat_tables([tables[name] for tables in group])
        writer.write_table(table, row_group_size=max(1, table.num_rows))


def split_of(config: DatasetConfig, patient_id: str) -> str:
    """The split of a patient; all admissions of one patient share it."""
    drawn = Random(f"{config.seed}/split/{patient_id}").random()
    if drawn < config.train:
        return "train"
    return "validation" if drawn < config.train + config.validation else "test"


def share_of(config: DatasetConfig, emr_id: str) -> str:
    """clean, noisy or raw."""
    drawn = Random(f"{config.seed}/share/{emr_id}").random()
    if drawn < config.clean:
        return "clean"
    return "raw" if drawn < config.clean + config.raw else "noisy"


def _chunks(config: DatasetConfig, processes: int) -> Iterator[Tables]:
    """Every chunk's tables, in order."""
    starts = range(0, config.emrs, CHUNK)
    if processes == 1:
        yield from map(_Chunks(config).tables, starts)
        return
    yield from in_order(
        "simulator.dataset", asdict(config), starts, tuple(TABLE_SCHEMAS), processes
    )


class _Chunks:
    """Simulates chunks and lays them out as columns."""

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config
        self.pack = load_pack(config.language)
        self.hospital = Hospital(
            self.pack,
            profile=config.profile,
            codes=config.codes,
            seed=config.seed,
            bank=config.bank,
        )

    def tables(self, start: int) -> Tables:
        """The tables of EMRs start..start+CHUNK of the dataset."""
        config, rows = self.config, Rows()
        size = min(CHUNK, config.emrs - start)
        for simulated in self.hospital.emrs(size, config.first + start):
            emr, errors = degrade(
                simulated,
                config.noise,
                self.pack,
                seed=config.seed,
                codes=self.hospital.codes,
                bank=config.bank,
            )
            share = share_of(config, emr.emr_id)
            if share == "raw":
                emr = EMR(emr.emr_id, emr.sections, (), emr.patient_id, emr.sex, emr.age)
                errors = []
            split = split_of(config, emr.patient_id or emr.emr_id)
            rows.add(emr, simulated.gold, errors, split=split, share=share)
        return rows.tables()


def _finished(folder: Path, config: DatasetConfig, written: int, errors: int) -> DatasetReport:
    hashes = {f"{name}.parquet": _sha256(folder / f"{name}.parquet") for name in TABLE_SCHEMAS}
    write_json(
        folder / "dataset.json",
        {"settings": asdict(config), "emrs": written, "errors": errors, "sha256": hashes},
    )
    return DatasetReport(folder, written, _patients(config), errors, hashes)


def _patients(config: DatasetConfig) -> int:
    return visit_of(config.first + config.emrs - 1)[0] - visit_of(config.first)[0] + 1


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    """Be one of the processes that write a dataset; see `workers`."""

    def start(settings: dict[str, Any]) -> Callable[[int], Tables]:
        noise = NoiseRates(**settings.pop("noise"))
        return _Chunks(DatasetConfig(noise=noise, **settings)).tables

    answer(start)


if __name__ == "__main__":
    main()
