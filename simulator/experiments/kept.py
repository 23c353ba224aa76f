"""Keeps the finished rows of an experiment in a file: begun again, a run goes on from there.

JSON Lines: the first line says what made the rows, each further one holds a key and its value. Only
figures are kept, and names of settings; no text of an EMR.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from label_config.errors import ConfigError, DataError

MADE_BY = ("label_config", "sampler", "training", "simulator")
KINDS = (".py", ".yaml", ".csv")
Value = TypeVar("Value")
Key = Mapping[str, Any]
"""All that a value depends on, beyond what the file's first line says; JSON values."""


class Kept:
    """Keeps nothing: every value is made."""

    def row(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of `key`, a row or whatever else JSON holds: the kept one, or a new one."""
        return make()

    def __contains__(self, key: Key) -> bool:
        """Whether `row` would find it."""
        return False


NOTHING = Kept()


class KeptInFile(Kept):
    """Keeps every value on disk as soon as it is made."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Go on with the file, or begin it.

        Args:
            path: Nobody else may write to it meanwhile.
            about: What made the rows, flat JSON values.

        Raises ConfigError for a file of other rows, naming what differs, and DataError for a file
        that is damaged, or none of ours. A last line that was not written to its end is dropped.
        """
        self.path = path
        self._found: dict[str, Any] = {}
        content = path.read_bytes() if path.exists() else b""
        *lines, torn = content.split(b"\n")
        if lines:
            self._refuse_other(_parsed(lines[0]), about)
        elif not _line(about).startswith(torn):  # what may be there is our first line, torn
            self._refuse_other(None, about)
        lost = self._read(lines[1:]) + len(torn)
        if lost:
            os.truncate(path, len(content) - lost)
        if not lines:
            self._append(_line(about))

    def row(self, key: Key, make: Callable[[], Value]) -> Value:
        """A new value comes back as it will be read: a run that was stopped gives the same."""
        name = _name(key)
        if name not in self._found:
            line = _line({"key": key, "value": make()})
            self._append(line)
            self._found[name] = json.loads(line)["value"]
        found: Value = self._found[name]
        return found

    def __contains__(self, key: Key) -> bool:
        return _name(key) in self._found

    def _refuse_other(self, theirs: Mapping[str, Any] | None, ours: Mapping[str, Any]) -> None:
        if theirs is None or "experiment" not in theirs:
            raise DataError(f"{self.path} holds no kept rows; needed such a file, or a new one")
        other = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        if other:
            names = dict.fromkeys(["experiment", *other])
            made, now = (
                ", ".join(f"{name} {about.get(name)}" for name in names) for about in (theirs, ours)
            )
            raise ConfigError(
                f"{self.path} holds rows of {made}; this run is {now} and needs a file of its own"
            )

    def _read(self, lines: list[bytes]) -> int:
        """Take every row in; return the bytes of a last line that a crash of the disk spoilt."""
        for number, line in enumerate(lines, start=2):
            one = _parsed(line)
            if one is not None and {"key", "value"} <= set(one):
                self._found[_name(one["key"])] = one["value"]
            elif number == len(lines) + 1:
                return len(line) + 1
            else:
                raise DataError(f"line {number} of {self.path} is damaged")
        return 0

    def _append(self, line: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def content_hash() -> str:
    """16 hex digits for all code and knowledge that rows are made by, committed or not."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[2]
    for package in MADE_BY:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in KINDS:
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _name(key: Key) -> str:
    return json.dumps(key, sort_keys=True)


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=np.generic.item).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
