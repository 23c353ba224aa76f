"""What an experiment or a benchmark measured, and whether it met its goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True)
class Measured:
    """The outcome of one experiment or benchmark."""

    rows: list[dict[str, Any]]
    """One per setting, method and seed."""
    goals: list[dict[str, Any]]
    """As `goal` makes them."""
    seeds: tuple[int, ...]
    data_hash: str
    """The first 16 hex digits of a SHA-256 over the data that it ran on, or how it was made."""
    shown: tuple[str, ...] = ()
    """The columns that a person wants to see; all of them if empty."""
    findings: tuple[str, ...] = ()
    """What the figures say, in sentences made from them."""
    figure: Callable[[Path], None] | None = None
    """Draws the rows to a PNG or SVG file, where people would rather look than read."""


def goal(name: str, target: str, value: float) -> dict[str, Any]:
    """Judge a value by its target: "<= 0.5", ">= 0.9" or "0.75 to 0.85"; nan never meets one.

    Returns:
        {id, target, value, met}.
    """
    if " to " in target:
        low, high = map(float, target.split(" to "))
        met = low <= value <= high
    else:
        sign, limit = target.split()
        met = value <= float(limit) if sign == "<=" else value >= float(limit)
    return {"id": name, "target": target, "value": round(float(value), 4), "met": bool(met)}


def median_goal(name: str, target: str, values: Iterable[float]) -> dict[str, Any]:
    """Judge the median over repeats as `goal` does, and say how far apart they are."""
    found = [float(value) for value in values]
    spread = f"{min(found):.2f} to {max(found):.2f}"
    return goal(name, target, statistics.median(found)) | {"range": spread}
