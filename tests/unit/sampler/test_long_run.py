import pytest

from label_config.errors import ConfigError
from sampler.long_run import Run, run_to_the_end


def test_a_run_ends_with_every_code_met_or_known_to_be_out_of_reach():
    batches = []
    row = run_to_the_end(
        Run(emrs=1500, codes=80, quota=4, first_batch=20, growth=1.5, largest=60),
        tell=lambda *batch: batches.append(batch),
    )
    assert row["open_codes"] == 0
    assert row["met_codes"] + row["unreachable_codes"] == 80
    assert [number for number, _, _ in batches] == list(range(1, row["batches"] + 1))
    assert sum(size for _, size, _ in batches) == row["annotated"] < 1500
    assert [size for _, size, _ in batches[:2]] == [20, 30]
    assert max(seconds for *_, seconds in batches) <= row["seconds"] + 1e-4
    assert row["peak_mebibytes"] > 20


def test_a_first_batch_above_the_largest_is_refused():
    with pytest.raises(ConfigError, match="first_batch <= largest"):
        Run(emrs=10, codes=8, quota=1, first_batch=20, largest=10)
