"""Train a new model version on a workspace and judge it: repeatable, and never twice the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version as release
from pathlib import Path

from label_config.errors import CheckpointError
from label_config.files import data_hash
from label_config.record import Coding
from ml_backend.locks import locked
from ml_backend.registry import ModelVersion, Registry
from ml_backend.workspace import Workspace
from training.adapt import AdaptConfig
from training.back_end import BackEnd
from training.checkpoint import MANIFEST
from training.encoder import Encoder
from training.encoder_files import DEFAULT_ENCODER, checksum_of
from training.similarity import NameMapper
from training.stages import StagesConfig
from training.suggest import Suggester
from training.suggester_config import SuggesterConfig

Progress = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and how much there is."""

KEPT = ".training-"
"""What the folder of a training's state is called, before the hash of what it is made from."""
WORSE_BY = 0.02
"""A new version that validates this much below the live one is kept, but does not serve."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model version, and whether it serves."""

    version: ModelVersion
    promoted: bool
    new: bool = True
    """False where the same data and settings had given it before."""


def train_model(
    workspace: Workspace,
    *,
    config: SuggesterConfig | None = None,
    progress: Progress,
    again: bool = True,
) -> Trained:
    """Train a new version on everything the workspace holds; let it serve if it passes.

    Without clean EMRs this is the cold start: names, titles and noisy codes. Unless `again`, a
    version made of the same data and settings is not made twice, only its check is. A training that
    was killed or cancelled goes on where it stood if nothing has changed since. Waits while another
    process trains this workspace.
    """
    with locked(workspace.folder / "jobs" / ".running"):
        workspace.reload()
        _sweep(workspace.models_folder)
        registry = Registry(workspace.models_folder)
        pool = workspace.pool_hash()
        noisy = workspace.read_noisy()
        clean = [c for c in workspace.read_clean() if c.quality == "clean"]
        config = config or suggester_config(workspace, has_clean=bool(clean))
        made_from = _made_from(workspace, pool, noisy, clean, config)
        known = [v for v in registry.versions() if v.made_from == made_from]
        keep = _kept(workspace.folder / "jobs", made_from)
        if known and not again:
            shutil.rmtree(keep, ignore_errors=True)
            return Trained(known[-1], _judge(registry, known[-1]), new=False)
        model = _train(workspace, noisy, clean, config, keep, progress)
        version = f"v{registry.next_number()}-{data_hash([*noisy, *clean])[:8]}"
        folder = workspace.models_folder / version
        model.save(folder, version=version)
        added = registry.add(folder, version, model.validation, made_from=made_from)
        shutil.rmtree(keep, ignore_errors=True)
        return Trained(added, _judge(registry, added))


def _train(
    workspace: Workspace,
    noisy: Sequence[Coding],
    clean: Sequence[Coding],
    config: SuggesterConfig,
    keep: Path,
    progress: Progress,
) -> Suggester:
    emrs, encoder = workspace.read_pool(), load_encoder()
    names = NameMapper.load(workspace.names_folder, encoder)
    return Suggester.train(
        emrs,
        noisy,
        clean,
        codes=workspace.config.codes,
        taxonomy=workspace.taxonomy,
        encoder=encoder,
        names=names if tuple(names.codes) == workspace.config.codes else None,
        raw=emrs,
        config=config,
        keep=keep,
        progress=progress,
    )


def _judge(registry: Registry, version: ModelVersion) -> bool:
    """Let a version serve, unless a live one of the same codes is better; whether it serves now."""
    live = registry.live()
    if live is not None and live.version == version.version:
        return True
    rival = live if live is not None and _same_codes(live, version) else None
    passed = rival is None or _not_worse(version.validation, rival.validation)
    if passed:
        registry.promote(version.version)
    return passed


def _made_from(
    workspace: Workspace,
    pool: str,
    noisy: Sequence[Coding],
    clean: Sequence[Coding],
    config: SuggesterConfig,
) -> str:
    """A hash of all that a training reads: equal ones give equal models."""
    codings = data_hash([*noisy, *clean])
    encoder, back_end = _encoder()
    models = [checksum_of(encoder), back_end, _names_hash(workspace.names_folder)]
    settings = [workspace.config.codes, workspace.config.taxonomy, asdict(config)]
    text = json.dumps([pool, codings, models, settings, release("clinicoco")], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _names_hash(folder: Path) -> str:
    """A SHA-256 of the name mapper's manifest, which holds its files'; empty without one."""
    manifest = folder / MANIFEST
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.exists() else ""


def _kept(jobs: Path, made_from: str) -> Path:
    """Where a training keeps its state while it runs; those of other data or settings go."""
    mine = jobs / f"{KEPT}{made_from}"
    for left in jobs.glob(f"{KEPT}*"):
        if left != mine:
            shutil.rmtree(left, ignore_errors=True)
    return mine


def _sweep(models: Path) -> None:
    """Remove what killed trainings left half-written."""
    for left in (*models.glob(".*.tmp"), *models.glob(".*.old")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def suggester_config(workspace: Workspace, *, has_clean: bool) -> SuggesterConfig:
    """The members that the workspace asks for; the cold start does without the network."""
    presets = {"quick": StagesConfig.quick, "best": StagesConfig.best, "paper": StagesConfig.paper}
    preset = presets.get(workspace.config.network) if has_clean else None
    if preset is None:
        return SuggesterConfig()
    adapt = AdaptConfig() if workspace.config.fine_tune else None
    return SuggesterConfig(network=replace(preset(), adapt=adapt))


def load_encoder() -> Encoder:
    """The encoder that the environment names, or the default."""
    name, back_end = _encoder()
    return Encoder.load(name, back_end=back_end)


def _encoder() -> tuple[str, BackEnd]:
    from ml_backend.settings import settings

    return settings().encoder or DEFAULT_ENCODER, settings().encoder_back_end


def load_model(folder: Path) -> Suggester:
    """A version from its folder. Raises CheckpointError for one that cannot be loaded."""
    return Suggester.load(folder, back_end=_encoder()[1])


def _same_codes(one: ModelVersion, other: ModelVersion) -> bool:
    try:
        return set(one.codes) == set(other.codes)
    except CheckpointError:  # what cannot be read cannot serve
        return False


def _not_worse(new: dict[str, float], old: dict[str, float]) -> bool:
    if "micro_f1" not in new or "micro_f1" not in old:
        return True
    return new["micro_f1"] >= old["micro_f1"] - WORSE_BY
