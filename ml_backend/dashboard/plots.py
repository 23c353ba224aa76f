"""The three charts of the page: burn-down, EMRs over time, validation of model versions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ml_backend.dashboard.charts import (
    Chart,
    Dot,
    Label,
    Line,
    Plane,
    Tick,
    ceiling,
    date_ticks,
    whole,
)
from ml_backend.dashboard.coverage import CoverageFigures
from ml_backend.dashboard.figures import ModelFigures
from ml_backend.dashboard.history import Point


def burn_down(coverage: CoverageFigures, *, width: int, height: int) -> Chart:
    """Labels that reachable codes lack against EMRs annotated, with the forecast's interval."""
    past, future, togo = coverage.past, coverage.future, coverage.emrs_to_go
    today = (float(coverage.annotated), future[0][1].median)
    end = coverage.annotated + togo.high
    top = ceiling(max(left for _, left in past))
    plane = Plane(width, height, (0.0, max(end, 1.0)), (0.0, top))
    upper = [(x, left.high) for x, left in future]
    lower = [(x, left.low) for x, left in future]
    x_today, y_today = plane.at(*today)
    lines = [
        Line("band", plane.path([*upper, *reversed(lower)], close=True)),
        Line("ahead", plane.path([(x, left.median) for x, left in future])),
        Line("today", plane.path([(today[0], 0.0), (today[0], top)])),
        Line("past", plane.path([(float(x), left) for x, left in past])),
    ]
    near_right = x_today > 0.8 * width
    words = Label(
        x_today + (-6 if near_right else 6), 24, "today", "end" if near_right else "start"
    )
    dots = [Dot("now", x_today, y_today, f"{whole(today[1])} labels lacking today")]
    if togo.median > 0:
        x, y = plane.at(coverage.annotated + togo.median, 0)
        dots.append(Dot("end", x, y, f"{whole(togo.median)} EMRs to go"))
    return Chart(
        title=(
            f"{whole(today[1])} labels lacking after {whole(today[0])} EMRs; "
            f"{interval_words(togo.median, togo.low, togo.high)} more EMRs to go"
        ),
        width=width,
        height=height,
        x_ticks=plane.x_ticks(whole),
        y_ticks=plane.y_ticks(whole),
        lines=lines,
        dots=dots,
        labels=[words],
    )


def over_time(history: Sequence[Point], now: datetime, *, width: int, height: int) -> Chart | None:
    """EMRs annotated by date, up to now; None with fewer than two points."""
    if len(history) < 2:
        return None
    points = [(p.at.timestamp(), float(p.annotated)) for p in history]
    most = ceiling(max(count for _, count in points))
    plane = Plane(width, height, (points[0][0], max(now.timestamp(), points[-1][0])), (0.0, most))
    stairs = [points[0]]
    for x, y in points[1:]:
        stairs += [(x, stairs[-1][1]), (x, y)]
    stairs.append((plane.x[1], stairs[-1][1]))
    last = history[-1]
    return Chart(
        title=f"{whole(last.annotated)} EMRs annotated by {last.at:%Y-%m-%d}",
        width=width,
        height=height,
        x_ticks=date_ticks(plane),
        y_ticks=plane.y_ticks(whole),
        lines=[Line("past", plane.path(stairs))],
    )


def scores(models: Sequence[ModelFigures], *, width: int, height: int) -> Chart | None:
    """Micro- and macro-F1 by version; None with fewer than two validated versions."""
    rated = [m for m in models if m.micro_f1 is not None]
    if len(rated) < 2:
        return None
    plane = Plane(width, height, (0.0, len(rated) - 1.0), (0.0, 1.0))
    lines, dots, labels = [], [], []
    for kind, name in (("micro", "micro-F1"), ("macro", "macro-F1")):
        values = [(float(n), getattr(m, f"{kind}_f1")) for n, m in enumerate(rated)]
        points = [(x, y) for x, y in values if y is not None]
        lines.append(Line(kind, plane.path(points)))
        for x, y in points:
            dots.append(Dot(kind, *plane.at(x, y), f"{rated[int(x)].version}: {name} {y:.3f}"))
        if points:
            x, y = plane.at(*points[-1])
            labels.append(Label(x, y + (-9 if kind == "micro" else 18), name, "end"))
    every = max(len(rated) // 6, 1)
    ticks = [
        Tick(plane.at(n, 0)[0], m.version.split("-")[0])
        for n, m in enumerate(rated)
        if n % every == 0
    ]
    return Chart(
        title=f"{rated[-1].version} validates with micro-F1 {rated[-1].micro_f1:.3f}",
        width=width,
        height=height,
        x_ticks=ticks,
        y_ticks=plane.y_ticks(lambda v: f"{v:.1f}"),
        lines=lines,
        dots=dots,
        labels=labels,
    )


def interval_words(median: float, low: float, high: float) -> str:
    """Such as 1,141 (1,027 to 1,301)."""
    return f"{whole(median)} ({whole(low)} to {whole(high)})"
