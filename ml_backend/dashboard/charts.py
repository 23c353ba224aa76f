"""Line charts and the heat strip as geometry; `templates/charts.html` draws it as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ml_backend.dashboard.coverage import CodeFigures
from ml_backend.dashboard.figures import ChapterFigures

LEFT, RIGHT, TOP, BOTTOM = 52, 20, 14, 26
MOST_CELLS = 80
"""Cells of a chapter's strip; above that a cell stands for several codes."""
STRIP_WIDTH = 720
"""Pixels of a strip of MOST_CELLS cells."""
SHADES = 5

XY = tuple[float, float]
Words = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at a place on an axis, in pixels."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """`kind` is its CSS class; `path` is SVG's."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Label:
    """Words in the plot."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Dot:
    """A marked point with a tooltip."""

    kind: str
    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the template draws, in pixels."""

    title: str
    """Read aloud by screen readers: what the chart says in one sentence."""
    width: int
    height: int
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    dots: Sequence[Dot] = ()
    labels: Sequence[Label] = ()
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


@dataclass(frozen=True, slots=True)
class Cell:
    """One code of the heat strip, or a few neighbours."""

    x: float
    width: float
    kind: str
    """met, unreachable, or s0 to s4 from far to near."""
    text: str


@dataclass(frozen=True, slots=True)
class Plane:
    """Turns values into pixels. `x` and `y` are the ends of the axes."""

    width: int
    height: int
    x: XY
    y: XY

    def at(self, x: float, y: float) -> XY:
        """The pixel of a point."""
        (x0, x1), (y0, y1) = self.x, self.y
        inner_width, inner_height = self.width - LEFT - RIGHT, self.height - TOP - BOTTOM
        right = (x - x0) / (x1 - x0) if x1 > x0 else 0.0
        up = (y - y0) / (y1 - y0) if y1 > y0 else 0.0
        return LEFT + right * inner_width, self.height - BOTTOM - up * inner_height

    def path(self, points: Sequence[XY], *, close: bool = False) -> str:
        """SVG path through the points."""
        pixels = [f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points)]
        return f"M{' L'.join(pixels)}{'Z' if close else ''}" if pixels else ""

    def x_ticks(self, words: Words, count: int = 6) -> list[Tick]:
        """Ticks at round values."""
        return [Tick(self.at(v, self.y[0])[0], words(v)) for v in round_values(*self.x, count)]

    def y_ticks(self, words: Words, count: int = 4) -> list[Tick]:
        """Ticks at round values."""
        return [Tick(self.at(self.x[0], v)[1], words(v)) for v in round_values(*self.y, count)]


def round_values(low: float, high: float, count: int) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten within the ends."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def ceiling(value: float, count: int = 4) -> float:
    """The end of an axis that starts at 0 and shows `value`: its last tick."""
    if value <= 0:
        return 1.0
    rough = value / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return math.ceil(value / step - 1e-9) * step


def whole(value: float) -> str:
    """1141 -> "1,141"."""
    return f"{value:,.0f}"


def date_ticks(plane: Plane) -> list[Tick]:
    """At most five days; the times are seconds since 1970."""
    first, last = (datetime.fromtimestamp(end, UTC).date().toordinal() for end in plane.x)
    step = max(math.ceil((last - first) / 5), 1)
    ticks = []
    for number in range(last, first, -step):
        day = datetime.combine(datetime.fromordinal(number).date(), datetime.min.time(), UTC)
        ticks.append(Tick(plane.at(day.timestamp(), 0)[0], f"{day.day} {day:%b}"))
    return ticks[::-1] or [Tick(LEFT, f"{datetime.fromtimestamp(plane.x[0], UTC):%-d %b}")]


def heat_strip(chapter: ChapterFigures, *, stretch: bool) -> list[Cell]:
    """A cell per code, nearest to the quota first; neighbours share one above MOST_CELLS.

    `stretch` makes the strip STRIP_WIDTH wide whatever the number of its codes.
    """
    reachable = [code for code in chapter.codes if code.state != "unreachable"]
    rest = [code for code in chapter.codes if code.state == "unreachable"]
    per_cell = math.ceil(len(chapter.codes) / MOST_CELLS)
    groups = [
        codes[at : at + per_cell]
        for codes in (reachable, rest)
        for at in range(0, len(codes), per_cell)
    ]
    size = STRIP_WIDTH / (len(groups) if stretch else MOST_CELLS)
    return [Cell(n * size, size, _kind(codes), _words(codes)) for n, codes in enumerate(groups)]


def needs_stretch(chapters: Sequence[ChapterFigures]) -> bool:
    """True if a chapter is too long for a cell per code: widths then cannot show numbers."""
    return any(len(chapter.codes) > MOST_CELLS for chapter in chapters)


def _kind(codes: Sequence[CodeFigures]) -> str:
    if codes[0].state == "unreachable":
        return "unreachable"
    if all(code.state == "met" for code in codes):
        return "met"
    share = sum(min(code.clean / code.quota, 1.0) for code in codes) / len(codes)
    return f"s{min(int(share * SHADES), SHADES - 1)}"


def _words(codes: Sequence[CodeFigures]) -> str:
    first = codes[0]
    if len(codes) == 1:
        lacks = f", {first.missing:g} missing" if first.state == "unreachable" else ""
        return f"{first.code} {first.title}: {first.clean} of {first.quota}{lacks}"
    met = sum(code.state == "met" for code in codes)
    return f"{first.code} and {len(codes) - 1} more: {met} met"
