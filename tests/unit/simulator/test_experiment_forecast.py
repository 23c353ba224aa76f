import json
from functools import partial

import pytest

from sampler.synthetic import PoolConfig, make_pool
from simulator.experiments import forecast as experiment


def test_a_project_is_forecast_at_its_moments_and_judged_by_its_end():
    pool = make_pool(PoolConfig(n_emrs=600, n_codes=16, codes_per_emr=3.0), 1)
    rows = experiment.play(pool, 25, seed=0)
    assert [row["moment"] for row in rows] == list(experiment.MOMENTS)
    to_go = [row["emrs"] for row in rows]
    assert to_go == sorted(to_go, reverse=True)
    assert to_go[-1] > 0
    for row in rows:
        assert row["low"] <= row["median"] <= row["high"]
        assert row["held"] == (row["low"] <= row["emrs"] <= row["high"])


def test_moments_of_a_small_project_are_what_they_are_called():
    pool = make_pool(PoolConfig(n_emrs=600, n_codes=16, codes_per_emr=3.0), 1)
    for row in experiment.play(pool, 5, seed=0):
        moment = experiment.MOMENTS[row["moment"]]
        assert moment <= row["share"] < moment + 0.15
        assert row["emrs"] > 0


@pytest.mark.filterwarnings("error")
def test_a_moment_that_no_project_came_to_has_no_row():
    assert experiment._summary([], "start", 1) == []


def test_projects_are_drawn_by_seed():
    one, again, other = (experiment.draw_project(seed) for seed in (1, 1, 2))
    assert one[0] == again[0]
    assert (one[1].noisy != again[1].noisy).nnz == 0
    assert one[0] != other[0]


def test_goals_are_shares_of_the_rows():
    rows = [
        {"moment": moment, "seed": seed, "projects": 5, "held": held}
        for seed, held in enumerate((3, 5))
        for moment in experiment.MOMENTS
    ]
    goals = {g["id"]: g for g in experiment.goals(rows)}
    assert goals["projects"]["value"] == 10
    assert goals["cover, all"]["value"] == pytest.approx(0.8)
    assert goals["cover, a third"]["met"]
    json.dumps(list(goals.values()))


@pytest.fixture
def small(monkeypatch):
    """Two projects a seed, of few EMRs."""

    def project(seed):
        about = {"quota": 8, "codes": 8}
        return about, make_pool(PoolConfig(n_emrs=200, n_codes=8, codes_per_emr=2.0), seed)

    monkeypatch.setattr(experiment, "draw_project", project)
    monkeypatch.setattr(experiment, "PER_SEED_QUICK", 2)
    monkeypatch.setattr(experiment, "DRAWS", 10)


def test_a_run_sums_up_each_moment_of_each_seed(small):
    once, again = (experiment.run(True, (3, 4)) for _ in range(2))
    assert once == again
    assert len(once.rows) == 2 * len(experiment.MOMENTS)
    assert all(0 <= row["held"] <= row["projects"] <= 2 for row in once.rows)


def test_it_goes_on_after_it_was_stopped(small, begun_again):
    made = begun_again(partial(experiment.run, True, (3, 4)), after=3)
    assert made == [{"seed": 4, "project": 1}]
