"""Experiments by name: each compares rules or models over seeds and checks named goals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment measured."""

    name: str
    rows: list[dict[str, Any]]
    """One per setting, rule and seed."""
    goals: list[dict[str, Any]]
    """{id, target, value, met}; the target says the direction: "<= 0.5"."""
    seeds: tuple[int, ...]
    data_hash: str
    """The first 16 hex digits of a SHA-256 over the data that it ran on."""
    shown: tuple[str, ...] = ()
    """The columns that a person wants to see; all of them if empty."""


def goal(name: str, target: str, value: float) -> dict[str, Any]:
    """Judge a value by its target: "<= 0.5", ">= 0.9" or "0.75 to 0.85"; nan never meets one."""
    if " to " in target:
        low, high = map(float, target.split(" to "))
        met = low <= value <= high
    else:
        sign, limit = target.split()
        met = value <= float(limit) if sign == "<=" else value >= float(limit)
    return {"id": name, "target": target, "value": round(float(value), 4), "met": bool(met)}


def _sampler(
    quick: bool,
    seeds: Sequence[int],
    progress: Progress | None = None,
    data: Path | None = None,
) -> ExperimentResult:
    from simulator.experiment_sampler import run

    return run(quick, seeds, progress, real_codes=data)


def _bench_sampler(quick: bool, progress: Progress | None = None) -> ExperimentResult:
    from sampler.benchmark import run

    rows, goals = run(quick, progress=progress)
    return ExperimentResult("sampler", rows, goals, seeds=(0,), data_hash="synthetic")


EXPERIMENTS: dict[str, Callable[..., ExperimentResult]] = {"sampler": _sampler}
"""Called with (quick, seeds, progress=None, data=None); each imports what it needs when called."""

BENCHMARKS: dict[str, Callable[..., ExperimentResult]] = {"sampler": _bench_sampler}
"""Called with (quick, progress=None)."""
