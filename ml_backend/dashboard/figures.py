"""Every number of the lead's page, from a workspace's files: pure reading, no drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from label_config.files import read_json
from label_config.taxonomy import Taxonomy
from ml_backend.dashboard.coverage import CodeFigures, CoverageFigures, read_coverage
from ml_backend.dashboard.estimate import Estimate
from ml_backend.dashboard.history import Point, pace, read_history
from ml_backend.dashboard.work import (
    CoderFigures,
    Corrections,
    Pace,
    coder_figures,
    corrections,
    pace_of,
)
from ml_backend.jobs import job_status
from ml_backend.registry import Registry
from ml_backend.workspace import Workspace

AGREEMENT_FILE = "agreement.json"
"""Written by `clinicoco audit-coverage` when it has every annotation."""
MEMBERS_FILE = "members.json"
"""Written by `clinicoco feedback` when it has every annotation."""


@dataclass(frozen=True, slots=True)
class ChapterFigures:
    """The codes of one chapter."""

    chapter: str
    title: str
    codes: tuple[CodeFigures, ...]
    """Nearest to their quota first, unreachable ones last."""

    @property
    def met(self) -> int:
        """Codes at their quota."""
        return sum(code.state == "met" for code in self.codes)

    @property
    def reachable(self) -> int:
        """Codes that the pool can fill."""
        return sum(code.state != "unreachable" for code in self.codes)


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One model version and how it did on held-back clean EMRs."""

    version: str
    made: datetime
    serves: bool
    clean_emrs: int | None
    micro_f1: float | None
    macro_f1: float | None


@dataclass(frozen=True, slots=True)
class Counted:
    """What depends on codes, annotations and batches alone: slow to count, and kept by a server."""

    coverage: CoverageFigures
    chapters: tuple[ChapterFigures, ...]
    coders: tuple[CoderFigures, ...]
    corrections: Corrections
    pace: Pace | None


@dataclass(frozen=True, slots=True)
class Figures:
    """The whole page."""

    title: str
    quota: int
    made: datetime
    counted: Counted
    models: tuple[ModelFigures, ...]
    jobs: tuple[dict[str, Any], ...]
    history: tuple[Point, ...]
    emrs_per_day: float | None
    agreement: dict[str, Any] | None
    members: dict[str, Any] | None = None
    """Who speaks for codes, and how often coders keep them."""

    @property
    def coverage(self) -> CoverageFigures:
        """Codes, burn-down and forecast."""
        return self.counted.coverage

    @property
    def met(self) -> int:
        """Codes at their quota."""
        return self.coverage.count("met")

    @property
    def unreachable(self) -> int:
        """Codes that the pool cannot fill."""
        return self.coverage.count("unreachable")

    @property
    def reachable(self) -> int:
        """Codes that the pool can fill, met ones included."""
        return len(self.coverage.codes) - self.unreachable

    @property
    def hours_to_go(self) -> Estimate | None:
        """Coder hours; None while too few EMRs carry a time."""
        pace = self.counted.pace
        if pace is None:
            return None
        return self.coverage.emrs_to_go.times(
            pace.seconds / 3600, relative_error=pace.relative_error
        )

    @property
    def days_to_go(self) -> Estimate | None:
        """Calendar days at the pace of the last two weeks; None before there is a pace."""
        return self.coverage.emrs_to_go.times(1 / self.emrs_per_day) if self.emrs_per_day else None


def read_figures(
    workspace: Workspace, *, now: datetime | None = None, counted: Counted | None = None
) -> Figures:
    """Read the page's numbers. Raises DataError before `clinicoco auto-label`.

    `counted` spares the slow part where it is known to be up to date; see `stamp`.
    """
    now = now or datetime.now(UTC)
    history = read_history(workspace)
    return Figures(
        title=workspace.config.title,
        quota=workspace.config.quota,
        made=now,
        counted=counted or count(workspace),
        models=tuple(_models(workspace)),
        jobs=tuple(job_status(workspace.folder)),
        history=tuple(history),
        emrs_per_day=pace(history, now),
        agreement=_report(workspace.folder / AGREEMENT_FILE),
        members=_report(workspace.folder / MEMBERS_FILE),
    )


def count(workspace: Workspace) -> Counted:
    """The slow part."""
    clean = workspace.read_clean()
    coverage = read_coverage(workspace, clean)
    return Counted(
        coverage=coverage,
        chapters=tuple(_chapters(coverage, workspace.taxonomy)),
        coders=coder_figures(clean),
        corrections=corrections(clean),
        pace=pace_of(clean),
    )


def stamp(workspace: Workspace) -> tuple[Any, ...]:
    """Changes whenever `count` could answer otherwise."""
    names = ("project.json", "noisy.parquet", "clean.parquet", "imported.parquet")
    paths = [workspace.folder / name for name in names]
    paths += sorted((workspace.folder / "batches").glob("b*.json"))
    return tuple((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in paths if p.exists())


def _chapters(coverage: CoverageFigures, taxonomy: Taxonomy) -> Iterator[ChapterFigures]:
    order = {entry.code: n for n, entry in enumerate(taxonomy) if entry.parent is None}
    grouped: dict[str, list[CodeFigures]] = {}
    for code in coverage.codes:
        grouped.setdefault(code.chapter, []).append(code)
    for chapter in sorted(grouped, key=lambda c: order[c]):
        codes = sorted(grouped[chapter], key=_nearest_first)
        yield ChapterFigures(chapter, taxonomy.title(chapter), tuple(codes))


def _nearest_first(code: CodeFigures) -> tuple[bool, float, str]:
    return code.state == "unreachable", -min(code.clean / code.quota, 1.0), code.code


def _models(workspace: Workspace) -> Iterator[ModelFigures]:
    registry = Registry(workspace.models_folder)
    live = registry.live()
    for version in registry.versions():
        scores = version.validation
        clean = _finite(scores.get("clean_emrs"))
        yield ModelFigures(
            version=version.version,
            made=datetime.fromisoformat(version.made),
            serves=live is not None and version.version == live.version,
            clean_emrs=None if clean is None else int(clean),
            micro_f1=_finite(scores.get("micro_f1")),
            macro_f1=_finite(scores.get("macro_f1")),
        )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _report(path: Path) -> dict[str, Any] | None:
    return read_json(path, dict) if path.exists() else None
