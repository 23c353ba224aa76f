"""Draws what each setting changes, and how a score grows, where people would rather look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Changes:
    """One panel per `place`, one line per `setting`: a dot per seed and a bar for their mean."""

    rows: Sequence[Mapping[str, Any]]
    place: str = "hospital"
    setting: str = "setting"
    value: str = "change"
    against: str = "the first row"

    def draw(self, path: Path) -> None:
        """Write a PNG or SVG, by the ending."""
        from matplotlib.figure import Figure  # slow to import

        places = list(dict.fromkeys(row[self.place] for row in self.rows))
        names = list(dict.fromkeys(row[self.setting] for row in self.rows))[::-1]
        canvas = Figure(
            figsize=(3.2 + 3.2 * len(places), 1.2 + 0.28 * len(names)), layout="constrained"
        )
        panels = canvas.subplots(1, len(places), sharey=True, squeeze=False)[0]
        for panel, place in zip(panels, places, strict=True):
            for height, name in enumerate(names):
                values = [
                    row[self.value]
                    for row in self.rows
                    if (row[self.place], row[self.setting]) == (place, name)
                ]
                if values:
                    panel.plot(values, [height] * len(values), "o", color="tab:blue", alpha=0.45)
                    panel.plot([np.mean(values)], [height], "|", color="black", ms=14, mew=2)
            panel.axvline(0, color="grey", lw=0.8)
            panel.set(title=place, xlabel=f"micro-F1 less that of {self.against}")
            panel.locator_params(axis="x", nbins=5)
            panel.grid(axis="x", alpha=0.3)
        panels[0].set_yticks(range(len(names)), names)
        canvas.savefig(path, dpi=110)


@dataclass(frozen=True)
class Groups:
    """One line per `place`, a colour per value of `by`: a dot per seed and a bar for their mean."""

    rows: Sequence[Mapping[str, Any]]
    by: str
    value: str
    called: str
    """What the value is called."""
    place: Callable[[Mapping[str, Any]], str]
    """The line that a row stands on."""

    def draw(self, path: Path) -> None:
        """Write a PNG or SVG, by the ending."""
        from matplotlib.figure import Figure  # slow to import

        names = list(dict.fromkeys(row[self.by] for row in self.rows))
        places = list(dict.fromkeys(map(self.place, self.rows)))[::-1]
        lines = len(places) * (len(names) + 1)
        canvas = Figure(figsize=(9, 1.6 + 0.16 * lines), layout="constrained")
        axis = canvas.subplots()
        for index, name in enumerate(names):
            shift = 0.5 - (index + 1) / (len(names) + 1)
            for height, place in enumerate(places):
                values = [
                    row[self.value]
                    for row in self.rows
                    if (row[self.by], self.place(row)) == (name, place)
                ]
                if not values:
                    continue
                on, color = height + shift, f"C{index}"
                axis.plot(values, [on] * len(values), "o", color=color, alpha=0.45, ms=5)
                axis.plot([np.mean(values)], [on], "|", color=color, ms=12, mew=3)
            axis.plot([], [], "o", color=f"C{index}", label=f"{self.by}: {name}")
        for between in range(1, len(places)):
            axis.axhline(between - 0.5, color="grey", lw=0.4)
        axis.set_yticks(range(len(places)), places)
        axis.set(xlabel=self.called, ylim=(-0.5, len(places) - 0.5))
        axis.grid(axis="x", alpha=0.3)
        canvas.legend(loc="outside upper right", ncols=len(names), frameon=False)
        canvas.savefig(path, dpi=110)


@dataclass(frozen=True)
class Lines:
    """Micro-F1 by the column `x`, one line per value of `by`; the band is the range over seeds."""

    rows: Sequence[Mapping[str, Any]]
    x: str
    by: str
    label: Callable[[Any], str]
    """What a value of `by` is called."""

    def draw(self, path: Path) -> None:
        """Write a PNG or SVG, by the ending."""
        from matplotlib.figure import Figure  # slow to import

        canvas = Figure(figsize=(6, 4.2), layout="constrained")
        axis = canvas.subplots()
        places = sorted({row[self.x] for row in self.rows})
        for value in sorted({row[self.by] for row in self.rows}):
            mine = [row for row in self.rows if row[self.by] == value]
            scores = [[r["micro_f1"] for r in mine if r[self.x] == place] for place in places]
            (line,) = axis.plot(places, np.median(scores, axis=1), "o-", label=self.label(value))
            low, high = np.min(scores, axis=1), np.max(scores, axis=1)
            axis.fill_between(places, low, high, color=line.get_color(), alpha=0.12)
        axis.set(xlabel=f"{self.x} EMRs", ylabel="micro-F1 on unseen EMRs")
        axis.grid(alpha=0.3)
        axis.legend()
        canvas.savefig(path, dpi=110)
