"""A workspace to another release or code set: code set, noisy and clean codes, highlights.

What the table cannot say is never guessed: codes with several successors, or none that is known,
leave the coding, and its EMR is listed for coders. Models of the old set stop serving; the next
training starts from the moved codings.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from label_config.errors import ConfigError, DataError, UnknownCode
from label_config.files import read_json, write_json, write_records
from label_config.record import Coding
from label_config.taxonomy import Taxonomy
from ml_backend.code_table import Kind, Moved, Table, bare, kind_of, move, read_table
from ml_backend.locks import locked
from ml_backend.swap import finish, swap, undo
from ml_backend.workspace import ProjectConfig, Workspace

if TYPE_CHECKING:
    from ml_backend.label_studio import LabelStudioClient

TABLES = "migrations.json"
OPEN = "to_recode.json"
KEPT = ("project.json", "noisy.parquet", "clean.parquet", "imported.parquet", TABLES, OPEN)
GONE = ("agreement.json", "feedback.jsonl", "said.parquet", "models/live.json")
"""Left out of the new set: they speak of old codes."""
TAB = "To recode"
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class CodeMove:
    """What happens to one code of the set, or one that codings use."""

    code: str
    kind: Kind
    new: tuple[str, ...]
    clean_emrs: int
    noisy_emrs: int


@dataclass(frozen=True, slots=True)
class ToRecode:
    """A code that a coder must decide on."""

    emr_id: str
    code: str
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A migration that nothing was written of yet."""

    config: ProjectConfig
    table: Table
    moves: tuple[CodeMove, ...]
    """Every code that does not stay as it is."""
    to_recode: tuple[ToRecode, ...]
    made_from: str
    """A hash of the files that it replaces."""
    noisy: tuple[Coding, ...]
    pulled: tuple[Coding, ...]
    imported: tuple[Coding, ...]


def plan(workspace: Workspace, path: Path, taxonomy: Taxonomy | None = None) -> Plan:
    """What a table would do to a workspace; `taxonomy` is the new tree, if it is another one.

    Raises UnknownCode for new codes that the tree lacks, naming them, and DataError where nothing
    would change or no code would be left.
    """
    made_from = _state(workspace.folder)
    tree = taxonomy or workspace.taxonomy
    noisy = workspace.read_noisy() if (workspace.folder / "noisy.parquet").exists() else []
    pulled, imported = workspace.read_pulled(), workspace.read_imported()
    clean_uses, noisy_uses = _uses([*pulled, *imported]), _uses(noisy)
    used = dict.fromkeys([*workspace.config.codes, *clean_uses, *noisy_uses])
    table = _spelled(read_table(path), tree, used)
    known = [*used, *_mentioned([*pulled, *imported, *noisy])]
    kinds = {code: kind_of(code, table, code in tree) for code in known}
    moves = [
        CodeMove(code, kinds[code], table.get(bare(code), ()), clean_uses[code], noisy_uses[code])
        for code in used
        if kinds[code] != "same"
    ]
    if not moves:
        raise DataError(f"{path} changes no code of {workspace.folder}")
    moved = [[move(c, kinds, table) for c in group] for group in (noisy, pulled, imported)]
    number = len(_tables(workspace)) + 1
    config = replace(
        workspace.config,
        codes=_code_set(workspace.config.codes, kinds, table),
        taxonomy=workspace.config.taxonomy if taxonomy is None else f"taxonomy-{number}.csv",
    )
    return Plan(
        config,
        table,
        tuple(moves),
        tuple(_open([*moved[1], *moved[2]])),
        made_from,
        *(tuple(one.coding for one in group) for group in moved),
    )


def apply(workspace: Workspace, planned: Plan, taxonomy: Taxonomy | None = None) -> Path:
    """Put a plan in place, all of it or nothing; return the backup.

    Raises ConfigError where the workspace has changed since the plan was made.
    """
    names = [*KEPT, *GONE]
    with (
        _alone(workspace.folder),
        TemporaryDirectory(prefix=".migrating-", dir=workspace.folder) as made,
    ):
        if _state(workspace.folder) != planned.made_from:
            raise ConfigError(f"{workspace.folder} has changed meanwhile: plan the migration again")
        new = Path(made)
        write_json(new / "project.json", asdict(planned.config))
        for name in ("noisy", "pulled", "imported"):
            codings = getattr(planned, name)
            if codings:
                file = "clean" if name == "pulled" else name
                write_records(new / f"{file}.parquet", codings, Coding)
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        tables = [*_tables(workspace), {"made": made_at, "table": dict(planned.table)}]
        write_json(new / TABLES, tables)
        waiting = [*still_open(workspace), *planned.to_recode]
        write_json(new / OPEN, [asdict(one) for one in dict.fromkeys(waiting)])
        if taxonomy is not None:
            taxonomy.to_csv(new / planned.config.taxonomy)
            names.append(planned.config.taxonomy)
        backup = swap(workspace.folder, new, names)
    workspace.reload()
    return backup


def go_back(folder: Path) -> Path:
    """Undo the last migration: every file as it was before. The next pull reads all annotations."""
    with _alone(folder):
        (folder / "pulled.json").unlink(missing_ok=True)
        return undo(folder)


def go_on(folder: Path) -> bool:
    """Finish a migration that was cut short; False where none was."""
    with _alone(folder):
        return finish(folder)


def translated(workspace: Workspace, codings: Iterable[Coding]) -> list[Coding]:
    """Codings from Label Studio, where annotations keep the codes that they were made with.

    A code that the set holds is taken as it is; else each table since is asked.
    """
    tables = [_table(entry) for entry in _tables(workspace)]
    found = list(codings)
    current = set(workspace.config.codes)
    for table in tables:
        kinds: dict[str, Kind] = {}
        for code in dict.fromkeys([*_uses(found), *_mentioned(found)]):
            kinds[code] = "same" if code in current else kind_of(code, table, known=True)
        found = [move(coding, kinds, table).coding for coding in found]
    return found


def still_open(workspace: Workspace) -> list[ToRecode]:
    """What coders have not decided yet, of all migrations."""
    path = workspace.folder / OPEN
    entries = read_json(path, list) if path.exists() else []
    settled = {c.emr_id for c in workspace.read_clean() if c.quality == "clean"}
    found = [ToRecode(e["emr_id"], e["code"], tuple(e["candidates"])) for e in entries]
    return [one for one in found if one.emr_id not in settled]


def show_open(workspace: Workspace, client: LabelStudioClient, project_id: int) -> int:
    """Give Label Studio a tab with the EMRs that wait for a decision; return how many it has."""
    ids = {one.emr_id for one in still_open(workspace)}
    places = client.places(project_id) if ids else {}
    found = [place for emr_id, place in places.items() if emr_id in ids]
    client.show_tab(project_id, TAB, found)
    return len(found)


def _code_set(codes: Sequence[str], kinds: dict[str, Kind], table: Table) -> tuple[str, ...]:
    """The new set, in the old one's order; every successor of a split code belongs to it."""
    new: dict[str, None] = {}
    for code in codes:
        if kinds[code] == "same":
            new[code] = None
        elif kinds[code] in ("renamed", "split"):
            new.update(dict.fromkeys(table[bare(code)]))
    if not new:
        raise DataError("the table leaves no code of the project's set")
    return tuple(new)


def _spelled(table: Table, tree: Taxonomy, used: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The rows on codes of this project, their new codes as the tree spells them."""
    found, unknown = {}, []
    for old in dict.fromkeys(map(bare, used)):
        spelled = []
        for code in table.get(old, ()):
            try:
                spelled.append(tree.normalise(code))
            except UnknownCode:
                unknown.append(code)
        if old in table:
            found[old] = tuple(dict.fromkeys(spelled))
    if unknown:
        more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
        raise UnknownCode(
            f"new codes that {tree.name} does not hold: {', '.join(unknown[:MOST_NAMED])}{more}"
        )
    return found


def _uses(codings: Iterable[Coding]) -> Counter[str]:
    return Counter(code for coding in codings for code in coding.codes)


def _mentioned(codings: Iterable[Coding]) -> dict[str, None]:
    """Codes that highlights and suggestions name."""
    return dict.fromkeys(
        code for c in codings for code in (*(span.code for span in c.evidence), *c.suggested)
    )


def _open(moved: Iterable[Moved]) -> Iterator[ToRecode]:
    for one in moved:
        for code, candidates in one.open.items():
            yield ToRecode(one.coding.emr_id, code, candidates)


def _tables(workspace: Workspace) -> list[dict[str, Any]]:
    path = workspace.folder / TABLES
    return read_json(path, list) if path.exists() else []


def _table(entry: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {old: tuple(new) for old, new in entry["table"].items()}


def _state(folder: Path) -> str:
    """A hash of the files that a migration replaces."""
    digest = hashlib.sha256()
    for name in KEPT:
        path = folder / name
        digest.update(path.read_bytes() if path.exists() else b"none")
    return digest.hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No training, import, automatic coding, pull, push or selection meanwhile."""
    with (
        locked(folder / "jobs" / ".running", wait=False) as no_training,
        locked(folder / ".import.lock"),
        locked(folder / ".pull.lock"),
        locked(folder / ".push.lock"),
        locked(folder / ".select.lock"),
    ):
        if not no_training:
            raise ConfigError("a training is running: let it end, or `clinicoco jobs cancel` it")
        yield
