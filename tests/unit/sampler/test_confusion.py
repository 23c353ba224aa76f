import numpy as np
import pytest
import scipy.sparse as sp

from sampler import confusion
from sampler.confusion import Events, Pairs, present, without
from sampler.labels import CleanLabels
from sampler.posterior import fit_posterior
from sampler.synthetic import PoolConfig, make_pool


def learned(systematic: float, noise: float = 0.2, seed: int = 2, n_seen: int = 1500):
    config = PoolConfig(n_emrs=3000, n_codes=40, noise=noise, systematic=systematic)
    pool, clean, rows = make_pool(config, seed), CleanLabels(40), np.arange(n_seen)
    clean.replace(rows, pool.clean[rows], np.ones(n_seen))
    return pool, fit_posterior(pool.noisy, clean, category=pool.category)


def test_an_event_is_a_wrong_listing_beside_a_missed_sibling():
    listed = sp.csr_matrix(np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]], np.float32))
    missed = sp.csr_matrix(np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], np.float32))
    right = np.array([0.0, 0.0, 1.0, 0.0])
    events = Events.of(listed, missed, right, np.array([0, 0, 1, 1]))
    found = zip(events.entry.tolist(), events.listed.tolist(), events.hidden.tolist(), strict=True)
    assert sorted(found) == [(0, 0, 1), (1, 3, 2)]


def test_a_habit_is_told_from_errors_of_chance():
    pool, posterior = learned(systematic=0.3)
    _, none = learned(systematic=0.0)
    true = np.zeros((40, 40))
    # The generator's habits: a code that is listed right in a fifth of its EMRs at most.
    both = (pool.noisy > 0).multiply(pool.clean)
    kept = np.asarray(both.sum(0)).ravel() / np.asarray(pool.clean.sum(0)).ravel()
    for code in np.flatnonzero(kept < 0.4):
        first = code - code % 4
        true[first + (code - first + 1) % 4, code] = 1
    habit = posterior.habit.toarray()
    assert true.sum() >= 5
    assert habit[true > 0].mean() > 0.25
    assert habit[true == 0].mean() < 0.02
    assert none.habit.toarray().max() < 0.15


def test_habitually_hidden_codes_are_found_at_the_rate_expected():
    pool, posterior = learned(systematic=0.3)
    probs = posterior.probabilities(pool.noisy)[1500:]
    hidden = ~present(probs, pool.noisy[1500:])
    right = present(probs, pool.clean[1500:])
    for low, high in ((0.1, 0.3), (0.3, 0.6), (0.6, 1.0)):
        held = hidden & (probs.data >= low) & (probs.data < high)
        assert held.sum() > 20
        assert right[held].mean() == pytest.approx(probs.data[held].mean(), abs=0.1)


def test_in_a_large_pool_only_pairs_that_were_seen_get_an_entry(monkeypatch):
    _, small = learned(systematic=0.0, n_seen=60)
    monkeypatch.setattr(confusion, "MOST_HIDDEN", 0)
    _, large = learned(systematic=0.0, n_seen=60)
    assert small.habit.nnz == 40 * 3
    assert 0 < large.habit.nnz < 60


def test_siblings_divide_what_hides_by_how_often_they_are_listed():
    noisy = sp.csr_matrix(np.array([[1, 1, 0], [0, 1, 1], [0, 1, 0]], np.float32))
    none = Events(*(np.zeros(0, np.int64) for _ in range(3)))
    pairs = Pairs.of(noisy, none, np.array([5, 5, 5]))
    assert pairs.listed.tolist() == [0, 0, 1, 1, 2, 2]
    assert pairs.hidden.tolist() == [1, 2, 0, 2, 0, 1]
    assert np.bincount(pairs.listed, pairs.prior) == pytest.approx(np.ones(3))
    assert pairs.prior[0] > pairs.prior[1]


def test_without_keeps_the_other_entries_as_ones():
    matrix = sp.csr_matrix(np.array([[0.5, 0.2], [0, 0.7]], np.float32))
    kept = without(matrix, matrix.data < 0.4)
    assert kept.toarray().tolist() == [[1, 0], [0, 1]]
