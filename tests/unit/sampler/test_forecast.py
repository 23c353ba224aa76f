import numpy as np
import pytest

from label_config.errors import ConfigError
from sampler import CoverageSampler, ForecastConfig
from sampler.synthetic import PoolConfig, make_pool


def test_the_forecast_holds_the_outcome_of_most_projects():
    held, errors = 0, []
    for seed in range(12):
        pool = make_pool(PoolConfig(n_emrs=1500, n_codes=20, codes_per_emr=3.0), seed)
        sampler = CoverageSampler(pool.noisy, 15, category=pool.category)
        for _ in range(2):
            batch = sampler.query(20)
            sampler.update(batch.rows, pool.labels(batch.rows))
        forecast = sampler.forecast(config=ForecastConfig(draws=40, batch_size=5))
        before = sampler.clean.rows.size
        while not sampler.done:
            batch = sampler.query(5)
            sampler.update(batch.rows, pool.labels(batch.rows))
        to_go = sampler.clean.rows.size - before
        held += forecast.emrs.low <= to_go <= forecast.emrs.high
        errors.append(forecast.emrs.median / to_go - 1)
    assert held >= 7
    assert abs(np.median(errors)) < 0.15


def test_the_same_seed_gives_the_same_forecast(pool):
    sampler = CoverageSampler(pool.noisy, 10, category=pool.category)
    one, again, other = (sampler.forecast(seed=seed) for seed in (1, 1, 2))
    assert one.emrs == again.emrs
    assert one.emrs_per_code.low.tolist() == again.emrs_per_code.low.tolist()
    assert one.emrs != other.emrs


def test_pending_emrs_are_still_to_be_annotated(pool):
    sampler = CoverageSampler(pool.noisy, 10)
    free = sampler.forecast().emrs.median
    batch = sampler.query(20)
    assert sampler.forecast().emrs.median == pytest.approx(free, rel=0.1)
    sampler.update(batch.rows, pool.labels(batch.rows))
    assert sampler.forecast().emrs.median < free - 10


def test_futures_shrink_their_batches_as_the_sampler_does(pool):
    whole, shrinking = (
        CoverageSampler(pool.noisy, 5, share_left=share).forecast(
            config=ForecastConfig(batch_size=40)
        )
        for share in (1.0, 0.25)
    )
    assert shrinking.emrs.median < whole.emrs.median


def test_an_interval_is_never_narrower_than_its_least_spread(pool):
    emrs = CoverageSampler(pool.noisy, 10).forecast(config=ForecastConfig(least_spread=0.5)).emrs
    assert emrs.low <= emrs.median / 2
    assert emrs.high >= emrs.median * 1.5


def test_a_met_code_has_nothing_to_go_and_the_last_code_ends_the_project(pool):
    sampler = CoverageSampler(pool.noisy, np.where(np.arange(20) == 3, 1, 10))
    sampler.update([0], [[3]])
    forecast = sampler.forecast()
    assert forecast.emrs_per_code.high[3] == 0
    assert forecast.emrs_per_code.median.max() <= forecast.emrs.median
    assert (forecast.emrs_per_code.low <= forecast.emrs_per_code.high).all()


def test_minutes_follow_the_minutes_given(pool):
    sampler = CoverageSampler(pool.noisy, 10, minutes=np.full(600, 7.0))
    forecast = sampler.forecast()
    assert forecast.minutes.median == pytest.approx(7 * forecast.emrs.median)


def test_a_finished_project_has_nothing_to_go():
    pool = make_pool(PoolConfig(n_emrs=50, n_codes=8, codes_per_emr=2.0), 0)
    assert CoverageSampler(pool.noisy, 0).forecast().emrs.high == 0


def test_too_few_draws_are_refused():
    with pytest.raises(ConfigError, match="at least 10"):
        ForecastConfig(draws=3)
