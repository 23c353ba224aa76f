from sampler.benchmark import Size, run
from sampler.long_run import Run


def test_the_benchmark_measures_growth_and_memory_and_judges_its_goals():
    sizes = (Size(1500, 100), Size(3000, 100))
    long_run = Run(emrs=1500, codes=60, quota=3, first_batch=20)
    told = []
    measured = run(True, lambda *at: told.append(at), sizes=sizes, long_run=long_run)
    *rows, ended = measured.rows
    assert [row["emrs"] for row in rows] == [1500, 3000]
    assert all(row["seconds"] > 0 and row["peak_mebibytes"] > 0 for row in rows)
    assert rows[1]["entries"] > 1.8 * rows[0]["entries"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    by_id = {goal["id"]: goal for goal in measured.goals}
    assert by_id["peak_mebibytes"]["value"] == rows[-1]["peak_mebibytes"]
    assert by_id["peak_mebibytes"]["met"] == (rows[-1]["peak_mebibytes"] <= 1024)
    assert by_id["run_slowest_batch_seconds"]["value"] == ended["seconds"]
    assert by_id["run_open_codes"]["met"]
