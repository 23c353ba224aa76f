import subprocess
import sys

import pytest

from label_config.errors import ConfigError
from simulator.benchmark import MEBIBYTE, Scale, run


@pytest.fixture(scope="module")
def measured():
    seen = []
    result = run(
        True, lambda done, total: seen.append((done, total)), sizes=(501, 700), processes=1
    )
    assert seen[-1] == (1_201, 1_201)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    return result


def test_a_row_per_size_tells_speed_and_memory(measured):
    assert [row["emrs"] for row in measured.rows] == [501, 700]
    for row in measured.rows:
        assert 0 < row["seconds_to_first"] < row["seconds"]
        assert row["emrs_per_second"] == pytest.approx(row["emrs"] / row["seconds"], rel=0.01)
        assert row["cpu_milliseconds"] > 0
        assert row["peak_mebibytes"] > 50
        assert set(measured.shown) <= row.keys()


def test_the_goals_are_speed_at_the_largest_size_and_growth_from_the_smallest(measured):
    first, last = measured.rows
    speed, growth = measured.goals
    assert speed["value"] == pytest.approx(last["emrs_per_second"])
    assert growth["value"] == pytest.approx(
        last["peak_mebibytes"] / first["peak_mebibytes"], abs=1e-3
    )


def test_what_a_process_starts_is_weighed_with_it():
    child = "import sys; block = b'1' * 150_000_000; print(len(block)); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        scale = Scale(process.pid)
        scale.start()
        scale.join(0.5)
        process.stdin.close()
    scale.join()
    assert 150_000_000 < scale.peak < 400 * MEBIBYTE


def test_a_size_of_one_chunk_is_refused():
    with pytest.raises(ConfigError, match="must be above 500"):
        run(True, sizes=(500,))
