"""The four plots of a data card: lengths, codes per EMR, how common the codes are, name errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from label_config.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, AMBER, INK, FAINT = "#2f6f9f", "#d98a1f", "#2b2f36", "#d9dde3"
NAMED = (0, 1, -1)
"""Places on the frequency curve whose codes are named."""


@dataclass(frozen=True)
class Plotted:
    """What the plots show."""

    lengths: Sequence[int]
    """Of the EMRs' free text, in `unit`."""
    unit: str
    length_wanted: float
    codes_per_emr: Sequence[int]
    code_counts: Mapping[str, int]
    """Code -> EMRs with it."""
    error_rates: Mapping[str, float]
    """Kind of error -> share of the gold codes."""
    error_rates_wanted: Mapping[str, float]


def draw(what: Plotted, path: Path) -> None:
    """Draw the four plots into one PNG file."""
    from matplotlib.figure import Figure  # slow to import, and only cards are drawn

    figure = Figure(figsize=(10, 6.6), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    (lengths, per_emr), (codes, errors) = figure.subplots(2, 2)
    _lengths(lengths, what)
    _codes_per_emr(per_emr, what)
    _frequencies(codes, what)
    _errors(errors, what)
    for axes in (lengths, per_emr, codes, errors):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(colors=INK, labelsize=9, length=0)
        axes.set_axisbelow(True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _lengths(axes: Axes, what: Plotted) -> None:
    axes.hist(what.lengths, bins=40, color=BLUE, edgecolor="white", linewidth=0.4)
    _title(axes, f"{what.unit.capitalize()} per EMR")
    axes.set(ylabel="EMRs")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.axvline(what.length_wanted, color=AMBER, linewidth=2)
    _remark(axes, f"published mean {what.length_wanted:,.0f}\nhere {mean(what.lengths):,.0f}")


def _codes_per_emr(axes: Axes, what: Plotted) -> None:
    counts = Counter(what.codes_per_emr)
    shares = {size: count / len(what.codes_per_emr) for size, count in sorted(counts.items())}
    axes.bar(list(shares), [100 * share for share in shares.values()], color=BLUE, width=0.8)
    _title(axes, "Gold codes per EMR")
    axes.set(ylabel="% of EMRs", xticks=list(shares))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    _remark(axes, f"mean {mean(what.codes_per_emr):.2f}")


def _frequencies(axes: Axes, what: Plotted) -> None:
    ranked = sorted(what.code_counts.items(), key=lambda item: (-item[1], item[0]))
    ranks = range(1, len(ranked) + 1)
    axes.plot(ranks, [count for _, count in ranked], color=BLUE, linewidth=1, alpha=0.5)
    axes.plot(ranks, [count for _, count in ranked], ".", color=BLUE, markersize=5)
    axes.set(xscale="log", yscale="log", xlabel="rank of the code", ylabel="EMRs with it")
    _title(axes, "How common the codes are")
    axes.grid(color=FAINT, linewidth=0.6)
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= len(ranked)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.yaxis.minorticks_off()
    for place in dict.fromkeys(place % len(ranked) for place in NAMED if place < len(ranked)):
        code, count = ranked[place]
        axes.annotate(
            code, (place + 1, count), xytext=(5, 4), textcoords="offset points", fontsize=9,
            color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _errors(axes: Axes, what: Plotted) -> None:
    kinds = list(what.error_rates)[::-1]
    shares = [100 * what.error_rates[kind] for kind in kinds]
    axes.barh(kinds, shares, color=BLUE, height=0.55)
    for place, (kind, share) in enumerate(zip(kinds, shares, strict=True)):
        wanted = 100 * what.error_rates_wanted[kind]
        axes.plot([wanted, wanted], [place - 0.38, place + 0.38], color=AMBER, linewidth=2)
        axes.annotate(
            f"{share:.1f} %", (max(share, wanted), place), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=9, color=INK,
        )  # fmt: skip
    _title(axes, "Errors in the diagnosis names")
    axes.set(xlabel="% of gold codes (the line: asked for)")
    axes.set_xlim(
        0, 1.18 * max([1.0, *shares, *(100 * w for w in what.error_rates_wanted.values())])
    )
    axes.grid(axis="x", color=FAINT, linewidth=0.6)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)


def _remark(axes: Axes, text: str) -> None:
    axes.annotate(
        text, (1, 0.98), xycoords="axes fraction", ha="right", va="top", fontsize=9, color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 3},
    )  # fmt: skip
