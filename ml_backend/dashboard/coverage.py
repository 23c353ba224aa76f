"""Coverage as a lead reads it: each code, burn-down, forecast and proof, all from one sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from label_config.record import Coding
from ml_backend import sampling
from ml_backend.dashboard.estimate import Estimate
from ml_backend.dashboard.work import Corrections, corrections_by_code
from ml_backend.workspace import Workspace
from sampler import CodeStatus, Forecast, Interval

Floats = NDArray[np.float64]
STATES = ("unreachable", "open", "met")
"""The order in which a lead wants to see them."""
COLUMNS = ("code", "title", "clean", "quota", "pending", "needed", "supply", "state")
CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class CodeFigures:
    """One code. Counts are of EMRs; expected ones have a decimal."""

    code: str
    title: str
    chapter: str
    clean: int
    quota: int
    pending: float
    """Expected among the EMRs that are with coders."""
    needed: float
    """Still to be found beyond the pending ones; 0 for an unreachable code."""
    supply: float
    """Expected among the EMRs that may still be chosen."""
    state: str
    """One of STATES."""
    scarcity: float
    """needed / supply, 0 to 1."""
    missing: float
    """EMRs that the pool is expected to lack; above 0 for an unreachable code only."""
    emrs_to_go: Estimate
    """EMRs to annotate, over all codes, until this one is met."""
    corrections: Corrections

    def row(self) -> dict[str, Any]:
        """What `code_rows` says of it."""
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(frozen=True, slots=True)
class CoverageFigures:
    """Where the project stands, and what is still to come."""

    codes: tuple[CodeFigures, ...]
    """Unreachable, open, met; within each the least supply first."""
    pool: int
    """EMRs that may be annotated, in all."""
    annotated: int
    """EMRs that count: coded, and called clean by their coder."""
    set_aside: int
    """EMRs that a coder called unsure or bad; they count for no code."""
    with_coders: int
    """EMRs chosen and not yet annotated."""
    emrs_to_go: Estimate
    """Until every reachable code is met, those with coders included."""
    bound: float
    """Certified: no rule blind to the answers can be expected to need fewer EMRs beyond
    those with coders."""
    planned: float
    """What the sampler's own plan is expected to need, counted as `bound` is."""
    past: tuple[tuple[int, float], ...]
    """(EMRs annotated, labels that reachable codes lacked then), in the order chosen."""
    future: tuple[tuple[float, Estimate], ...]
    """(EMRs annotated, labels still lacking), today first."""

    def count(self, state: str) -> int:
        """How many codes are in a state."""
        return sum(code.state == state for code in self.codes)


def read_coverage(workspace: Workspace, clean: Sequence[Coding]) -> CoverageFigures:
    """Count everything anew; seconds at 20,000 codes, most of them for the forecast.

    `clean` is what `workspace.read_clean()` gives.
    """
    sampler = sampling.coverage(workspace)
    status, forecast, bound = sampler.status(), sampler.forecast(), sampler.bound()
    in_pool = _pool_ids(workspace)
    coded = [c for c in clean if c.emr_id in in_pool]
    usable = _in_order_chosen(workspace, [c for c in coded if c.quality == "clean"])
    total = _estimate(forecast.emrs)
    past = _past(workspace, usable, status)
    return CoverageFigures(
        codes=_code_figures(workspace, status, forecast, clean),
        pool=len(in_pool),
        annotated=len(usable),
        set_aside=len(coded) - len(usable),
        with_coders=int(sampler.pending.size),
        emrs_to_go=total,
        bound=float(bound.cost),
        planned=float(bound.planned or 0.0),
        past=past,
        future=_future(len(usable), status, forecast),
    )


def code_rows(workspace: Workspace, status: CodeStatus) -> list[dict[str, Any]]:
    """One row per code: clean, pending, still needed, expected supply, state; scarcest first."""
    columns = zip(
        workspace.config.codes,
        map(workspace.taxonomy.title, workspace.config.codes),
        status.clean.astype(int).tolist(),
        status.target.astype(int).tolist(),
        *(values.round(1).tolist() for values in (status.pending, status.needed, status.supply)),
        status.state.tolist(),
        strict=True,
    )
    rows = [dict(zip(COLUMNS, values, strict=True)) for values in columns]
    return sorted(rows, key=lambda r: (STATES.index(str(r["state"])), r["supply"], r["code"]))


def _code_figures(
    workspace: Workspace, status: CodeStatus, forecast: Forecast, clean: Sequence[Coding]
) -> tuple[CodeFigures, ...]:
    number = {code: k for k, code in enumerate(workspace.config.codes)}
    corrected = corrections_by_code(clean)
    until = _until(status, forecast)
    found = []
    for row in code_rows(workspace, status):
        k = number[row["code"]]
        figures = CodeFigures(
            **row,
            chapter=workspace.taxonomy.chapter(row["code"]),
            scarcity=round(float(status.scarcity[k]), 3),
            missing=round(float(status.missing[k]), 1),
            emrs_to_go=Estimate(*(float(ends[k]) for ends in until)),
            corrections=corrected.get(row["code"], Corrections()),
        )
        found.append(figures)
    return tuple(found)


def _pool_ids(workspace: Workspace) -> set[str]:
    table = pq.read_table(workspace.folder / "noisy.parquet", columns=["emr_id"])
    return set(table["emr_id"].to_pylist())


def _in_order_chosen(workspace: Workspace, codings: Sequence[Coding]) -> list[Coding]:
    """By batch and place in it; EMRs that no batch holds come last."""
    chosen = (emr_id for batch in workspace.batches() for emr_id in batch.emr_ids)
    place = {emr_id: n for n, emr_id in enumerate(dict.fromkeys(chosen))}
    return sorted(codings, key=lambda c: (place.get(c.emr_id, len(place)), c.emr_id))


def _past(
    workspace: Workspace, codings: Sequence[Coding], status: CodeStatus
) -> tuple[tuple[int, float], ...]:
    reachable = status.state != "unreachable"
    lacking = dict(zip(workspace.config.codes, status.target * reachable, strict=True))
    left = float(sum(lacking.values()))
    curve = [(0, left)]
    for done, coding in enumerate(codings, start=1):
        for code in coding.codes:
            if lacking.get(code, 0.0) > 0:
                lacking[code] -= 1
                left -= 1
        curve.append((done, left))
    keep = np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).round().astype(int))
    return tuple(curve[at] for at in keep)


def _future(
    annotated: int, status: CodeStatus, forecast: Forecast
) -> tuple[tuple[float, Estimate], ...]:
    """What codes lack, each falling evenly from today until the EMR that is forecast to meet it."""
    lacking_K, last = _lacking(status), float(forecast.emrs.high)
    points = CURVE_POINTS // 4 if last > 0 else 1
    ahead = np.linspace(0.0, last, points, dtype=np.float64)
    curves = [_fall(lacking_K, until_K, ahead) for until_K in _until(status, forecast)]
    return tuple(
        (annotated + float(x), Estimate(float(median), float(low), float(high)))
        for x, median, low, high in zip(ahead, *curves, strict=True)
    )


def _lacking(status: CodeStatus) -> Floats:
    """(K,) labels short of the quota, 0 for unreachable codes."""
    short_K: Floats = np.maximum(status.target - status.clean, 0.0)
    return np.where(status.state == "unreachable", 0.0, short_K)


def _until(status: CodeStatus, forecast: Forecast) -> tuple[Floats, Floats, Floats]:
    """Median, low and high of the EMRs until each code is met, (K,) each.

    No sooner than one EMR per label that the code lacks, and no later than the project's end.
    """
    whole, each, lacking_K = forecast.emrs, forecast.emrs_per_code, _lacking(status)
    pairs = ((each.median, whole.median), (each.low, whole.low), (each.high, whole.high))
    median, low, high = (
        np.minimum(np.maximum(until_K, lacking_K), float(end)) for until_K, end in pairs
    )
    return median, low, high


def _fall(lacking_K: Floats, until_K: Floats, ahead: Floats) -> Floats:
    open_ = lacking_K > 0
    lacking, until = lacking_K[open_], np.maximum(until_K[open_], 1e-9)
    return np.array([lacking @ np.maximum(1.0 - x / until, 0.0) for x in ahead])


def _estimate(interval: Interval) -> Estimate:
    return Estimate(float(interval.median), float(interval.low), float(interval.high))
