import numpy as np
import pytest

from label_config.errors import ConfigError, DataError
from sampler.confusion import present
from sampler.synthetic import PoolConfig, make_pool, pool_from_clean


def right_share(noise: float, systematic: float = 0.0) -> float:
    pool = make_pool(PoolConfig(n_emrs=3000, noise=noise, systematic=systematic), 1)
    return float(present(pool.noisy, pool.clean).mean())


def test_the_same_seed_gives_the_same_pool_and_another_seed_another():
    one, again, other = (make_pool(PoolConfig(n_emrs=300), seed) for seed in (1, 1, 2))
    assert (one.noisy != again.noisy).nnz == 0
    assert (one.clean != again.clean).nnz == 0
    assert (one.noisy != other.noisy).nnz > 0


def test_codes_per_emr_come_near_what_was_asked():
    pool = make_pool(PoolConfig(n_emrs=4000, n_codes=100, codes_per_emr=4.9), 0)
    assert pool.clean.nnz / 4000 == pytest.approx(4.9, rel=0.1)


def test_noise_and_systematic_error_make_listings_wrong():
    assert right_share(0.0) == 1.0
    assert right_share(0.1) > right_share(0.3) > right_share(0.5) > 0.4
    assert right_share(0.3, systematic=0.3) < right_share(0.3) - 0.1


def test_a_right_listing_is_surer_than_a_wrong_one():
    pool = make_pool(PoolConfig(n_emrs=3000, noise=0.4), 2)
    right = present(pool.noisy, pool.clean)
    assert pool.noisy.data[right].mean() > pool.noisy.data[~right].mean() + 0.1


def test_the_oracle_is_calibrated():
    pool = make_pool(PoolConfig(n_emrs=8000, noise=0.4, systematic=0.2), 3)
    right = present(pool.oracle, pool.clean)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        held = (pool.oracle.data >= low) & (pool.oracle.data < low + 0.2)
        assert right[held].mean() == pytest.approx(pool.oracle.data[held].mean(), abs=0.03)


def test_errors_on_real_co_occurrence_leave_the_clean_codes_as_they_are():
    clean = make_pool(PoolConfig(n_emrs=200, n_codes=9), 0).clean
    category = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3])
    pool = pool_from_clean(clean, category, PoolConfig(noise=0.5), 1)
    assert (pool.clean != clean).nnz == 0
    assert pool.noisy.shape == clean.shape
    with pytest.raises(DataError, match="ascend"):
        pool_from_clean(clean, category[::-1], PoolConfig(), 1)


def test_a_pool_without_siblings_is_refused():
    with pytest.raises(ConfigError, match="category"):
        PoolConfig(n_codes=1)
