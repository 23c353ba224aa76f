from sampler.benchmark import Size, run


def test_the_benchmark_measures_growth_and_memory_and_judges_its_goals():
    measured = run(True, sizes=(Size(1500, 100), Size(3000, 100)))
    rows, goals = measured.rows, measured.goals
    assert [row["emrs"] for row in rows] == [1500, 3000]
    assert all(row["seconds"] > 0 and row["peak_mebibytes"] > 0 for row in rows)
    assert rows[1]["entries"] > 1.8 * rows[0]["entries"]
    assert {goal["id"] for goal in goals} == {"batch_seconds", "peak_mebibytes", "growth_exponent"}
    peak = next(goal for goal in goals if goal["id"] == "peak_mebibytes")
    assert peak["value"] == rows[-1]["peak_mebibytes"]
    assert peak["met"] == (peak["value"] <= 1024)
