import numpy as np
import pytest

from simulator.experiments import network_speed
from simulator.experiments.network_speed import Timed, in_turns


def test_in_every_repeat_each_work_runs_once_after_all_were_warm():
    done: list[str] = []
    told: list[int] = []
    seconds = in_turns(
        2,
        {"ours": lambda: done.append("o"), "plain": lambda: done.append("p")},
        lambda: told.append(len(done)),
        times=3,
    )
    assert "".join(done) == "op" + "oooppp" + "oooppp"
    assert told == [8, 14]
    assert {name: took.shape for name, took in seconds.items()} == {"ours": (2,), "plain": (2,)}
    assert all((took > 0).all() for took in seconds.values())


def test_a_ratio_is_of_one_repeat():
    timed = Timed(np.array([1.0, 2.0]), np.array([10.0, 30.0]))
    assert timed.ratios.tolist() == [10.0, 15.0]


@pytest.fixture
def few(small, monkeypatch):
    monkeypatch.setattr(network_speed, "QUICK_EMRS", 5)
    monkeypatch.setattr(network_speed, "back_ends", lambda: ["torch"])


def test_every_part_is_timed_in_every_repeat(few):
    steps: list[tuple[int, int]] = []
    measured = network_speed.run(True, lambda *at: steps.append(at))
    assert steps == [(i, 6) for i in range(1, 7)]
    parts = [(row["part"], row["repeat"]) for row in measured.rows]
    expected = ("encoder, torch", "build graphs", "graph step", "end to end")
    presets = ("10,000 EMRs, preset paper", "10,000 EMRs, preset best")
    assert parts == [(part, repeat) for part in expected + presets for repeat in range(3)]
    rows = {(row["part"], row["repeat"]): row for row in measured.rows}
    for repeat in range(3):
        whole, step = rows["end to end", repeat], rows["graph step", repeat]
        assert whole["plain_seconds"] > 299 * step["plain_seconds"]
        assert whole["ratio"] == pytest.approx(
            whole["plain_seconds"] / whole["ours_seconds"], rel=0.05
        )
    goals = {goal["id"]: goal for goal in measured.goals}
    ratios = sorted(rows["graph step", repeat]["ratio"] for repeat in range(3))
    assert goals["graph_step"]["value"] == pytest.approx(ratios[1], abs=0.01)
    assert goals["graph_step"]["range"] == f"{ratios[0]:.2f} to {ratios[2]:.2f}"
    assert goals["encoder_cosine"]["value"] == pytest.approx(1, abs=1e-3)
