import pytest

from label_config.record import EMR
from simulator.experiments.network_plain import PLAIN, PlainEncoder
from simulator.experiments.network_predict import WARM_UP, Served, goals

I10, E11 = ("e1", "I10"), ("e2", "E11.9")


def of_repeats(*slowest: float) -> list[dict[str, list[float]]]:
    return [{"all": [9_000.0] * WARM_UP + [100.0] * 90 + [ms] * 10} for ms in slowest]


def test_a_back_end_is_judged_by_its_slowest_emrs_once_warm_and_by_what_it_ticks():
    served = {
        "torch": Served(of_repeats(340.0, 360.0, 350.0), {I10, E11}, {I10, E11}),
        "openvino": Served(of_repeats(250.0, 310.0, 240.0), {I10, ("e2", "J18.9")}, {I10, E11}),
        PLAIN: Served([{"encoder": [5.0] * 9}]),
    }
    found = {goal["id"]: (goal["value"], goal["met"], goal.get("range")) for goal in goals(served)}
    assert found == {
        "p95_ms": (350.0, False, "340.00 to 360.00"),
        "p95_ms_openvino": (250.0, True, "240.00 to 310.00"),
        "ticked_alike_openvino": (pytest.approx(1 / 3, abs=1e-3), False, None),
        "network_alike_openvino": (1.0, True, None),
    }


def test_each_repeat_has_a_row_per_part():
    served, plain = Served(), PlainEncoder.__new__(PlainEncoder)
    plain.states = lambda text: text
    for _ in range(2):
        served.begin()
        for _ in range(WARM_UP + 2):
            served.encode(EMR("e", {"History": "seen"}), encoder=plain)
    rows = list(served.rows(PLAIN))
    assert [(row["encoder"], row["part"], row["repeat"]) for row in rows] == [
        (PLAIN, "encoder", 0),
        (PLAIN, "encoder", 1),
    ]
    assert all(0 <= row["p50_ms"] <= row["p95_ms"] for row in rows)
