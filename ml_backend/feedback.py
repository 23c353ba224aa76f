"""What coders decided since the last pull: one line per annotation event, learned by every worker.

Label Studio tells an annotation once or more, singly or in lists, to whichever worker answers. The
line is on disk before the event is answered, and each worker reads the lines that it has not seen
before its next suggestion.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_config.errors import DataError
from label_config.files import coding_from_dict, emr_from_dict, to_dict
from label_config.record import EMR, Coding
from ml_backend.locks import locked

FILE = "feedback.jsonl"


@dataclass(frozen=True, slots=True)
class Feedback:
    """One decision."""

    key: str
    """Names the annotation in one state; the same key is written once."""
    coding: Coding
    emr: EMR | None = None
    """The record, where the pool does not hold it."""


class Journal:
    """One workspace's feedback; any number of processes and threads write and read it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._unlearned, self._written = _Tail(self._path), _Tail(self._path)
        self._known: set[str] = set()
        self._returned: set[str] = set()
        self._lock = threading.Lock()

    def append(self, found: Iterable[Feedback]) -> int:
        """Write what no process has written yet; return how many that was."""
        with self._lock, locked(self._path.with_suffix(".lock")):
            self._known.update(entry.key for entry in self._written.news())
            fresh = {entry.key: entry for entry in found if entry.key not in self._known}
            if fresh:
                lines = "".join(json.dumps(_values(entry)) + "\n" for entry in fresh.values())
                with self._path.open("ab") as file:
                    # a line that a crash cut short must not swallow this one
                    cut = b"\n" if self._written.is_inside_a_line else b""
                    file.write(cut + lines.encode())
                    file.flush()
                    os.fsync(file.fileno())
        return len(fresh)

    def news(self) -> list[Feedback]:
        """Entries that this object has not returned before, oldest first."""
        found = {entry.key: entry for entry in self._unlearned.news()}
        fresh = [entry for key, entry in found.items() if key not in self._returned]
        self._returned.update(found)
        return fresh


class _Tail:
    """Reads a growing file of lines, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    @property
    def is_inside_a_line(self) -> bool:
        """Whether the file goes on behind its last whole line."""
        return self._size() > self._at

    def news(self) -> list[Feedback]:
        """The whole lines that were not returned before."""
        size = self._size()
        if size <= self._at:
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read(size - self._at)
        whole = text.rfind(b"\n") + 1
        self._at += whole
        return [entry for line in text[:whole].splitlines() if (entry := _entry(line))]

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def _values(entry: Feedback) -> dict[str, Any]:
    emr = to_dict(entry.emr) if entry.emr is not None else None
    return {"key": entry.key, "coding": to_dict(entry.coding), "emr": emr}


def _entry(line: bytes) -> Feedback | None:
    """None for a line that a crash cut short."""
    try:
        values = json.loads(line)
        emr = emr_from_dict(values["emr"]) if values["emr"] is not None else None
        return Feedback(str(values["key"]), coding_from_dict(values["coding"]), emr)
    except (ValueError, KeyError, TypeError, DataError):
        return None
