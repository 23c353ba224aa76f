"""One project's folder: its settings, pool, noisy and clean codes, batches and models."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from label_config.errors import ConfigError, DataError
from label_config.files import (
    read_codings,
    read_emrs,
    read_json,
    write_json,
    write_records,
)
from label_config.record import EMR, Coding
from label_config.rules import RuleBook
from label_config.taxonomy import Taxonomy
from ml_backend.incremental import PullMark
from ml_backend.pool import PoolIndex
from ml_backend.swap import MARK as SWAP_MARK


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """What one project codes, and where its tasks are."""

    title: str
    codes: tuple[str, ...]
    """The code set: every code that can be suggested, counted and learned."""
    quota: int = 5
    """Clean EMRs wanted per code (the paper's `s`)."""
    taxonomy: str = "icd10cm"
    """"icd10cm", or the name of a CSV file in this folder."""
    network: Literal["none", "quick", "best", "paper"] = "best"
    """Preset of the graph network's three stages; "none" leaves it out."""
    fine_tune: bool = False
    """Whether the network fine-tunes the encoder's top layers first (extra `lora`)."""
    interface: str = "coding"
    """The coders' screen: "coding", "choices" (small code sets) or "evidence" (review)."""
    overlap: int = 1
    """How many coders see each EMR, none the other's codes: from 2 on, agreement is measured."""
    rules_off: tuple[str, ...] = ()
    """Coding rules, or families of them, that say nothing."""
    label_studio_url: str = ""
    project_id: int | None = None
    """Label Studio's project, once `set-up` has made it."""

    def __post_init__(self) -> None:
        if len(self.title) < 3:
            raise ConfigError(f"a project title needs at least 3 characters, got {self.title!r}")
        if not self.codes:
            raise ConfigError("a project needs at least one code, got none")
        if len(set(self.codes)) != len(self.codes):
            raise ConfigError("the code set repeats a code")
        if self.network not in ("none", "quick", "best", "paper"):
            raise ConfigError(f"network must be none, quick, best or paper, got {self.network!r}")
        if self.fine_tune and self.network == "none":
            raise ConfigError("fine_tune needs a network, got network none")
        if self.quota < 1 or self.overlap < 1:
            raise ConfigError(
                f"quota and overlap must be at least 1, got {self.quota} and {self.overlap}"
            )


@dataclass(frozen=True, slots=True)
class Batch:
    """EMRs sent to coders together, best first, each with the reason why it was chosen."""

    name: str
    emr_ids: tuple[str, ...]
    reasons: tuple[str, ...]
    made: str = ""


class Workspace:
    """A folder that holds everything about one project but Label Studio's own database."""

    def __init__(self, folder: Path) -> None:
        """Open an existing workspace. Raises ConfigError when `folder` is not one."""
        self.folder = folder
        self._stamps: dict[str, tuple[Any, ...]] = {}
        self.reload()

    @classmethod
    def create(
        cls, folder: Path, config: ProjectConfig, taxonomy: Taxonomy | None = None
    ) -> Workspace:
        """Make the folder, or open it if it already holds the same project.

        `taxonomy` is the tree that `config` names a file for. Raises ConfigError for a folder of
        another project, or settings that cannot be used here.
        """
        if (folder / "project.json").exists():
            workspace = cls(folder)
            workspace._refuse_other(config, taxonomy)
            return workspace
        _refuse_without_extra(config)
        folder.mkdir(parents=True, exist_ok=True)
        if taxonomy is not None:
            taxonomy.to_csv(folder / config.taxonomy)
        write_json(folder / "project.json", dataclasses.asdict(config))
        return cls(folder)

    def _refuse_other(self, config: ProjectConfig, taxonomy: Taxonomy | None) -> None:
        known = self.config
        if known.title != config.title:
            raise ConfigError(f"{self.folder} already holds project {known.title!r}")
        if known.quota != config.quota:
            raise ConfigError(
                f"{self.folder} already holds this project with quota {known.quota}, got "
                f"{config.quota}: change it in project.json"
            )
        same_tree = known.taxonomy == config.taxonomy and (
            taxonomy is None or list(taxonomy) == list(self.taxonomy)
        )
        if not same_tree or known.codes != config.codes:
            raise ConfigError(
                f"{self.folder} already holds this project with another code set: "
                "move it by `clinicoco migrate`"
            )

    def reload(self) -> None:
        """Read the settings again: another process may have changed them."""
        path = self.folder / "project.json"
        if not path.is_file():
            raise ConfigError(f"{self.folder} is not a workspace: it has no project.json")
        if (self.folder / SWAP_MARK).exists():
            raise ConfigError(
                f"{self.folder} is being moved to another code set; if that was cut short, run "
                "`clinicoco migrate --finish`"
            )
        try:
            self.config = read_json(path, _config)
        except DataError as error:
            raise ConfigError(str(error)) from None
        self._forget("pool", _stamp(self.pool_path))
        self._forget("taxonomy", (self.config.taxonomy,))
        own = _stamp(self.folder / "rules.yaml")
        self._forget("rules", (self.config.taxonomy, self.config.rules_off, *own))

    def _forget(self, name: str, stamp: tuple[Any, ...]) -> None:
        """What was read before is read again if it has changed since."""
        if self._stamps.get(name) != stamp:
            self.__dict__.pop(name, None)
            self._stamps[name] = stamp

    def configure(self, **changes: Any) -> None:
        """Change settings and write them. Raises ConfigError for those that cannot be used."""
        self.reload()
        config = dataclasses.replace(self.config, **changes)
        if changes.get("fine_tune"):
            _refuse_without_extra(config)
        self.config = config
        write_json(self.folder / "project.json", dataclasses.asdict(config))
        self.reload()

    # -- records ------------------------------------------------------------------------------

    @property
    def pool_path(self) -> Path:
        """All EMRs that may be annotated."""
        return self.folder / "pool.parquet"

    @property
    def models_folder(self) -> Path:
        """One folder per model version."""
        return self.folder / "models"

    @property
    def names_folder(self) -> Path:
        """The name mapper that wrote the noisy codes."""
        return self.folder / "names"

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The code tree that the code set is cut from."""
        if self.config.taxonomy == "icd10cm":
            return _icd10cm()
        return Taxonomy.from_csv(self.folder / self.config.taxonomy)

    @property
    def code_set(self) -> str:
        """Names what the project codes: 16 hex digits of a SHA-256."""
        text = json.dumps([self.config.taxonomy, *self.config.codes])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def rules(self) -> RuleBook:
        """The coding rules: built in, the team's rules.yaml, without those switched off."""
        own = self.folder / "rules.yaml"
        return RuleBook(self.taxonomy, own=own if own.exists() else None, off=self.config.rules_off)

    def read_pool(self) -> list[EMR]:
        """Every EMR of the pool, in its order."""
        return list(_all(read_emrs(self._needed(self.pool_path, "clinicoco import"))))

    @cached_property
    def pool(self) -> PoolIndex:
        """Random access to the pool by `emr_id`."""
        return PoolIndex(self._needed(self.pool_path, "clinicoco import"))

    def pool_hash(self) -> str:
        """A SHA-256 of the pool's file."""
        with self._needed(self.pool_path, "clinicoco import").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read_noisy(self) -> list[Coding]:
        """The automatic codes of the pool."""
        path = self._needed(self.folder / "noisy.parquet", "clinicoco auto-label")
        return list(_all(read_codings(path)))

    def write_noisy(self, codings: Iterable[Coding]) -> None:
        """Replace the automatic codes."""
        write_records(self.folder / "noisy.parquet", codings, Coding)

    def read_clean(self) -> list[Coding]:
        """What coders decided so far, here or, on other EMRs, in an export; may be empty."""
        pulled = self.read_pulled()
        coded = {coding.emr_id for coding in pulled}
        return pulled + [c for c in self.read_imported() if c.emr_id not in coded]

    def read_pulled(self) -> list[Coding]:
        """What coders decided in this project; empty before the first pull."""
        return self._codings("clean.parquet")

    def read_imported(self) -> list[Coding]:
        """What `clinicoco import-export` brought."""
        return self._codings("imported.parquet")

    def write_clean(self, codings: Iterable[Coding]) -> None:
        """Replace the clean codes (Label Studio is their system of record)."""
        write_records(self.folder / "clean.parquet", codings, Coding)

    def write_imported(self, codings: Iterable[Coding]) -> None:
        """Replace the clean codes that came from exports."""
        write_records(self.folder / "imported.parquet", codings, Coding)

    def read_skipped(self) -> list[str]:
        """EMRs that coders skipped; they are not asked for again."""
        path = self.folder / "skipped.json"
        return read_json(path, list) if path.exists() else []

    def write_skipped(self, emr_ids: Sequence[str]) -> None:
        """Replace the list of skipped EMRs."""
        write_json(self.folder / "skipped.json", list(emr_ids))

    def read_mark(self) -> PullMark | None:
        """How far the last pull read; None before the first."""
        path = self.folder / "pulled.json"
        return read_json(path, lambda values: PullMark(**values)) if path.exists() else None

    def write_mark(self, mark: PullMark) -> None:
        """Note how far a pull read, once all that it read is written."""
        write_json(self.folder / "pulled.json", dataclasses.asdict(mark))

    # -- batches ------------------------------------------------------------------------------

    def batches(self) -> list[Batch]:
        """Every batch chosen so far, oldest first."""
        return [
            read_json(path, _batch) for path in sorted((self.folder / "batches").glob("b*.json"))
        ]

    def add_batch(self, emr_ids: Sequence[str], reasons: Sequence[str]) -> Batch:
        """Write the next batch; its number follows the last one's."""
        name = f"b{len(self.batches()) + 1:04d}"
        made = datetime.now(UTC).isoformat(timespec="seconds")
        batch = Batch(name, tuple(emr_ids), tuple(reasons), made)
        write_json(self.folder / "batches" / f"{name}.json", dataclasses.asdict(batch))
        return batch

    def _codings(self, name: str) -> list[Coding]:
        path = self.folder / name
        return list(_all(read_codings(path))) if path.exists() else []

    def _needed(self, path: Path, command: str) -> Path:
        if not path.exists():
            raise DataError(f"{self.folder} has no {path.name} yet: run `{command}` first")
        return path


@cache
def _icd10cm() -> Taxonomy:
    """One tree, and one search index, for all projects of a process."""
    return Taxonomy.icd10cm()


def _refuse_without_extra(config: ProjectConfig) -> None:
    """Asked when settings are made, not when they are read: reading them needs no extra."""
    if config.fine_tune and find_spec("peft") is None:
        raise ConfigError("fine_tune needs the extra: pip install 'clinicoco[lora]'")


def _stamp(path: Path) -> tuple[Any, ...]:
    """Changes with the file."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else ()


def _config(values: dict[str, Any]) -> ProjectConfig:
    lists = {name: tuple(values.get(name, ())) for name in ("codes", "rules_off")}
    return ProjectConfig(**(values | lists))


def _batch(values: dict[str, Any]) -> Batch:
    return Batch(values["name"], tuple(values["emr_ids"]), tuple(values["reasons"]), values["made"])


def _all(report: Any) -> Any:
    """The records of a file that we wrote ourselves: a problem in it is damage, not bad input."""
    if report.problems:
        raise DataError(f"a workspace file is damaged at {report.problems[0]}")
    return report.records
