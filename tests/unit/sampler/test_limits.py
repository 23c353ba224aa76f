import numpy as np
import pytest

from sampler.limits import limits_of, reachable
from sampler.synthetic import PoolConfig, make_pool


@pytest.fixture(scope="module")
def limited():
    pool = make_pool(PoolConfig(n_emrs=1500, n_codes=20, codes_per_emr=3.0, systematic=0.2), 5)
    target = reachable(pool, 12, 0.2)
    return pool, target, limits_of(pool, target)


def test_the_limits_stand_in_their_order(limited):
    limits = limited[2]
    assert limits.clairvoyant < limits.emrs
    assert limits.certified <= limits.emrs + 0.1
    assert limits.certified >= 0.97 * limits.emrs
    assert limits.certified <= limits.relaxed + 0.1


@pytest.mark.parametrize("seed", range(3))
def test_what_a_run_takes_beyond_the_limit_is_split_to_the_last_emr(limited, seed):
    pool, target, limits = limited
    order = np.random.default_rng(seed).permutation(1500)
    counts = np.cumsum(pool.clean[order].toarray(), axis=0)
    order = order[: int(np.argmax((counts >= target).all(axis=1))) + 1]
    parts = limits.split(pool.clean, target, order)
    assert order.size / limits.certified == pytest.approx(1 + sum(parts.values()), abs=1e-3)
    assert min(parts["overshoot"], parts["low"], parts["passed_over"]) >= 0


def test_luck_is_nothing_on_average(limited):
    pool, _, limits = limited
    luck = limits.worth.sum() - limits.price @ np.asarray(pool.clean.sum(axis=0)).ravel()
    assert abs(luck) < 0.05 * limits.worth.sum()


def test_only_codes_that_the_pool_surely_holds_are_reachable(limited):
    pool, _, _ = limited
    held = np.asarray(pool.clean.sum(axis=0)).ravel()
    for quota in (5, 40, 120):
        target = reachable(pool, quota, 0.2)
        assert set(target) <= {0.0, float(quota)}
        assert (held[target > 0] >= quota).mean() > 0.9
    assert reachable(pool, 10_000, 0.2).sum() == 0
