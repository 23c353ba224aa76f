"""The feature cache: each record version goes through the frozen encoder once.

A shard is a pair of files, `NAME.npy` (float16 node states, memory-mapped) and `NAME.npz` (the
small arrays, the shard's keys and the SHA-256 of the states). No text is stored in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from label_config.errors import CheckpointError
from label_config.files import atomic_path
from label_config.record import EMR
from training.encoder import Encoder
from training.words import RecordFeatures, read_sections, record_features

FORMAT = 1
RECORDS_PER_SHARD = 256
CHARACTERS_PER_STEP = 200_000
"""Bounds the memory of one call of the encoder."""

_log = logging.getLogger(__name__)


class FeatureStore:
    """Word-level features by content: the same text and encoder never run twice.

    With a `folder` the features live on disk and are mapped; without one, in memory, at most
    `limit` records of them (None for all).
    """

    def __init__(
        self, encoder: Encoder, folder: Path | None = None, *, limit: int | None = None
    ) -> None:
        self.encoder = encoder
        self.limit = limit
        self._found: dict[str, RecordFeatures] = {}
        self._folder = None if folder is None else folder / encoder.fingerprint[:16]
        self._shards: dict[str, Path] = {}
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._folder.glob("*.npz")):
                for key in _keys_of(path):
                    self._shards[key] = path

    def features(
        self, emrs: Sequence[EMR], *, progress: Callable[[int, int], None] | None = None
    ) -> list[RecordFeatures]:
        """Return one RecordFeatures per EMR, in order; only new texts are encoded."""
        records = [read_sections(emr) for emr in emrs]
        keys = [self._key(sections) for sections in records]
        self._read_shards(keys)
        new = {k: r for k, r in zip(keys, records, strict=True) if k not in self._found}
        shard: dict[str, RecordFeatures] = {}
        done = len(records) - len(new)
        for group in _steps(new):
            encoded = record_features(self.encoder, [new[key] for key in group])
            shard.update(zip(group, encoded, strict=True))
            done += len(group)
            if progress is not None:
                progress(done, len(records))
            if len(shard) >= RECORDS_PER_SHARD:
                self._keep(shard)
                shard = {}
        self._keep(shard)
        wanted = [self._found[key] for key in keys]
        if self.limit is not None:
            while len(self._found) > self.limit:
                self._found.pop(next(iter(self._found)))
        return wanted

    def _key(self, sections: Mapping[str, str]) -> str:
        content = json.dumps([FORMAT, self.encoder.checksum, list(sections.items())])
        return hashlib.sha256(content.encode()).hexdigest()

    def _read_shards(self, keys: Sequence[str]) -> None:
        wanted = {self._shards[k] for k in keys if k not in self._found and k in self._shards}
        for path in sorted(wanted):
            try:
                self._found.update(read_shard(path))
            except CheckpointError as error:
                _log.warning("%s; its records are encoded again", error)
                _remove(path)
                self._shards = {k: p for k, p in self._shards.items() if p != path}

    def _keep(self, shard: dict[str, RecordFeatures]) -> None:
        if not shard:
            return
        if self._folder is None:
            self._found.update(shard)
            return
        path = write_shard(self._folder, shard)
        self._shards.update(dict.fromkeys(shard, path))
        self._found.update(read_shard(path))  # mapped from here on: the memory is freed


def write_shard(folder: Path, shard: Mapping[str, RecordFeatures]) -> Path:
    """Write features by key; return the path of the .npz, which is written last."""
    name = hashlib.sha256("".join(shard).encode()).hexdigest()[:32]
    records = list(shard.values())
    states_path, path = folder / f"{name}.npy", folder / f"{name}.npz"
    with atomic_path(states_path) as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate([r.states_VD for r in records]), allow_pickle=False)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            keys=np.array(list(shard)),
            sections=np.array([json.dumps(r.sections) for r in records]),
            states_sha256=np.array(_sha256(states_path)),
            nodes_B=np.array([r.n_nodes for r in records], np.int64),
            words_B=np.array([len(r.nodes_W) for r in records], np.int64),
            nodes_W=np.concatenate([r.nodes_W for r in records]),
            sections_W=np.concatenate([r.sections_W for r in records]),
            spans_W2=np.concatenate([r.spans_W2 for r in records]),
            cls_BD=np.stack([r.cls_D for r in records]),
            mean_BD=np.stack([r.mean_D for r in records]),
        )
    return path


def read_shard(path: Path) -> dict[str, RecordFeatures]:
    """Read a shard with its node states memory-mapped.

    Raises CheckpointError naming the shard if either file is missing, foreign or damaged.
    """
    arrays = _load_npz(path)
    states_path = path.with_suffix(".npy")
    try:
        if str(arrays["states_sha256"]) != _sha256(states_path):
            raise CheckpointError(f"feature cache {states_path} is damaged")
        states: np.memmap[Any, np.dtype[np.float16]] = np.load(
            states_path, mmap_mode="r", allow_pickle=False
        )
        node_ends, word_ends = np.cumsum(arrays["nodes_B"]), np.cumsum(arrays["words_B"])
        found: dict[str, RecordFeatures] = {}
        for row, key in enumerate(arrays["keys"]):
            words = slice(word_ends[row] - arrays["words_B"][row], word_ends[row])
            found[str(key)] = RecordFeatures(
                states_VD=states[node_ends[row] - arrays["nodes_B"][row] : node_ends[row]],
                nodes_W=arrays["nodes_W"][words],
                sections_W=arrays["sections_W"][words],
                spans_W2=arrays["spans_W2"][words],
                sections=tuple(json.loads(str(arrays["sections"][row]))),
                cls_D=arrays["cls_BD"][row],
                mean_D=arrays["mean_BD"][row],
            )
    except (KeyError, IndexError, OSError, ValueError) as error:
        kind = type(error).__name__
        raise CheckpointError(f"feature cache {path} is damaged ({kind})") from error
    return found


def _load_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        kind = type(error).__name__
        raise CheckpointError(f"feature cache {path} is damaged ({kind})") from error


def _keys_of(path: Path) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [str(key) for key in archive["keys"]]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        _log.warning("feature cache %s is damaged; its records are encoded again", path)
        _remove(path)
        return []


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".npy").unlink(missing_ok=True)


def _steps(records: Mapping[str, Mapping[str, str]]) -> Iterator[list[str]]:
    """Group keys so that one step of the encoder holds a bounded number of characters."""
    group: list[str] = []
    size = 0
    for key, sections in records.items():
        length = sum(map(len, sections.values()))
        if group and (size + length > CHARACTERS_PER_STEP or len(group) == RECORDS_PER_SHARD):
            yield group
            group, size = [], 0
        group.append(key)
        size += length
    if group:
        yield group


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
