from functools import partial

import pytest

from simulator.experiments import network_fig6


def test_effort_and_noise_are_compared_over_the_whole_grid():
    cells = {(30, 0.1): 0.5, (90, 0.1): 0.7, (30, 0.4): 0.3, (90, 0.4): 0.6}
    rows = [
        {"noise": noise, "clean": clean, "seed": seed, "micro_f1": f1 + seed / 100}
        for seed in (1, 2)
        for (clean, noise), f1 in cells.items()
    ]
    effort, noise = network_fig6.goals(rows)
    assert effort["value"] == pytest.approx(0.25) and effort["met"]
    assert noise["value"] == pytest.approx(-0.15) and noise["met"] and "interval" in noise


def test_fig_6_has_a_row_per_case(small, monkeypatch, tmp_path):
    grid = network_fig6.Grid(pool=20, unseen=12, efforts=(11, 15), noise=(0.1, 0.5))
    monkeypatch.setattr(network_fig6, "QUICK", grid)
    measured = network_fig6.run(True, (5,))
    cases = [(row["noise"], row["clean"]) for row in measured.rows]
    assert cases == [(0.1, 11), (0.1, 15), (0.5, 11), (0.5, 15)]
    measured.figure(tmp_path / "fig6.svg")
    assert (tmp_path / "fig6.svg").stat().st_size > 1000


def test_fig_6_goes_on_after_it_was_stopped(small, monkeypatch, begun_again):
    grid = network_fig6.Grid(pool=20, unseen=12, efforts=(11, 15), noise=(0.1, 0.5))
    monkeypatch.setattr(network_fig6, "QUICK", grid)
    made = begun_again(partial(network_fig6.run, True, (5,)), after=2)
    assert [key["row"] for key in made] == ["data", "11 clean", "15 clean"]
