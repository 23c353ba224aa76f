"""Exports of Label Studio into our files or a workspace: streamed, in bounded memory.

Readable annotations go to a spool on disk as they come; what stays in memory is one line per EMR,
which says where the starred or else latest one stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from label_config.annotation import (
    NO_TASK,
    age_of,
    annotations_of,
    place_of,
    read_with_problems,
)
from label_config.errors import DataError
from label_config.export_file import stream_tasks
from label_config.files import Problem, coding_from_dict, emr_from_dict, to_dict, write_records
from label_config.interface import CONTROLS
from label_config.mapping import ExportMapping, spelled
from label_config.record import EMR, Coding
from label_config.task import read_emr
from label_config.taxonomy import Taxonomy
from ml_backend.locks import locked
from ml_backend.workspace import Workspace

Task = Mapping[str, Any]
Progress = Callable[[str, int, int], None]
EVERY = 500
"""Tasks between two reports of progress."""


@dataclass(slots=True)
class Imported:
    """What an export gave."""

    tasks: int = 0
    codings: int = 0
    new_emrs: int = 0
    """That the pool did not hold; all of them where files are written."""
    problems: list[Problem] = field(default_factory=list)
    """What was left out, by the annotation's number."""


def export_to_files(
    export: Path,
    folder: Path,
    taxonomy: Taxonomy,
    mapping: ExportMapping | None = None,
    *,
    progress: Progress,
) -> Imported:
    """Write `emrs.parquet` and `clean.parquet`, one row per coded EMR.

    Raises DataError where not one annotation can be used.
    """
    with _read(export, folder, taxonomy, mapping, progress) as (spool, found):
        write_records(folder / "emrs.parquet", (emr for emr, _ in spool), EMR)
        found.codings = write_records(folder / "clean.parquet", (c for _, c in spool), Coding)
        found.new_emrs = found.codings
    return found


def export_to_workspace(
    export: Path,
    workspace: Workspace,
    mapping: ExportMapping | None = None,
    *,
    progress: Progress,
) -> Imported:
    """Add the EMRs to the pool and their codes to the imported ones; the same file adds nothing.

    Where the pool holds another text under the same `emr_id`, the coding is left out: its evidence
    points into a text that is not there. Raises DataError where not one annotation can be used.
    """
    with (
        locked(workspace.folder / ".import.lock"),
        _read(export, workspace.folder, workspace.taxonomy, mapping, progress) as (spool, found),
    ):
        pooled = _match_pool(workspace, spool, found)
        found.new_emrs = len(spool.ids() - pooled)
        if found.new_emrs:
            write_records(workspace.pool_path, _with_new(workspace, spool, pooled), EMR)
        kept = [c for c in workspace.read_imported() if c.emr_id not in spool.ids()]
        found.codings = len(spool.ids())
        workspace.write_imported(_chained(kept, spool))
        workspace.reload()
    return found


class Spool:
    """The best annotation of each EMR so far: its records on disk, their places in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._best: dict[str, tuple[tuple[bool, str, int], int, str]] = {}

    def add(self, emr: EMR, coding: Coding, age: tuple[bool, str, int], where: str) -> str | None:
        """Keep it unless a later or starred one is there; the annotation that loses, if any."""
        known = self._best.get(emr.emr_id)
        if known is not None and age <= known[0]:
            return where
        place = self._file.seek(0, 2)
        line = json.dumps([to_dict(emr), to_dict(coding)])
        self._file.write(line.encode() + b"\n")
        self._best[emr.emr_id] = age, place, where
        return None if known is None else known[2]

    def ids(self) -> set[str]:
        """The EMRs that are kept."""
        return set(self._best)

    def drop(self, emr_id: str) -> str:
        """Leave an EMR out; which annotation that was."""
        return self._best.pop(emr_id)[2]

    def __getitem__(self, emr_id: str) -> tuple[EMR, Coding]:
        self._file.seek(self._best[emr_id][1])
        emr, coding = json.loads(self._file.readline())
        return emr_from_dict(emr), coding_from_dict(coding)

    def __iter__(self) -> Iterator[tuple[EMR, Coding]]:
        return (self[emr_id] for emr_id in list(self._best))


@contextmanager
def _read(
    export: Path,
    folder: Path,
    taxonomy: Taxonomy,
    mapping: ExportMapping | None,
    progress: Progress,
) -> Iterator[tuple[Spool, Imported]]:
    """The export in a spool under `folder`, which is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        spool, found = Spool(file), Imported()
        try:
            for task in stream_tasks(export, CONTROLS if mapping is None else mapping.controls):
                found.tasks += 1
                _take(task, taxonomy, mapping, spool, found)
                if found.tasks % EVERY == 0:
                    progress("reading annotations", found.tasks, 0)
        except DataError as error:
            if not spool.ids():
                raise
            found.problems.append(Problem("export", f"{error}; what came before is taken"))
        if not spool.ids():
            first = f"; the first problem: {found.problems[0]}" if found.problems else ""
            raise DataError(f"{export} holds no usable annotation in {found.tasks} tasks{first}")
        yield spool, found


def _take(
    task: Any, taxonomy: Taxonomy, mapping: ExportMapping | None, spool: Spool, found: Imported
) -> None:
    if not isinstance(task, Mapping):
        found.problems.append(NO_TASK)
        return
    for annotation in annotations_of(task):
        where = place_of(task, annotation)
        try:
            emr, coding, left_out = _one(task, annotation, taxonomy, mapping)
        except DataError as error:
            found.problems.append(Problem(where, str(error)))
            continue
        except (ValueError, TypeError, RecursionError):  # a damaged shape; its message may quote it
            found.problems.append(Problem(where, "a value has the wrong type"))
            continue
        found.problems += [Problem(where, reason) for reason in left_out]
        loser = spool.add(emr, coding, age_of(annotation), where)
        if loser is not None:
            reason = f"EMR {emr.emr_id} has a later or starred annotation"
            found.problems.append(Problem(loser, reason))


def _one(
    task: Task, annotation: Task, taxonomy: Taxonomy, mapping: ExportMapping | None
) -> tuple[EMR, Coding, list[str]]:
    if mapping is not None:
        emr = mapping.emr(task)
        return emr, *mapping.coding(emr, annotation, taxonomy)
    coding, left_out = read_with_problems(task, annotation)
    coding, unknown = _known(coding, taxonomy)
    if unknown:
        left_out = [*left_out, f"{unknown} of its codes are not in {taxonomy.name}"]
        coding = replace(coding, quality="unsure" if coding.quality == "clean" else coding.quality)
    return read_emr(task), coding, left_out


def _known(coding: Coding, taxonomy: Taxonomy) -> tuple[Coding, int]:
    """The coding with codes as the taxonomy spells them, and how many it does not hold."""
    spelling = {code: spelled(taxonomy, code) for code in coding.codes}
    codes = tuple(dict.fromkeys(code for code in spelling.values() if code is not None))
    evidence = tuple(
        replace(span, code=code) for span in coding.evidence if (code := spelling.get(span.code))
    )
    suggested = tuple(code for code in coding.suggested if spelled(taxonomy, code))
    new = replace(coding, codes=codes, evidence=evidence, suggested=suggested)
    return new, list(spelling.values()).count(None)


def _match_pool(workspace: Workspace, spool: Spool, found: Imported) -> set[str]:
    """The EMRs that the pool holds; those that differ from it leave the spool."""
    if not workspace.pool_path.exists():
        return set()
    ids, same = spool.ids(), set[str]()
    for emr in workspace.pool:
        if emr.emr_id not in ids:
            continue
        if emr.same_text(spool[emr.emr_id][0]):
            same.add(emr.emr_id)
        else:
            where = spool.drop(emr.emr_id)
            reason = f"EMR {emr.emr_id} stands in the pool with another text"
            found.problems.append(Problem(where, reason))
    return same


def _with_new(workspace: Workspace, spool: Spool, pooled: set[str]) -> Iterator[EMR]:
    if workspace.pool_path.exists():
        yield from workspace.pool
    for emr_id in sorted(spool.ids() - pooled):
        yield spool[emr_id][0]


def _chained(kept: list[Coding], spool: Spool) -> Iterator[Coding]:
    yield from kept
    for _, coding in spool:
        yield coding
