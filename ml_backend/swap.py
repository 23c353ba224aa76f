"""Several files of a workspace replaced at once, with a backup: all of them, or none.

New and old files stand in `backups/m0001` before `swap.json` is written, which is the moment of
decision; a swap that was cut short after it is finished by doing it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from label_config.errors import DataError
from label_config.files import atomic_path, read_json, write_json

MARK = "swap.json"
FILES = "files.json"
DONE = "done.json"
UNDONE = "-undone"


def swap(folder: Path, new: Path, names: Sequence[str]) -> Path:
    """Put the files of the folder `new` into a workspace; return the backup.

    `names` are all that belong together: one that `new` lacks is removed from the workspace.
    """
    number = len(list((folder / "backups").glob("m????*"))) + 1
    backup = folder / "backups" / f"m{number:04d}"
    shutil.rmtree(backup, ignore_errors=True)
    _copy(new, backup / "new", names)
    _copy(folder, backup / "old", names)
    write_json(backup / FILES, list(names))
    write_json(folder / MARK, {"backup": backup.name, "take": "new"})
    finish(folder)
    return backup


def undo(folder: Path) -> Path:
    """Bring the files back that the last swap replaced; return its backup.

    Raises DataError where there is nothing to undo.
    """
    done = [p for p in sorted((folder / "backups").glob("m????")) if (p / DONE).exists()]
    if not done:
        raise DataError(f"{folder} has no migration to undo")
    write_json(folder / MARK, {"backup": done[-1].name, "take": "old"})
    finish(folder)
    return done[-1]


def finish(folder: Path) -> bool:
    """Do what `swap.json` says, again if need be; False where nothing was open."""
    if not (folder / MARK).exists():
        return False
    wanted = read_json(folder / MARK, lambda values: {k: values[k] for k in ("backup", "take")})
    backup = folder / "backups" / wanted["backup"]
    undone = backup.with_name(backup.name + UNDONE)
    if not backup.exists():  # an undo that was cut short after its last step but one
        backup = undone
    source = backup / wanted["take"]
    for name in read_json(backup / FILES, list):
        if (source / name).exists():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)
        else:
            (folder / name).unlink(missing_ok=True)
    write_json(backup / DONE, wanted)
    if wanted["take"] == "old" and backup != undone:
        backup.rename(undone)
    (folder / MARK).unlink()
    return True


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True)
    for name in names:
        if (source / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
