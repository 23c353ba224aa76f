"""The page's figures against counts by hand."""

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from label_config.record import Coding
from ml_backend import sampling
from ml_backend.dashboard import history
from ml_backend.dashboard.audit import audit
from ml_backend.dashboard.coverage import code_rows
from ml_backend.dashboard.estimate import Estimate
from ml_backend.dashboard.figures import Figures, read_figures, stamp
from ml_backend.dashboard.work import Corrections, coder_figures, corrections_by_code, pace_of
from ml_backend.registry import Registry
from ml_backend.workspace import ProjectConfig, Workspace

TREE = """code,title,parent
I,Circulation,
E,Endocrine,
I10,Hypertension,I
I48,Atrial fibrillation,I
I63,Stroke,I
E11,Type 2 diabetes,E
E03,Hypothyroidism,E
E27,Adrenal disorder,E
"""
CODES = ("I10", "I48", "I63", "E11", "E03", "E27")
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


@pytest.fixture
def ward(tmp_path: Path) -> Workspace:
    """60 EMRs, two batches of which 20 EMRs are coded; E27 stands in one EMR only."""
    folder = tmp_path / "ward"
    config = ProjectConfig("Ward 7", CODES, quota=4, taxonomy="taxonomy.csv", project_id=5)
    workspace = Workspace.create(folder, config)
    (folder / "taxonomy.csv").write_text(TREE)
    draw = random.Random(3)
    noisy = [
        Coding(f"e{n}", codes, "noisy", confidence=tuple(0.9 for _ in codes))
        for n in range(60)
        for codes in [tuple(draw.sample(CODES[:5], draw.choice((1, 2, 3))))]
    ]
    noisy[7] = Coding("e7", ("E27",), "noisy", confidence=(0.9,))
    workspace.write_noisy(noisy)
    for start in (0, 12):
        workspace.add_batch([f"e{n}" for n in range(start, start + 12)], [""] * 12)
    workspace.write_clean(
        [
            Coding(
                f"e{n}",
                noisy[n].codes[:-1] or noisy[n].codes,
                "clean",
                coder=str(n % 2),
                seconds=60.0 + n,
                quality="unsure" if n == 11 else "clean",
                suggested=noisy[n].codes,
            )
            for n in range(20)
        ]
    )
    return workspace


@pytest.fixture
def figures(ward: Workspace) -> Figures:
    return read_figures(ward, now=NOW)


def test_every_count_equals_a_count_by_hand(ward: Workspace, figures: Figures):
    usable = [c for c in ward.read_clean() if c.quality == "clean"]
    by_hand = Counter(code for coding in usable for code in coding.codes)
    assert {c.code: c.clean for c in figures.coverage.codes} == {c: by_hand[c] for c in CODES}
    assert (figures.coverage.annotated, figures.coverage.set_aside) == (19, 1)
    assert (figures.coverage.pool, figures.coverage.with_coders) == (60, 4)
    assert figures.met == sum(by_hand[c] >= 4 for c in CODES)
    assert [c.code for c in figures.coverage.codes if c.state == "unreachable"] == ["E27"]
    assert figures.met + figures.coverage.count("open") == figures.reachable == 5


def test_the_page_the_command_and_the_sampler_say_the_same(ward: Workspace, figures: Figures):
    sampler = sampling.coverage(ward)
    rows = code_rows(ward, sampler.status())
    assert [c.row() for c in figures.coverage.codes] == rows
    forecast, bound = sampler.forecast(), sampler.bound()
    assert figures.coverage.emrs_to_go.median == forecast.emrs.median
    assert figures.coverage.emrs_to_go.high == forecast.emrs.high
    assert figures.coverage.bound == pytest.approx(bound.cost)
    assert figures.coverage.planned == pytest.approx(bound.planned)


def test_the_burn_down_starts_at_all_labels_and_ends_at_what_lacks_today(
    ward: Workspace, figures: Figures
):
    past, future = figures.coverage.past, figures.coverage.future
    lacking = sum(
        max(c.quota - c.clean, 0) for c in figures.coverage.codes if c.state != "unreachable"
    )
    assert past[0] == (0, 4 * 5)
    assert past[-1] == (19, lacking)
    assert all(later[1] <= earlier[1] for earlier, later in pairwise(past))
    assert future[0] == (19.0, Estimate(lacking, lacking, lacking))
    assert future[-1][0] == 19 + figures.coverage.emrs_to_go.high
    assert future[-1][1].high == pytest.approx(0.0, abs=1e-6)
    assert all(left.low <= left.median <= left.high for _, left in future)


def test_the_burn_down_goes_in_the_order_in_which_emrs_were_chosen(ward: Workspace):
    first = read_figures(ward, now=NOW).coverage.past
    ward.write_clean(reversed(ward.read_clean()))
    assert read_figures(ward, now=NOW).coverage.past == first


def test_a_code_is_not_met_before_as_many_emrs_as_it_lacks(figures: Figures):
    for code in figures.coverage.codes:
        if code.state == "open":
            assert code.quota - code.clean <= code.emrs_to_go.low <= code.emrs_to_go.high
        else:
            assert code.emrs_to_go == Estimate(0.0, 0.0, 0.0)


def test_chapters_hold_their_codes_in_the_order_of_the_code_set(figures: Figures):
    circulation, endocrine = figures.counted.chapters
    assert (circulation.title, len(circulation.codes)) == ("Circulation", 3)
    assert endocrine.reachable == 2
    assert endocrine.codes[-1].code == "E27"


def test_suggestions_are_kept_removed_or_added():
    codings = [
        Coding("e1", ("I10", "E11"), "clean", suggested=("I10", "I63")),
        Coding("e2", ("I10",), "clean", suggested=("I10",)),
        Coding("e3", ("I48",), "clean"),
    ]
    by_code = corrections_by_code(codings)
    assert by_code == {
        "I10": Corrections(2, 2, 0), "I63": Corrections(1, 0, 0), "E11": Corrections(0, 0, 1)
    }  # fmt: skip
    assert (by_code["I63"].removed, by_code["I63"].acceptance) == (1, 0.0)
    assert (by_code["E11"].acceptance, by_code["E11"].correction) == (None, 1.0)


def test_a_screen_left_open_over_lunch_does_not_slow_a_coder_down():
    codings = [Coding(f"e{n}", (), "clean", coder="1", seconds=60.0) for n in range(9)]
    lunch = Coding("e9", (), "clean", coder="1", seconds=5_000.0)
    (coder,) = coder_figures([*codings, lunch])
    assert coder.median_seconds == 60.0
    assert coder.emrs_per_hour == pytest.approx(3600 * 10 / (9 * 60 + 4 * 60))
    pace = pace_of([*codings, lunch])
    assert pace is not None
    assert pace.seconds == pytest.approx(78.0)
    assert pace_of(codings[:4]) is None


def test_coders_without_times_have_no_pace_but_count():
    (coder,) = coder_figures([Coding("e1", (), "clean")])
    assert (coder.coder, coder.emrs, coder.emrs_per_hour) == ("unknown", 1, None)


def test_hours_follow_from_emrs_and_seconds(figures: Figures):
    seconds = [60.0 + n for n in range(20)]
    hours = figures.hours_to_go
    assert hours is not None
    expected = figures.coverage.emrs_to_go.median * sum(seconds) / 20 / 3600
    assert hours.median == pytest.approx(expected)
    assert hours.low < hours.median < hours.high


def test_an_estimate_times_an_uncertain_factor_is_wider():
    sure = Estimate(100.0, 90.0, 120.0).times(2.0)
    assert (sure.median, sure.low, sure.high) == pytest.approx((200.0, 180.0, 240.0))
    unsure = Estimate(100.0, 90.0, 120.0).times(2.0, relative_error=0.1)
    assert unsure.low < sure.low < sure.high < unsure.high
    assert Estimate(0.0, 0.0, 0.0).times(3.0, relative_error=0.5) == Estimate(0.0, 0.0, 0.0)


def test_the_history_holds_a_line_per_change_and_survives_a_cut_line(ward: Workspace):
    clean = ward.read_clean()
    assert history.note(ward, clean, at=NOW)
    assert not history.note(ward, clean, at=NOW + timedelta(hours=1))
    with (ward.folder / history.FILE).open("a") as file:
        file.write('{"at": "2026')
    assert [p.annotated for p in history.read_history(ward)][-1] == 19


def test_the_pace_is_that_of_the_last_two_weeks():
    day = timedelta(days=1)
    points = [history.Point(NOW - 30 * day, 0), history.Point(NOW - 20 * day, 500)]
    points.append(history.Point(NOW - day, 640))
    assert history.pace(points, NOW) == pytest.approx(140 / 14)
    assert history.pace(points[:1], NOW) is None
    assert history.pace([], NOW) is None
    today = [history.Point(NOW - timedelta(hours=2), 0), history.Point(NOW, 25)]
    assert history.pace(today, NOW) == 25, "two hours of work are not 300 EMRs a day"


def test_model_versions_show_which_one_serves_and_hide_scores_that_are_none(ward: Workspace):
    registry = Registry(ward.models_folder)
    for version, scores in (("v1-a", {"micro_f1": float("nan")}), ("v2-b", {"micro_f1": 0.7})):
        registry.add(ward.models_folder / version, version, scores)
    registry.promote("v2-b")
    first, second = read_figures(ward, now=NOW).models
    assert (first.micro_f1, first.serves) == (None, False)
    assert (second.micro_f1, second.serves) == (0.7, True)


def test_the_stamp_changes_with_whatever_is_counted(ward: Workspace):
    before = stamp(ward)
    assert stamp(ward) == before
    ward.add_batch(["e40"], [""])
    batched = stamp(ward)
    ward.write_clean([])
    assert len({before, batched, stamp(ward)}) == 3


def test_an_audit_of_true_counts_finds_nothing(ward: Workspace):
    found = audit(ward)
    assert found.mismatches == ()
    assert found.counts == {
        "pool": 60, "annotated": 19, "unsure or bad": 1, "with coders": 4, "free": 36
    }  # fmt: skip
    (code,) = found.unreachable
    assert (code.code, code.clean, code.quota, code.listed) == ("E27", 1, 4, 0)
    assert code.missing == 3.0


def test_an_audit_names_what_fits_nowhere(ward: Workspace, monkeypatch: pytest.MonkeyPatch):
    clean = [*ward.read_clean(), Coding("x1", ("I10",), "clean")]
    clean[0] = Coding("e0", ("I10", "Z99"), "clean")
    ward.write_clean(clean)
    ward.add_batch(["e3"], [""])
    true = sampling.coverage(ward)
    ward.write_clean(clean[2:])
    monkeypatch.setattr(sampling, "coverage", lambda _: true)
    found = audit(ward)
    assert found.outside_pool == ("x1",)
    assert found.chosen_twice == ("e3",)
    assert {m.what for m in found.mismatches} >= {"I10", "EMRs with coders"}
    ward.write_clean(clean)
    assert audit(ward).outside_set == {"Z99": 1}


def test_batches_written_before_dates_were_kept_do_no_harm(ward: Workspace):
    path = ward.folder / "batches" / "b0001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "made": ""}))
    assert read_figures(ward, now=NOW).history == ()
