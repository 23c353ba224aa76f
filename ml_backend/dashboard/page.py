"""Figures in, one HTML page out: style, script and charts inside it, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from ml_backend.dashboard import plots
from ml_backend.dashboard.charts import heat_strip, needs_stretch, whole
from ml_backend.dashboard.coverage import STATES, CodeFigures
from ml_backend.dashboard.estimate import Estimate
from ml_backend.dashboard.figures import Figures

SHORT_LIST = 8
FEWEST_SUGGESTIONS = 5
"""A code suggested less often has no rate worth a place among the most corrected."""


def render(figures: Figures, *, notice: str = "") -> str:
    """The page of one project; `notice` is a line under its title."""
    coverage = figures.coverage
    open_codes = [code for code in coverage.codes if code.state == "open"]
    unreachable = [code for code in coverage.codes if code.state == "unreachable"]
    return (
        _environment()
        .get_template("page.html")
        .render(
            figures=figures,
            coverage=coverage,
            notice=notice,
            burn_down=plots.burn_down(coverage, width=760, height=270),
            over_time=plots.over_time(figures.history, figures.made, width=420, height=200),
            scores=plots.scores(figures.models, width=420, height=170),
            strips=_strips(figures),
            stretched=needs_stretch(figures.counted.chapters),
            scarcest=sorted(open_codes, key=lambda c: (-c.scarcity, c.supply, c.code))[:SHORT_LIST],
            unreachable=sorted(unreachable, key=lambda c: (-c.missing, c.code))[:SHORT_LIST],
            corrected=_most_corrected(coverage.codes),
            rows=htmlsafe_json_dumps(_rows(figures), separators=(",", ":")),
            policy=policy(),
            style=Markup(_asset("page.css")),  # noqa: S704  our own file
            script=Markup(_asset("page.js")),  # noqa: S704  our own file
        )
    )


def render_list(projects: Sequence[dict[str, Any]]) -> str:
    """A page that links every project: {title, address or None}."""
    return (
        _environment()
        .get_template("list.html")
        .render(
            projects=projects,
            style=Markup(_asset("page.css")),  # noqa: S704  our own file
        )
    )


@cache
def policy() -> str:
    """Content-Security-Policy: this very style and script, and nothing else from anywhere."""
    style, script = (_digest(_asset(name)) for name in ("page.css", "page.js"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / "static" / name).read_text("utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ml_backend.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(whole=whole, percent=_percent, figure=_figure, between=_between)
    return environment


def _strips(figures: Figures) -> list[dict[str, Any]]:
    chapters = figures.counted.chapters
    stretch = needs_stretch(chapters)
    return [{"chapter": c, "cells": heat_strip(c, stretch=stretch)} for c in chapters]


def _most_corrected(codes: Sequence[CodeFigures]) -> list[CodeFigures]:
    rated = [c for c in codes if c.corrections.suggested >= FEWEST_SUGGESTIONS]
    rated = [c for c in rated if c.corrections.correction]
    return sorted(rated, key=lambda c: (-(c.corrections.correction or 0.0), c.code))[:SHORT_LIST]


def _rows(figures: Figures) -> dict[str, Any]:
    """The code table as compact JSON; `page.js` names the columns in the same order."""
    chapters = {chapter.chapter: n for n, chapter in enumerate(figures.counted.chapters)}
    rows = [
        [
            *(c.code, c.title, chapters[c.chapter], STATES.index(c.state), c.clean, c.quota),
            *(c.pending, c.needed, c.supply, c.missing),
            *(round(end) for end in (c.emrs_to_go.median, c.emrs_to_go.low, c.emrs_to_go.high)),
            *(c.corrections.suggested, c.corrections.accepted, c.corrections.added),
        ]
        for c in figures.coverage.codes
    ]
    return {"states": STATES, "rows": rows}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _figure(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _between(estimate: Estimate, digits: int = 0) -> str:
    return f"{estimate.low:,.{digits}f} and {estimate.high:,.{digits}f}"
