"""Label Studio's export files, streamed task by task: JSON, snapshot, JSON_MIN, CSV and TSV.

JSON_MIN and CSV hold one row per annotation and drop ids, scores, origins and predictions; their
rows come back in the shape of JSON, with what they still hold. Nothing says there who drew a
highlight, so that none of them adds a code.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ijson

from label_config.errors import DataError

Task = dict[str, Any]

MAX_CELL_CHARACTERS = 64 * 2**20
_DATA_PREFIX = "_data_"
"""How CSV names a data field that a control has the same name as."""
_ROW_KEYS = frozenset(
    (
        *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"),
        *("agreement", "history"),
    )
)
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def stream_tasks(path: Path, controls: Collection[str]) -> Iterator[Task]:
    """Every entry of an export, one at a time, as a task {id, data, annotations}.

    `controls` are the names of the interface's controls, which tell a row's answers from its data.
    An entry that is no task comes as it is. Raises DataError, which names the file and how many
    entries came before, where the file cannot be read on.
    """
    count = 0
    try:
        for entry in _entries(path):
            yield _from_row(entry, controls) if _is_row(entry) else entry
            count += 1
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} must be UTF-8 text, after {count} entries it is not") from None
    except (ijson.JSONError, ValueError, RecursionError, OverflowError):
        raise DataError(f"{path} is not valid JSON after {count} entries") from None
    except csv.Error:
        raise DataError(f"{path} is not a valid table after {count} rows") from None


def _entries(path: Path) -> Iterator[Any]:
    separator = _SEPARATORS.get(path.suffix.lower())
    return _json_entries(path) if separator is None else _table_rows(path, separator)


def _json_entries(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        begin = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
        file.seek(begin)
        if file.read(64).lstrip()[:1] != b"[":
            raise DataError(f"{path} must be a JSON export, a list of tasks")
        file.seek(begin)
        yield from ijson.items(file, "item", use_float=True)


def _table_rows(path: Path, separator: str) -> Iterator[Task]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=separator, strict=True)
        if "annotation_id" not in (reader.fieldnames or ()):
            raise DataError(f"{path} must be an export of Label Studio with column annotation_id")
        for row in reader:
            cells = {name: _cell(text) for name, text in row.items() if isinstance(name, str)}
            yield {name: value for name, value in cells.items() if value is not None}


def _cell(text: object) -> Any:
    """What a cell holds: lists and objects as JSON, everything else as text; None where empty."""
    if not isinstance(text, str) or not text:
        return None
    if text[0] not in "[{":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_row(entry: object) -> bool:
    return isinstance(entry, dict) and "annotation_id" in entry and "annotations" not in entry


def _from_row(row: Mapping[str, Any], controls: Collection[str]) -> Task:
    data = {
        name.removeprefix(_DATA_PREFIX): value
        for name, value in row.items()
        if name not in controls and name not in _ROW_KEYS
    }
    task = {"id": _whole(row.get("id")), "data": data}
    if row["annotation_id"] in (None, ""):
        return {**task, "annotations": []}
    annotation = {
        "id": _whole(row["annotation_id"]),
        "completed_by": row.get("annotator"),
        "updated_at": row.get("updated_at"),
        "lead_time": _seconds(row.get("lead_time")),
        "result": [item for name in controls for item in _items(name, row.get(name))],
    }
    return {**task, "annotations": [annotation]}


def _items(control: str, value: Any) -> Iterator[dict[str, Any]]:
    """The items of one control; regions of one place get one id, as they had."""
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str) and part:
            part = {"choices": [part], "text": [part]}
        if isinstance(part, dict):
            keys = ("start", "startOffset", "end", "endOffset")
            place = "-".join(str(part.get(key)) for key in keys)
            item = {"from_name": control, "value": part, "id": place}
            yield {**item, "origin": "prediction"} if "labels" in part else item


def _whole(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value


def _seconds(value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return None
