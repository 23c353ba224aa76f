"""Draws what each setting changes, seed by seed, where people would rather look than read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
