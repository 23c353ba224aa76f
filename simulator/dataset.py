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
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from label_config.errors import ConfigError
from label_config.files import SCHEMAS, atomic_path, write_json
from label_config.record import EMR, Coding
from simulator.hospital import Hospital, SimulatedEMR
from simulator.knowledge import load_pack
from simulator.patient import visit_of
from simulator.phrase import Bank
from simulator.quality import PRESETS, NoiseRates, SpoiltName, degrade

CHUNK = 500
"""EMRs per unit of work and per row group."""
ABOUT_SCHEMA = pa.schema([("emr_id", pa.string()), ("split", pa.string()), ("share", pa.string())])
ERROR_SCHEMA = pa.schema(
    [
        ("emr_id", pa.string()),
        ("position", pa.int32()),
        ("gold_code", pa.string()),
        ("kind", pa.string()),
        ("name_code", pa.string()),
    ]
)
TABLES = ("emrs", "gold", "about", "errors")
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
    """Share of patients for training; of the others one half each validates and tests."""

    def __post_init__(self) -> None:
        if self.emrs < 1:
            raise ConfigError(f"emrs must be at least 1, got {self.emrs}")
        if not (self.clean >= 0 and self.raw >= 0 and self.clean + self.raw <= 1):
            raise ConfigError(
                f"clean and raw must be shares that sum to at most 1, got {self.clean}, {self.raw}"
            )
        if not 0 < self.train < 1:
            raise ConfigError(f"train must lie between 0 and 1, got {self.train}")


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
    written, errors = 0, 0
    with ExitStack() as stack:
        writers = {
            name: pq.ParquetWriter(
                stack.enter_context(atomic_path(folder / f"{name}.parquet")),
                schema,
                compression="zstd",
            )
            for name, schema in _schemas().items()
        }
        for tables in _chunks(config, processes):
            for name, table in tables.items():
                writers[name].write_table(table, row_group_size=max(1, table.num_rows))
            written += tables["emrs"].num_rows
            errors += tables["errors"].num_rows
            if progress is not None:
                progress(written, config.emrs)
        for writer in writers.values():
            writer.close()
    return _finished(folder, config, written, errors)


def split_of(config: DatasetConfig, patient_id: str) -> str:
    """The split of a patient; all admissions of one patient share it."""
    drawn = Random(f"{config.seed}/split/{patient_id}").random()
    if drawn < config.train:
        return "train"
    return "validation" if drawn < (1.0 + config.train) / 2 else "test"


def share_of(config: DatasetConfig, emr_id: str) -> str:
    """clean, noisy or raw."""
    drawn = Random(f"{config.seed}/share/{emr_id}").random()
    if drawn < config.clean:
        return "clean"
    return "raw" if drawn < config.clean + config.raw else "noisy"


def _schemas() -> dict[str, pa.Schema]:
    return {
        "emrs": SCHEMAS[EMR],
        "gold": SCHEMAS[Coding],
        "about": ABOUT_SCHEMA,
        "errors": ERROR_SCHEMA,
    }


def _chunks(config: DatasetConfig, processes: int) -> Iterator[dict[str, pa.Table]]:
    """Every chunk's tables in order; at most two chunks a process wait to be written."""
    starts = range(0, config.emrs, CHUNK)
    if processes == 1:
        worker = _Worker(config)
        for start in starts:
            yield worker.tables(start)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start_worker, initargs=(config,)
    ) as pool:
        waiting: deque[Future[dict[str, bytes]]] = deque()
        for start in starts:
            waiting.append(pool.submit(_work, start))
            if len(waiting) >= 2 * processes:
                yield _read_tables(waiting.popleft().result())
        while waiting:
            yield _read_tables(waiting.popleft().result())


_WORKER: list[_Worker] = []
"""The worker of this process, once started."""


def _start_worker(config: DatasetConfig) -> None:
    _WORKER[:] = [_Worker(config)]


def _work(start: int) -> dict[str, bytes]:
    return {name: _ipc(table) for name, table in _WORKER[0].tables(start).items()}


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _read_tables(packed: dict[str, bytes]) -> dict[str, pa.Table]:
    return {name: pa.ipc.open_stream(data).read_all() for name, data in packed.items()}


class _Worker:
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

    def tables(self, start: int) -> dict[str, pa.Table]:
        """The tables of EMRs start..start+CHUNK."""
        config = self.config
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        for simulated in self.hospital.emrs(min(CHUNK, config.emrs - start), start):
            self._add(simulated, rows)
        return {
            name: pa.Table.from_pylist(rows[name], schema=schema)
            for name, schema in _schemas().items()
        }

    def _add(self, simulated: SimulatedEMR, rows: dict[str, list[dict[str, Any]]]) -> None:
        config = self.config
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
        rows["emrs"].append(_emr_row(emr))
        rows["gold"].append(_gold_row(simulated.gold))
        split = split_of(config, emr.patient_id or emr.emr_id)
        rows["about"].append({"emr_id": emr.emr_id, "split": split, "share": share})
        rows["errors"].extend(_error_row(error) for error in errors)


def _emr_row(emr: EMR) -> dict[str, Any]:
    return {
        "emr_id": emr.emr_id,
        "patient_id": emr.patient_id,
        "sex": emr.sex,
        "age": emr.age,
        "sections": [{"name": name, "text": text} for name, text in emr.sections.items()],
        "diagnoses": [{"name": d.name, "code": d.code} for d in emr.diagnoses],
    }


def _gold_row(gold: Coding) -> dict[str, Any]:
    evidence = [
        {
            "code": span.code,
            "section": span.section,
            "start": span.start,
            "end": span.end,
            "score": span.score,
        }
        for span in gold.evidence
    ]
    return {
        "emr_id": gold.emr_id,
        "source": gold.source,
        "codes": list(gold.codes),
        "confidence": [],
        "evidence": evidence,
        "coder": None,
        "seconds": None,
        "quality": gold.quality,
        "note": gold.note,
        "suggested": [],
    }


def _error_row(error: SpoiltName) -> dict[str, Any]:
    return {name: getattr(error, name) for name in ERROR_SCHEMA.names}


def _finished(folder: Path, config: DatasetConfig, written: int, errors: int) -> DatasetReport:
    hashes = {f"{name}.parquet": _sha256(folder / f"{name}.parquet") for name in TABLES}
    write_json(
        folder / "dataset.json",
        {"settings": asdict(config), "emrs": written, "errors": errors, "sha256": hashes},
    )
    return DatasetReport(folder, written, _patients(config), errors, hashes)


def _patients(config: DatasetConfig) -> int:
    return visit_of(config.emrs - 1)[0] + 1


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
