"""Read and write EMRs and codings as JSON Lines or Parquet; broken records are named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from label_config.errors import DataError
from label_config.record import EMR, Coding, Diagnosis, EvidenceSpan

Record = TypeVar("Record", EMR, Coding)
Value = TypeVar("Value")
ROWS_PER_GROUP = 1_000
MAX_LINE_BYTES = 64 * 2**20
LAST_OFFSET = 2**31 - 1

_SPAN = pa.struct(
    [
        ("code", pa.string()),
        ("section", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("score", pa.float32()),
    ]
)
_NAME_CODE = pa.struct([("name", pa.string()), ("code", pa.string())])
_NAME_TEXT = pa.struct([("name", pa.string()), ("text", pa.string())])
SCHEMAS: dict[type, pa.Schema] = {
    EMR: pa.schema(
        [
            ("emr_id", pa.string()),
            ("patient_id", pa.string()),
            ("sex", pa.string()),
            ("age", pa.float64()),
            ("sections", pa.list_(_NAME_TEXT)),
            ("diagnoses", pa.list_(_NAME_CODE)),
        ]
    ),
    Coding: pa.schema(
        [
            ("emr_id", pa.string()),
            ("source", pa.string()),
            ("codes", pa.list_(pa.string())),
            ("confidence", pa.list_(pa.float32())),
            ("evidence", pa.list_(_SPAN)),
            ("coder", pa.string()),
            ("seconds", pa.float64()),
            ("quality", pa.string()),
            ("note", pa.string()),
            ("suggested", pa.list_(pa.string())),
        ]
    ),
}
_FIELDS = {kind: dict.fromkeys(schema.names) for kind, schema in SCHEMAS.items()}
_FIELDS[EvidenceSpan] = dict.fromkeys(_SPAN.names)


@dataclass(frozen=True, slots=True)
class Problem:
    """One record that could not be read: where it stands and why; never what it says."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(slots=True)
class ReadReport(Generic[Record]):
    """The records that could be read, and the problems of those that could not."""

    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_emrs(path: Path) -> ReadReport[EMR]:
    """Read every EMR of a .jsonl or .parquet file; broken or repeated ones are reported."""
    return _read(path, EMR, emr_from_dict)


def read_codings(path: Path) -> ReadReport[Coding]:
    """Read every coding of a .jsonl or .parquet file; broken or repeated ones are reported."""
    return _read(path, Coding, coding_from_dict)


def write_records(path: Path, records: Iterable[EMR] | Iterable[Coding], kind: type) -> int:
    """Write a stream of EMRs or codings, by the file's ending; return how many.

    The file appears whole or not at all; memory stays bounded by `ROWS_PER_GROUP` records.
    """
    if path.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{path} must end in .jsonl or .parquet")
    schema = SCHEMAS[kind]
    count = 0
    with atomic_path(path) as temporary:
        if path.suffix == ".jsonl":
            with temporary.open("w", encoding="utf-8") as file:
                for record in records:
                    file.write(json.dumps(to_dict(record), ensure_ascii=False) + "\n")
                    count += 1
        else:
            with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                group: list[dict[str, Any]] = []
                for record in records:
                    group.append(_parquet_row(record))
                    count += 1
                    if len(group) == ROWS_PER_GROUP:
                        writer.write_table(pa.Table.from_pylist(group, schema=schema))
                        group.clear()
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
    return count


def to_dict(record: EMR | Coding) -> dict[str, Any]:
    """The record as plain JSON values; `emr_from_dict` and `coding_from_dict` read it back."""
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    if isinstance(record, EMR):
        values["sections"] = dict(record.sections)
        values["diagnoses"] = [dataclasses.asdict(d) for d in record.diagnoses]
    else:
        values["evidence"] = [dataclasses.asdict(span) for span in record.evidence]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def emr_from_dict(values: dict[str, Any]) -> EMR:
    """Build an EMR from JSON values; sections may be a mapping or a list of {name, text}."""
    take = _Taker(values, "an EMR", _FIELDS[EMR])
    sections = values.get("sections") or {}
    if isinstance(sections, list):
        pairs = [(str(s.get("name")), s.get("text")) for s in map(_as_dict, sections)]
        if len(dict(pairs)) != len(pairs):
            raise DataError("two sections have the same name")
        sections = dict(pairs)
    if not isinstance(sections, dict) or any(not isinstance(t, str) for t in sections.values()):
        raise DataError("sections must map names to texts")
    for name, text in sections.items():
        _whole(name, "a section's name")
        _whole(text, "a section's text")
    diagnoses = []
    for item in take.items("diagnoses"):
        entry = {"name": item} if isinstance(item, str) else _as_dict(item)
        name, code = entry.get("name"), entry.get("code")
        if not isinstance(name, str) or not isinstance(code, str | None):
            raise DataError("a diagnosis needs a name as text, and its code as text if it has one")
        _whole(name, "a diagnosis")
        _whole(code or "", "a diagnosis's code")
        diagnoses.append(Diagnosis(name, code))
    sex = values.get("sex")
    if sex not in (None, "female", "male"):
        raise DataError('sex must be "female", "male" or absent')
    return EMR(
        emr_id=take.text("emr_id"),
        sections=sections,
        diagnoses=tuple(diagnoses),
        patient_id=take.optional_text("patient_id"),
        sex=sex,
        age=take.number("age"),
    )


def coding_from_dict(values: dict[str, Any]) -> Coding:
    """Build a coding from JSON values."""
    take = _Taker(values, "a coding", _FIELDS[Coding])
    if values.get("source") not in ("noisy", "clean", "gold"):
        raise DataError('source must be "noisy", "clean" or "gold"')
    if values.get("quality", "clean") not in ("clean", "unsure", "bad"):
        raise DataError('quality must be "clean", "unsure" or "bad"')
    evidence = tuple(map(_span, take.items("evidence")))
    return Coding(
        emr_id=take.text("emr_id"),
        codes=tuple(take.texts("codes")),
        source=values["source"],
        confidence=tuple(take.numbers("confidence")),
        evidence=evidence,
        coder=take.optional_text("coder"),
        seconds=take.number("seconds"),
        quality=values.get("quality") or "clean",
        note=take.optional_text("note") or "",
        suggested=tuple(take.texts("suggested")),
    )


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all; NaN and infinity, which JSON lacks, become null."""
    with atomic_path(path) as temporary:
        text = json.dumps(_finite(value), ensure_ascii=False, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


def read_json(path: Path, build: Callable[[Any], Value]) -> Value:
    """What `build` makes of the JSON in a file that we wrote ourselves.

    Raises DataError, naming the file, where it is damaged or `build` cannot use it.
    """
    try:
        return build(json.loads(path.read_text("utf-8")))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path} is damaged: restore it from a backup") from None


def data_hash(records: Iterable[EMR] | Iterable[Coding]) -> str:
    """The first 16 hex digits of a SHA-256 over the records in their order."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(to_dict(record), sort_keys=True).encode())
    return digest.hexdigest()[:16]


class _Taker:
    """Takes typed values out of one JSON object, or says which one was wrong."""

    def __init__(self, values: dict[str, Any], what: str, known: dict[str, None]) -> None:
        if not values.keys() <= known.keys():
            unknown = min(map(str, values.keys() - known.keys()))
            raise DataError(f"{what} has no field {unknown!r}; it has {list(known)}")
        self.values = values

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str):
            raise DataError(f"{name} must be text, got {type(value).__name__}")
        return _whole(value, name)

    def optional_text(self, name: str) -> str | None:
        return None if self.values.get(name) is None else self.text(name)

    def number(self, name: str) -> float | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{name} must be a number, got {type(value).__name__}")
        return _as_float(value, name)

    def items(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise DataError(f"{name} must be a list, got {type(value).__name__}")
        return value

    def texts(self, name: str) -> list[str]:
        items = self.items(name)
        if any(not isinstance(item, str) for item in items):
            raise DataError(f"{name} must be a list of texts")
        return [_whole(item, name) for item in items]

    def numbers(self, name: str) -> list[float]:
        return [_as_float(item, name) for item in self.items(name)]


def _span(value: Any) -> EvidenceSpan:
    take = _Taker(_as_dict(value), "evidence", _FIELDS[EvidenceSpan])
    start, end, score = take.number("start"), take.number("end"), take.number("score")
    if start is None or end is None or not (start.is_integer() and end.is_integer()):
        raise DataError("evidence needs start and end as whole numbers")
    if end > LAST_OFFSET:
        raise DataError(f"evidence must end at {LAST_OFFSET} or before")
    return EvidenceSpan(
        code=take.text("code"),
        section=take.text("section"),
        start=int(start),
        end=int(end),
        score=1.0 if score is None else score,
    )


def _whole(text: str, what: str) -> str:
    """The text, unless a cut has left half a character, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} holds half a character (a lone surrogate)") from None
    return text


def _as_float(value: Any, name: str) -> float:
    try:
        return float(value)
    except (OverflowError, TypeError):
        raise DataError(f"{name} must be a number that a float can hold") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _as_dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"expected an object, got {type(value).__name__}")
    return value


def _parquet_row(record: EMR | Coding) -> dict[str, Any]:
    row = to_dict(record)
    if isinstance(record, EMR):
        row["sections"] = [{"name": n, "text": t} for n, t in record.sections.items()]
    return row


def _read(
    path: Path, kind: type[Record], build: Callable[[dict[str, Any]], Record]
) -> ReadReport[Record]:
    report: ReadReport[Record] = ReadReport()
    seen: dict[str, str] = {}
    for where, raw in _rows(path, kind):
        try:
            if isinstance(raw, DataError):
                raise raw
            record = build(raw)
            if record.emr_id in seen:
                raise DataError(f"emr_id stands already on {seen[record.emr_id]}")
        except (DataError, ValueError) as error:
            reason = str(error) if isinstance(error, DataError) else "a value has the wrong type"
            report.problems.append(Problem(where, reason))
            continue
        seen[record.emr_id] = where
        report.records.append(record)
    return report


def _rows(path: Path, kind: type) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    if not path.is_file():
        raise DataError(f"no file at {path}")
    if path.suffix == ".jsonl":
        yield from _jsonl_rows(path)
    elif path.suffix == ".parquet":
        yield from _parquet_rows(path, kind)
    else:
        raise DataError(f"{path} must end in .jsonl or .parquet")


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            if len(line) > MAX_LINE_BYTES:
                yield where, DataError(f"longer than {MAX_LINE_BYTES // 2**20} MiB")
                continue
            try:
                yield where, _as_dict(json.loads(line))
            except UnicodeDecodeError:
                yield where, DataError("not UTF-8 text")
            except (ValueError, RecursionError) as error:
                at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                yield where, DataError(f"not valid JSON{at}")
            except DataError as error:
                yield where, error


def _parquet_rows(path: Path, kind: type) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path} is not a Parquet file") from None
    missing = {"emr_id"} - set(file.schema_arrow.names)
    if missing:
        raise DataError(f"{path} needs a column emr_id, got {file.schema_arrow.names}")
    number = 0
    try:
        for group in file.iter_batches(batch_size=ROWS_PER_GROUP):
            for row in group.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pa.ArrowException, OSError):
        raise DataError(f"{path} is damaged after row {number}") from None
