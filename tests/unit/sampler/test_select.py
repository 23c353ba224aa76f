from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.keys import random_order
from sampler.policies import POLICIES
from sampler.select import PoolView, entries, scarcity_greedy, sum_before

every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def make_view(seed: int, *, n_emrs: int = 60, n_codes: int = 8, **changes) -> PoolView:
    rng = np.random.default_rng(seed)
    probs = sp.random(n_emrs, n_codes, 0.3, "csr", np.float32, rng)
    probs.data = np.round(np.clip(probs.data, 0.05, 0.95) * 64) / 64
    needed = rng.integers(0, 6, n_codes).astype(float)
    supply = np.bincount(probs.indices, probs.data, n_codes)
    view = PoolView(
        probs=probs,
        noisy=probs,
        free=rng.random(n_emrs) < 0.8,
        needed=needed,
        scarcity=np.minimum(needed / np.maximum(supply, 1e-6), 1.0),
        order=random_order(np.arange(n_emrs), seed),
        cost=np.ones(n_emrs),
    )
    return replace(view, **changes)


def true_greedy(view: PoolView, size: int) -> float:
    """Value reached by picking the best EMR one at a time."""
    dense, left, free = view.probs.toarray(), view.needed.copy(), view.free.copy()
    value = 0.0
    for _ in range(size):
        adds = np.minimum(dense, left) * (left > 0)
        gain = np.where(free & (adds.sum(1) >= view.min_yield), adds @ view.scarcity, -1.0)
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        value += gain[best]
        left, free[best] = np.maximum(left - dense[best], 0), False
    return value


def value_of(view: PoolView, rows: np.ndarray) -> float:
    held = np.asarray(view.probs[rows].sum(0)).ravel()
    return float(np.minimum(held, view.needed) @ view.scarcity)


@every_policy
@given(seed=st.integers(0, 10_000), size=st.integers(1, 80))
@settings(max_examples=30, deadline=None)
def test_a_batch_holds_free_emrs_once_each_and_no_more_than_asked(policy, seed, size):
    view = make_view(seed)
    rows = policy(view, size).rows
    assert len(set(rows.tolist())) == rows.size <= size
    assert view.free[rows].all()


@every_policy
def test_the_same_seed_gives_the_same_batch(policy):
    first, again = policy(make_view(3), 20), policy(make_view(3), 20)
    assert first.rows.tolist() == again.rows.tolist()
    assert first.gain.tolist() == again.gain.tolist()


@every_policy
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_shuffled_rows_give_the_same_batch(policy, seed):
    view = make_view(seed)
    shuffle = np.random.default_rng(seed).permutation(view.free.size)
    shuffled = replace(
        view,
        probs=view.probs[shuffle],
        noisy=view.noisy[shuffle],
        free=view.free[shuffle],
        order=view.order[shuffle],
    )
    assert shuffle[policy(shuffled, 15).rows].tolist() == policy(view, 15).rows.tolist()


@every_policy
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_batch_holds_one_emr_of_a_group(policy, seed):
    view = make_view(seed, group=np.arange(60) // 5)
    groups = view.group[policy(view, 60).rows]
    assert np.unique(groups).size == groups.size


@every_policy
def test_an_empty_pool_gives_an_empty_batch(policy):
    assert policy(make_view(1, n_emrs=0, free=np.zeros(0, bool)), 5).rows.size == 0


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "random"])
def test_nothing_is_chosen_once_nothing_is_needed(name):
    view = make_view(2, needed=np.zeros(8), scarcity=np.zeros(8))
    assert POLICIES[name](view, 10).rows.size == 0


@given(seed=st.integers(0, 10_000), size=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_passes_reach_the_value_of_one_pick_at_a_time(seed, size):
    view = make_view(seed)
    assert value_of(view, scarcity_greedy(view, size).rows) >= 0.9 * true_greedy(view, size) - 1e-6


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_no_emr_is_chosen_below_the_least_yield(seed):
    view = make_view(seed, min_yield=0.6)
    left = view.needed.copy()
    for row in scarcity_greedy(view, 60).rows:
        p = view.probs[row].toarray().ravel()
        assert np.minimum(p, left).sum() >= 0.6 - 1e-6
        left = np.maximum(left - p, 0)


def test_scarcity_prefers_the_rare_code_where_plain_greedy_sees_no_difference():
    probs = sp.csr_matrix(np.array([[0.9, 0]] * 9 + [[0, 0.9]], np.float32))
    view = make_view(0, n_emrs=10, n_codes=2)
    view = replace(
        view,
        probs=probs,
        noisy=probs,
        free=np.ones(10, bool),
        needed=np.array([1.0, 0.9]),
        scarcity=np.array([1.0 / 8.1, 1.0]),
    )
    assert scarcity_greedy(view, 1).rows.tolist() == [9]


def test_a_dear_emr_gives_way_to_a_cheap_one_of_equal_worth():
    probs = sp.csr_matrix(np.array([[0.9], [0.9]], np.float32))
    view = make_view(0, n_emrs=2, n_codes=1)
    for cost, chosen in (([2.0, 0.5], 1), ([0.5, 2.0], 0)):
        priced = replace(
            view,
            probs=probs,
            free=np.ones(2, bool),
            needed=np.array([1.0]),
            scarcity=np.array([1.0]),
            cost=np.array(cost),
        )
        assert scarcity_greedy(priced, 1).rows.tolist() == [chosen]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_strict_reading_lists_every_deficient_code_twice_where_the_pool_does(seed):
    view = make_view(seed)
    listed = (view.noisy.toarray() > 0) & view.free[:, None]
    batch = listed[POLICIES["every deficient twice"](view, 60).rows].sum(0)
    wanted = np.minimum(listed.sum(0), 2)
    assert (batch[view.needed > 0] >= wanted[view.needed > 0]).all()


def test_the_loose_reading_takes_only_emrs_that_list_a_deficient_code():
    view = make_view(5)
    deficient = view.noisy.toarray()[:, view.needed > 0].sum(1) > 0
    rows = POLICIES["any deficient"](view, 60).rows
    assert sorted(rows) == np.flatnonzero(deficient & view.free).tolist()


def test_a_quota_per_code_takes_the_likeliest_emrs_of_each_code():
    probs = sp.csr_matrix(np.array([[0.3, 0], [0.9, 0], [0, 0.8], [0, 0.4]], np.float32))
    view = make_view(0, n_emrs=4, n_codes=2)
    view = replace(view, probs=probs, free=np.ones(4, bool), needed=np.array([1.0, 1.0]))
    assert sorted(POLICIES["quota per code"](view, 2).rows) == [1, 2]


def test_entries_come_in_the_order_of_the_rows_asked_for():
    matrix = sp.csr_matrix(np.array([[0, 2, 3], [0, 0, 0], [4, 0, 5]], np.float32))
    position, code, value = entries(matrix, np.array([2, 1, 0]))
    assert position.tolist() == [0, 0, 2, 2]
    assert code.tolist() == [0, 2, 1, 2]
    assert value.tolist() == [4, 5, 2, 3]


def test_sum_before_starts_anew_with_each_key():
    keys = np.array([0, 0, 0, 2, 2], np.int32)
    assert sum_before(keys, np.array([1.0, 2, 3, 4, 5])).tolist() == [0, 1, 3, 0, 4]
