import json
from functools import partial

import numpy as np
import pytest

from label_config.errors import DataError
from label_config.measured import goal
from sampler.limits import limits_of, reachable
from sampler.synthetic import PoolConfig, make_pool
from simulator.experiments import sampler as experiment


@pytest.fixture(scope="module")
def played():
    setting = experiment.Setting(20, 8, 3.0)
    pool = make_pool(PoolConfig(n_emrs=800, n_codes=20, codes_per_emr=3.0), 5)
    rows = experiment.play_all(pool, setting, seed=0)
    about = {"data": "synthetic", "codes": 50, "quota": 35, "noise": 0.3, "systematic": 0.0}
    return pool, [about | row for row in rows]


def test_every_policy_reaches_every_reachable_code(played):
    pool, rows = played
    target = reachable(pool, 8, experiment.MIN_YIELD)
    limits = limits_of(pool, target)
    assert len(rows) == len(experiment.RULES) + len(experiment.LEARNERS)
    for name in experiment.RULES:
        order = experiment.play_rule(pool, target, name, 50, 0)
        assert_ends_where_met(pool, target, order)
    for learner in experiment.LEARNERS.values():
        order, _ = experiment.play(pool, target, learner, 50, 0, limits)
        assert_ends_where_met(pool, target, order)


def assert_ends_where_met(pool, target, order):
    assert np.unique(order).size == order.size
    counts = np.cumsum(pool.clean[order].toarray(), axis=0)
    assert (counts[-1] >= target).all()
    assert (counts[-2] < target).any()


def test_ours_needs_far_fewer_emrs_than_chance(played):
    _, rows = played
    emrs = {row["policy"]: row["emrs"] for row in rows}
    assert emrs[experiment.OURS] < 0.5 * emrs["random"]
    assert emrs[experiment.OURS] < emrs[experiment.STRICT]


def test_goals_are_medians_of_the_rows(played):
    _, rows = played
    goals = {g["id"]: g for g in experiment.goals(rows)}
    emrs = {row["policy"]: row["emrs"] for row in rows}
    expected = emrs[experiment.OURS] / emrs[experiment.STRICT]
    assert goals["emrs_to_strict"]["value"] == pytest.approx(expected, abs=1e-3)
    assert not goals["emrs_to_limit_systematic"]["met"]  # no such pool was played
    json.dumps(list(goals.values()))


def test_a_run_is_the_same_for_the_same_seeds(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "QUICK", (experiment.Setting(12, 4, 3.0),))
    monkeypatch.setattr(experiment, "N_EMRS", 400)
    cases = tmp_path / "cases.jsonl"
    names = ["A01.0", "A01.1", "B20", "C34.1"]
    lines = [json.dumps({"codes": [names[i % 4], names[i % 3]]}) for i in range(200)]
    cases.write_text("\n".join(lines))
    steps = []
    once = experiment.run(True, (3, 4, 5), lambda *at: steps.append(at), data=cases)
    again = experiment.run(True, (3, 4, 5), data=cases)
    assert once.seeds == (3, 4)
    assert steps == [(i, 4) for i in range(1, 5)]
    assert once.data_hash == again.data_hash
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in once.rows]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in again.rows]
    assert {row["data"] for row in once.rows} == {"synthetic", "real"}


def test_a_text_may_hold_other_ends_of_lines(tmp_path):
    case = json.dumps({"text": "one\u2028two\u0085three", "codes": ["I10"]}, ensure_ascii=False)
    (tmp_path / "cases.jsonl").write_text(f"{case}\n" * 12, "utf-8")
    clean, _ = experiment._read_codes(tmp_path / "cases.jsonl")
    assert clean.shape == (12, 1)


def test_cases_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        experiment.run(True, (0,), data=tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}')
    with pytest.raises(DataError, match='list "codes"'):
        experiment.run(True, (0,), data=tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        ("<= 0.5", 0.5, True),
        ("<= 0.5", 0.6, False),
        (">= 0.9", 0.95, True),
        ("0.75 to 0.85", 0.9, False),
        ("0.75 to 0.85", 0.8, True),
        ("<= 0.5", np.nan, False),
    ],
)
def test_goals_are_judged_by_their_target(target, value, met):
    assert goal("x", target, value)["met"] is met


def test_it_goes_on_after_it_was_stopped(monkeypatch, begun_again):
    monkeypatch.setattr(experiment, "QUICK", (experiment.Setting(12, 4, 3.0),))
    monkeypatch.setattr(experiment, "N_EMRS", 300)
    made = begun_again(partial(experiment.run, True, (3, 4)), noise=("seconds",))
    assert [key["seed"] for key in made] == [4]
