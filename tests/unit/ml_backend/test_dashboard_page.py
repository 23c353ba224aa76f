"""The page as HTML: hostile words, its policy, its size, charts and the heat strip."""

import base64
import hashlib
import html
import json
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from label_config.record import Coding
from ml_backend.dashboard import plots
from ml_backend.dashboard.charts import MOST_CELLS, Plane, ceiling, heat_strip, round_values
from ml_backend.dashboard.coverage import CodeFigures, CoverageFigures
from ml_backend.dashboard.estimate import Estimate
from ml_backend.dashboard.figures import ChapterFigures, Counted, Figures, read_figures
from ml_backend.dashboard.history import Point
from ml_backend.dashboard.page import policy, render, render_list
from ml_backend.dashboard.work import Corrections
from ml_backend.workspace import ProjectConfig, Workspace

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
HOSTILE = "</script><script>alert('1')</script> <img src=x onerror=alert(2)> & \"quoted\""
ROWS = re.compile(r'<script type="application/json" id="rows">(.*?)</script>', re.DOTALL)


def code(number: int, **changes: object) -> CodeFigures:
    values = {
        "code": f"A{number:05d}", "title": f"Disease {number}", "chapter": "A", "clean": 2,
        "quota": 5, "pending": 0.4, "needed": 2.6, "supply": 9.1, "state": "open",
        "scarcity": 0.2, "missing": 0.0, "emrs_to_go": Estimate(30.0, 20.0, 41.0),
        "corrections": Corrections(10, 8, 1),
    }  # fmt: skip
    return CodeFigures(**{**values, **changes})


def figures_of(codes: list[CodeFigures], title: str = "Ward 7", **changes: object) -> Figures:
    coverage = CoverageFigures(
        codes=tuple(codes),
        pool=1_000,
        annotated=100,
        set_aside=0,
        with_coders=5,
        emrs_to_go=Estimate(1141.0, 1027.0, 1301.0),
        bound=1_000.0,
        planned=1_050.0,
        past=((0, 300.0), (100, 200.0)),
        future=((100.0, Estimate(200.0, 200.0, 200.0)), (1401.0, Estimate(0.0, 0.0, 0.0))),
    )
    chapter = ChapterFigures("A", "First chapter", tuple(codes))
    counted = Counted(coverage, (chapter,), (), Corrections(), None)
    values = {
        "title": title, "quota": 5, "made": NOW, "counted": counted, "models": (), "jobs": (),
        "history": (), "emrs_per_day": None, "agreement": None,
    }  # fmt: skip
    return Figures(**{**values, **changes})


def test_hostile_words_stay_words_wherever_they_come_from():
    job = {"job": "j", "updated": NOW.isoformat(), "state": "failed", "error": HOSTILE}
    codes = [code(1, code=HOSTILE, title=HOSTILE, scarcity=1.0), code(2, state="met", clean=5)]
    page = render(figures_of(codes, HOSTILE, jobs=(job,)), notice=HOSTILE)
    assert "alert(" in page
    assert "<img" not in page
    assert page.count("<script") == 2 == page.count("</script>")
    assert html.unescape(page).count(HOSTILE) >= 6
    (rows,) = ROWS.findall(page)
    assert json.loads(rows)["rows"][0][:2] == [HOSTILE, HOSTILE]
    assert "<img" not in render_list([{"title": HOSTILE, "address": None}])


def test_members_stand_on_the_page_once_they_were_measured():
    member = {"member": HOSTILE, "suggested": 40, "added": 7, "acceptance": 0.85}
    members = {"at": NOW.isoformat(), "rows": [member]}
    page = render(figures_of([code(1)], members=members))
    assert "85\N{NO-BREAK SPACE}%</td><td>7<" in page
    assert "<img" not in page
    assert "What each member said" not in render(figures_of([code(1)]))


def test_the_page_names_no_other_address_and_needs_no_style_attribute():
    page = render(figures_of([code(1)]))
    assert not re.search(r"\b(?:src|href|action|style|on[a-z]+)=", page)
    assert not re.search(r"https?://|@import|url\(", page)


def test_the_policy_allows_exactly_the_style_and_the_script_of_the_page():
    page = render(figures_of([code(1)]))
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    for text in (style, script):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy()
    assert policy().startswith("default-src 'none'; ")
    assert "unsafe" not in policy()
    assert f'content="{policy()}"' in html.unescape(page)


def test_20_000_codes_are_in_the_page_once_each_and_in_under_4_megabytes():
    states = ("unreachable", "open", "met")
    codes = [
        code(n, title="A title of a usual length " * 3, state=states[n % 3]) for n in range(20_000)
    ]
    page = render(figures_of(codes))
    (rows,) = ROWS.findall(page)
    table = json.loads(rows)
    assert [row[0] for row in table["rows"]] == [f"A{n:05d}" for n in range(20_000)]
    assert [table["states"][row[3]] for row in table["rows"][:3]] == list(states)
    assert table["rows"][1][4:] == [2, 5, 0.4, 2.6, 9.1, 0.0, 30, 20, 41, 10, 8, 1]
    assert len(page.encode()) < 4_000_000
    assert page.count("<rect") < 200, "the strip must not grow with the codes"


def test_the_headline_says_the_four_figures():
    codes = [code(1), code(2, state="met", clean=5), code(3, state="unreachable", missing=1.5)]
    page = re.sub(r"<[^>]+>|\s+", " ", render(figures_of(codes)))
    page = re.sub(r" +", " ", page)
    assert "1,141 EMRs to go 80 % between 1,027 and 1,301" in page
    assert "1 of 2 reachable codes at quota 1 open" in page
    assert "1 codes the pool cannot fill" in page
    assert "– coder hours to go known after five timed EMRs" in page
    assert "at most 5.0 % more" in page


def test_a_project_that_has_just_begun_and_one_that_is_done_have_a_page(tmp_path: Path):
    workspace = Workspace.create(tmp_path / "w", ProjectConfig("Ward 7", ("I10", "E11.9"), quota=2))
    draw = random.Random(0)
    noisy = [
        Coding(f"e{n}", (draw.choice(("I10", "E11.9")),), "noisy", confidence=(0.9,))
        for n in range(20)
    ]
    workspace.write_noisy(noisy)
    begun = render(read_figures(workspace, now=NOW))
    assert "Nobody has coded yet." in begun
    workspace.write_clean([Coding(c.emr_id, c.codes, "clean") for c in noisy])
    done = read_figures(workspace, now=NOW)
    assert done.met == 2
    assert "nothing is left worth asking" in render(done)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 300, [0, 100, 200, 300]), (0, 1, [0, 0.5, 1]), (0, 0, [0]), (0, 7, [0, 2, 4, 6])],
)
def test_ticks_stand_at_round_values(low: float, high: float, expected: list[float]):
    assert round_values(low, high, 4 if high > 1 else 2) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 7.0, 99.0, 101.0, 54_321.0])
def test_an_axis_ends_at_its_last_tick_and_above_the_value(value: float):
    end = ceiling(value)
    assert end >= value
    assert round_values(0.0, end, 4)[-1] == pytest.approx(end)


def test_a_plane_puts_the_ends_of_its_axes_at_its_edges():
    plane = Plane(400, 200, (0.0, 10.0), (0.0, 1.0))
    assert plane.at(0.0, 0.0) == (52, 174)
    assert plane.at(10.0, 1.0) == (380, 14)
    assert plane.path([(0.0, 0.0), (10.0, 1.0)], close=True) == "M52.0,174.0 L380.0,14.0Z"


def test_the_burn_down_marks_today_and_the_end_of_the_forecast():
    chart = plots.burn_down(figures_of([code(1)]).coverage, width=760, height=270)
    assert {line.kind for line in chart.lines} == {"band", "ahead", "today", "past"}
    now, end = chart.dots
    assert now.text == "200 labels lacking today"
    assert end.text == "1,141 EMRs to go"
    assert now.x < end.x < chart.width - chart.right


def test_charts_that_have_too_little_to_show_are_left_out():
    assert plots.over_time([Point(NOW, 0)], NOW, width=400, height=200) is None
    assert plots.scores([], width=400, height=200) is None
    days = [Point(NOW - timedelta(days=n), 10 * (9 - n)) for n in range(9, -1, -1)]
    chart = plots.over_time(days, NOW, width=400, height=200)
    assert chart is not None
    assert chart.x_ticks[-1].label == "20 Mar"
    assert len(chart.x_ticks) <= 6


def test_a_strip_has_a_cell_per_code_and_shares_cells_in_a_long_chapter():
    codes = [code(1, state="met", clean=5), code(2), code(3, clean=0), code(4, state="unreachable")]
    few = heat_strip(ChapterFigures("A", "First", tuple(codes)), stretch=False)
    assert [cell.kind for cell in few] == ["met", "s2", "s0", "unreachable"]
    assert few[1].text == "A00002 Disease 2: 2 of 5"
    long = ChapterFigures("A", "First", tuple(code(n) for n in range(1_000)))
    cells = heat_strip(long, stretch=True)
    assert len(cells) <= MOST_CELLS
    assert cells[-1].x + cells[-1].width == pytest.approx(720)
    assert cells[0].text == "A00000 and 12 more: 0 met"
