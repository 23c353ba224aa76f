"""Model folders: written whole or not at all, verified file by file, never a pickle.

A folder holds config.json, its files (safetensors, Parquet, JSON) and manifest.json, which names
the kind of model, the library versions and the SHA-256 of every other file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from label_config.errors import CheckpointError
from label_config.files import write_json

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
LIBRARIES = ("clinicoco", "torch", "torch-geometric", "transformers", "numpy")


def save_checkpoint(
    folder: Path, *, kind: str, config: Mapping[str, Any], write: Callable[[Path], None]
) -> None:
    """Write a model folder, replacing one that stands there.

    `write` puts the model's files into the (empty) folder that it is given; `config` becomes
    config.json. A failure leaves the old folder as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    tag = uuid4().hex[:8]
    temporary = folder.with_name(f".{folder.name}.{tag}.tmp")
    retired = folder.with_name(f".{folder.name}.{tag}.old")
    try:
        temporary.mkdir()
        write_json(temporary / CONFIG, dict(config))
        write(temporary)
        files = {
            path.relative_to(temporary).as_posix(): _sha256(path)
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        manifest = {"format": FORMAT, "kind": kind, "libraries": _versions(), "files": files}
        write_json(temporary / MANIFEST, manifest)
        if folder.exists():
            folder.rename(retired)
        temporary.rename(folder)
    except BaseException:
        if retired.exists() and not folder.exists():
            retired.rename(folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def open_checkpoint(folder: Path, *, kind: str) -> dict[str, Any]:
    """Verify a model folder and return its config.

    Raises CheckpointError, naming the folder or file, if it is missing, of another kind or format,
    incomplete, changed, or holds files that its manifest does not name.
    """
    manifest = _read_json(folder / MANIFEST)
    if manifest.get("kind") != kind:
        raise CheckpointError(f"{folder} should hold a {kind}, got {manifest.get('kind')!r}")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} should have format {FORMAT}, got {manifest.get('format')!r}: "
            "train again or use the version that wrote it"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or CONFIG not in files:
        raise CheckpointError(f"{folder / MANIFEST} needs a list of files with {CONFIG}")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    for name in sorted(set(files) ^ (present - {MANIFEST})):
        state = "is missing" if name in files else "is not in the manifest"
        raise CheckpointError(f"{folder / name} {state}")
    for name, checksum in files.items():
        if _sha256(folder / name) != checksum:
            raise CheckpointError(f"{folder / name} is damaged: its SHA-256 has changed")
    return _read_json(folder / CONFIG)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors."""
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read safetensors. Raises CheckpointError for a file that is not one."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"no model at {path.parent}: {path.name} {error.strerror}") from None
    except ValueError:
        raise CheckpointError(f"{path} is not valid JSON") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold an object, got {type(value).__name__}")
    return value


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
