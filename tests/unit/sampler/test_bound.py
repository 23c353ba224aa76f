from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from label_config.errors import ConfigError
from sampler import CoverageSampler
from sampler.bound import Bound, Programme, lower_bound
from sampler.select import PoolView


def make_view(seed: int, n_emrs: int = 80, n_codes: int = 6) -> PoolView:
    rng = np.random.default_rng(seed)
    probs = sp.random(n_emrs, n_codes, 0.3, "csr", np.float32, rng)
    probs.data = np.clip(probs.data, 0.05, 0.95)
    needed = rng.integers(0, 9, n_codes).astype(float)
    supply = np.bincount(probs.indices, probs.data, n_codes)
    return PoolView(
        probs=probs,
        noisy=probs,
        free=rng.random(n_emrs) < 0.9,
        needed=needed,
        scarcity=np.minimum(needed / np.maximum(supply, 1e-6), 1.0),
        order=rng.random(n_emrs),
        cost=rng.uniform(0.5, 2.0, n_emrs),
    )


@given(seed=st.integers(0, 5000), unlisted=st.floats(0, 0.05))
@settings(max_examples=25, deadline=None)
def test_the_bound_is_never_above_the_linear_programme_and_near_it(seed, unlisted):
    view, unlisted_K = make_view(seed), np.full(6, unlisted)
    exact = Programme.of(view, unlisted_K).solve()
    bound = lower_bound(view, unlisted_K=unlisted_K)
    assert bound.cost <= exact + 1e-5 * (1 + exact)
    assert bound.cost >= 0.95 * exact - 0.1


@given(seed=st.integers(0, 5000))
@settings(max_examples=20, deadline=None)
def test_any_prices_give_a_valid_bound(seed):
    programme = Programme.of(make_view(seed))
    prices = np.random.default_rng(seed).exponential(0.5, programme.needed.size)
    assert programme.dual(prices) <= programme.solve() + 1e-6


def test_the_programme_equals_a_dense_one():
    view, unlisted_K = make_view(1), np.full(6, 0.03)
    programme = Programme.of(view, unlisted_K)
    rows = np.flatnonzero(view.free)
    rows = rows[np.argsort(view.order[rows])]
    held = np.maximum(view.probs[rows][:, view.needed > 0].toarray(), 0.03)
    dense = linprog(programme.cost, A_ub=-held.T, b_ub=-programme.needed, bounds=(0, 1))
    assert programme.solve() == pytest.approx(dense.fun, rel=1e-6)


def test_nothing_needed_costs_nothing():
    bound = lower_bound(replace(make_view(0), needed=np.zeros(6)), plan=True)
    assert (bound.cost, bound.planned, bound.distance) == (0, 0, 0)


def test_a_need_beyond_the_pool_counts_with_what_the_pool_holds():
    probs = sp.csr_matrix(np.full((4, 1), 0.5, np.float32))
    view = replace(
        make_view(0, 4, 1),
        probs=probs,
        free=np.ones(4, bool),
        needed=np.array([99.0]),
        cost=np.ones(4),
    )
    assert lower_bound(view).cost == pytest.approx(4, abs=0.1)


def test_the_plan_of_a_project_is_near_its_bound(pool):
    bound = CoverageSampler(pool.noisy, 10, category=pool.category).bound()
    assert 0 <= bound.distance < 0.15
    assert bound.prices.shape == (20,)


def test_a_distance_without_a_plan_is_refused():
    with pytest.raises(ConfigError, match="plan=True"):
        _ = Bound(3.0, np.zeros(1)).distance
