from functools import partial

import pytest

from simulator.experiments import network_transfer


def test_a_change_elsewhere_is_against_the_network_trained_there():
    pairs = {("a", "a"): 0.8, ("a", "b"): 0.5, ("b", "b"): 0.9, ("b", "a"): 0.7}
    rows = [{"trained": t, "judged": j, "micro_f1": f1} for (t, j), f1 in pairs.items()]
    changes = [row["change"] for row in network_transfer.with_changes(rows)]
    assert changes == pytest.approx([0, -0.4, 0, -0.1])


def test_transfer_judges_every_network_everywhere(small, monkeypatch):
    monkeypatch.setattr(network_transfer, "QUICK_SIZES", (0, 6, 12, 10))
    measured = network_transfer.run(True, (5,))
    pairs = {(row["trained"], row["judged"]) for row in measured.rows}
    assert len(pairs) == len(measured.rows) == len(network_transfer.PLACES) ** 2
    assert all(row["change"] == 0 for row in measured.rows if row["trained"] == row["judged"])


def test_transfer_goes_on_after_it_was_stopped(small, monkeypatch, begun_again):
    monkeypatch.setattr(network_transfer, "QUICK_SIZES", (0, 6, 12, 10))
    monkeypatch.delitem(network_transfer.PLACES, "aph, bank A")
    made = begun_again(partial(network_transfer.run, True, (5,)))
    assert [key["row"] for key in made] == ["trained at hph, bank B"]
