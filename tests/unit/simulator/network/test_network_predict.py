from simulator.experiments.network_predict import WARM_UP, Served, goals


def test_a_back_end_is_judged_by_its_slowest_emrs_once_warm_and_by_what_it_ticks():
    times = {"all": [9_000.0] * WARM_UP + [100.0] * 90 + [250.0] * 10}
    slower = {"all": [9_000.0] * WARM_UP + [100.0] * 90 + [350.0] * 10}
    served = {
        "torch": Served(slower, {("e1", "I10"), ("e1", "J18.9"), ("e2", "I10")}),
        "openvino": Served(times, {("e1", "I10"), ("e2", "I10"), ("e2", "E11.9")}),
    }
    found = {goal["id"]: (goal["value"], goal["met"]) for goal in goals(served)}
    assert found == {
        "p95_ms": (350.0, False),
        "p95_ms_openvino": (250.0, True),
        "ticked_alike_openvino": (0.5, False),
    }
