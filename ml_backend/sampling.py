"""A project's sampler, from its files: codes, counts, copies, and what the model says.

Shapes: N EMRs with noisy codes, K codes of the project.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.files import atomic_path
from label_config.record import Coding
from ml_backend.registry import ModelVersion, Registry
from ml_backend.retrain import Progress, load_model
from ml_backend.workspace import Workspace
from sampler import Batch, CoverageSampler

SHARE_LEFT = 0.5
"""A batch takes at most this share of the EMRs that are still needed: it shrinks near the end."""
MOST_ASKED = 25
"""EMRs that the model is asked about before a batch: with a graph network each takes a while."""
LEAST_SAID = 0.02
"""Probabilities below this are not kept, but for each EMR's highest."""
FEWEST_LETTERS = 200
"""Shorter records may be alike by chance."""
NO_LETTERS = re.compile(r"[\W\d_]+")


def coverage(workspace: Workspace, *, progress: Progress = lambda *_: None) -> ProjectSampler:
    """The sampler, replayed from the files: noisy codes, clean codes, and what is with coders."""
    return ProjectSampler(workspace, progress=progress)


class ProjectSampler(CoverageSampler):
    """Before it chooses, it asks a model that has learned from coders about the likeliest EMRs."""

    def __init__(self, workspace: Workspace, *, progress: Progress) -> None:
        config, noisy = workspace.config, workspace.read_noisy()
        self._workspace, self._progress = workspace, progress
        self._ids = [coding.emr_id for coding in noisy]
        self._rows = {emr_id: row for row, emr_id in enumerate(self._ids)}
        self._number = {code: k for k, code in enumerate(config.codes)}
        clean = [c for c in workspace.read_clean() if c.emr_id in self._rows]
        self._said = Said.read(workspace.folder, _asked_version(workspace), clean)
        super().__init__(
            _matrix(
                ((c.codes, c.confidence or (1.0,) * len(c.codes)) for c in noisy), self._number
            ),
            config.quota,
            category=_categories(workspace),
            row_keys=self._ids,
            group=_groups(workspace, self._ids),
            share_left=SHARE_LEFT,
            suggested=self._suggested(),
        )
        self._replay(clean)

    def query(self, batch_size: int, at_most: int | None = None, **options: Any) -> Batch:
        """Choose as `CoverageSampler.query` does, once the model has spoken of the likeliest."""
        live = _asked_version(self._workspace)
        if live is not None:
            likely = super().query(min(batch_size, MOST_ASKED), at_most).rows
            self.release(likely)
            self._ask(live, [self._ids[row] for row in likely])
        return super().query(batch_size, at_most, **options)

    def _ask(self, live: ModelVersion, emr_ids: Sequence[str]) -> None:
        """Have the model speak of those of which it has not, and write down what it says."""
        new = [emr_id for emr_id in emr_ids if emr_id not in self._said.codes]
        if not new:
            return
        model = load_model(live.folder)
        learned = set(model.clean_ids)
        found = self._workspace.pool.get([emr_id for emr_id in new if emr_id not in learned])
        probs = model.predict(list(found.values()), progress=self._progress)
        for emr_id, p in zip(found, probs, strict=True):
            named = np.flatnonzero(p >= min(LEAST_SAID, p.max()))
            self._said.codes[emr_id] = [model.codes[k] for k in named], p[named].tolist()
            self._said.versions[emr_id] = live.version
        self._said.write(self._workspace.folder)
        self.suggest(self._suggested())

    def _suggested(self) -> sp.csr_matrix | None:
        if not self._said.codes:
            return None
        silent: tuple[list[str], list[float]] = ([], [])
        return _matrix((self._said.codes.get(i, silent) for i in self._ids), self._number)

    def _replay(self, clean: Sequence[Coding]) -> None:
        rows, number, workspace = self._rows, self._number, self._workspace
        usable = [c for c in clean if c.quality == "clean"]
        self.update(
            [rows[c.emr_id] for c in usable],
            [[number[code] for code in c.codes if code in number] for c in usable],
        )
        done = {c.emr_id for c in clean}
        sent = [i for batch in workspace.batches() for i in batch.emr_ids if i in rows]
        self.hold([rows[i] for i in sent if i not in done])
        unusable = [rows[c.emr_id] for c in clean if c.quality != "clean"]
        unusable += [rows[i] for i in workspace.read_skipped() if i in rows]
        self.hold(unusable)
        self.release(unusable, exclude=True)


# -- what the model said --------------------------------------------------------------------------


class Said(NamedTuple):
    """What models said of EMRs before they had learned from them, by `emr_id`."""

    codes: dict[str, tuple[list[str], list[float]]]
    """Codes and their probabilities."""
    versions: dict[str, str]
    """Which version said it."""

    @classmethod
    def read(cls, folder: Path, live: ModelVersion | None, clean: Sequence[Coding]) -> Said:
        """What still holds: of annotated EMRs whatever was said before, of others the live word."""
        said = cls({}, {})
        if live is None or not (folder / "said.parquet").exists():
            return said
        annotated = {coding.emr_id for coding in clean}
        try:
            rows = pq.read_table(folder / "said.parquet", schema=_SAID).to_pylist()
        except (pa.ArrowException, OSError):
            return said  # it is only kept to save time
        for row in rows:
            if row["version"] == live.version or row["emr_id"] in annotated:
                said.codes[row["emr_id"]] = row["codes"], row["probs"]
                said.versions[row["emr_id"]] = row["version"]
        return said

    def write(self, folder: Path) -> None:
        """Replace the file, whole or not at all."""
        rows = [
            {"emr_id": i, "version": self.versions[i], "codes": codes, "probs": probs}
            for i, (codes, probs) in self.codes.items()
        ]
        with atomic_path(folder / "said.parquet") as path:
            pq.write_table(pa.Table.from_pylist(rows, schema=_SAID), path)


_SAID = pa.schema(
    [
        ("emr_id", pa.string()),
        ("version", pa.string()),
        ("codes", pa.list_(pa.string())),
        ("probs", pa.list_(pa.float32())),
    ]
)


def _asked_version(workspace: Workspace) -> ModelVersion | None:
    """The live model, if it has learned from coders: before that it knows names and noisy codes."""
    live = Registry(workspace.models_folder).live()
    return live if live is not None and "micro_f1" in live.validation else None


# -- copies ---------------------------------------------------------------------------------------


def _groups(workspace: Workspace, emr_ids: Sequence[str]) -> NDArray[np.int64] | None:
    """(N,) EMRs whose texts have the same letters share a number; None where none do."""
    if not workspace.pool_path.exists():
        return None
    first: dict[str, str] = {}
    same = {i: first.setdefault(key, i) for i, key in _text_keys(workspace).items()}
    if all(i == original for i, original in same.items()):
        return None
    number = {i: n for n, i in enumerate(emr_ids)}
    return np.array([number.get(same.get(i, i), n) for n, i in enumerate(emr_ids)])


def _text_keys(workspace: Workspace) -> Mapping[str, str]:
    """A hash of each EMR's letters by `emr_id`; short records have none. Kept beside the pool."""
    path, found = workspace.folder / "text_keys.parquet", workspace.pool_path.stat()
    pool = f"{found.st_size} {found.st_mtime_ns}".encode()
    try:
        table = pq.read_table(path)
        if (table.schema.metadata or {}).get(b"pool") == pool:
            return dict(zip(*(table[c].to_pylist() for c in ("emr_id", "key")), strict=True))
    except (pa.ArrowException, OSError):
        pass  # not there yet, or damaged: made anew
    keys: dict[str, str] = {}
    with pq.ParquetFile(workspace.pool_path) as file:
        for group in range(file.num_row_groups):
            for row in file.read_row_group(group, columns=["emr_id", "sections"]).to_pylist():
                text = " ".join(section["text"] for section in row["sections"] or ())
                letters = NO_LETTERS.sub("", text.lower())
                if len(letters) >= FEWEST_LETTERS:
                    keys[row["emr_id"]] = hashlib.sha256(letters.encode()).hexdigest()[:32]
    columns = pa.table({"emr_id": list(keys), "key": list(keys.values())})
    with atomic_path(path) as temporary:
        pq.write_table(columns.replace_schema_metadata({b"pool": pool}), temporary)
    return keys


# -- arrays ---------------------------------------------------------------------------------------


def _categories(workspace: Workspace) -> NDArray[np.int64]:
    """(K,) the number of each code's category."""
    names = [workspace.taxonomy.category(code) for code in workspace.config.codes]
    number = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names])


def _matrix(
    codings: Iterable[tuple[Sequence[str], Sequence[float]]], number: Mapping[str, int]
) -> sp.csr_matrix:
    """(N, K) the values of each EMR's codes; codes that the project lacks are left out."""
    columns: list[int] = []
    values: list[float] = []
    ends = [0]
    for codes, confidence in codings:
        for code, value in zip(codes, confidence, strict=True):
            if code in number:
                columns.append(number[code])
                values.append(max(float(value), 1e-3))
        ends.append(len(columns))
    arrays = (np.array(values, np.float32), np.array(columns, np.int32), np.array(ends, np.int32))
    return sp.csr_matrix(arrays, shape=(len(ends) - 1, len(number)))
