from functools import partial

import pytest

from simulator.experiments import network_amounts
from simulator.experiments.network_amounts import Amounts


@pytest.fixture
def few(small, monkeypatch):
    amounts = Amounts(noisy=(0, 6, 12), clean=(11, 14), unseen=10)
    monkeypatch.setattr(network_amounts, "QUICK", amounts)


def test_every_number_of_noisy_emrs_stands_beside_every_number_of_clean_ones(few, tmp_path):
    measured = network_amounts.run(True, (5,))
    assert [(row["clean"], row["noisy"], row["raw"]) for row in measured.rows] == [
        (clean, *others) for clean in (11, 14) for others in ((0, 0), (6, 0), (12, 0), (0, 12))
    ]
    assert len(measured.findings) == 2
    measured.figure(tmp_path / "amounts.png")
    assert (tmp_path / "amounts.png").read_bytes().startswith(b"\x89PNG")


def test_amounts_go_on_after_they_were_stopped(few, begun_again):
    made = begun_again(partial(network_amounts.run, True, (5,)), after=2)
    assert [key["row"] for key in made] == [
        f"{clean} clean, {others}"
        for clean in (11, 14)
        for others in ("0 noisy, 0 raw", "6 noisy, 0 raw", "12 noisy, 0 raw", "0 noisy, 12 raw")
    ][2:]


def test_a_gain_is_measured_against_the_clean_emrs_alone():
    rows = [
        {"clean": clean, "noisy": noisy, "raw": raw, "seed": seed, "micro_f1": f1 + seed / 10}
        for seed in (1, 2)
        for clean, noisy, raw, f1 in (
            *((10, 0, 0, 0.3), (10, 50, 0, 0.5), (10, 0, 50, 0.25)),
            *((90, 0, 0, 0.6), (90, 50, 0, 0.65), (90, 0, 50, 0.6)),
        )
    ]
    values = {goal["id"]: (goal["value"], goal["met"]) for goal in network_amounts.goals(rows)}
    assert values == {
        "50 noisy EMRs beside 10 clean": (0.2, True),
        "50 raw EMRs beside 10 clean": (-0.05, False),
        "50 noisy EMRs beside 90 clean": (0.05, True),
        "50 raw EMRs beside 90 clean": (0.0, True),
    }
    assert "Beside 10 clean EMRs, of noisy ones 50 add +0.200" in network_amounts.findings(rows)[0]
