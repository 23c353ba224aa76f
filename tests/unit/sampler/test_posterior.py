import numpy as np
import pytest
import scipy.sparse as sp

from label_config.errors import ConfigError
from sampler.confusion import present
from sampler.labels import CleanLabels, code_matrix
from sampler.posterior import PosteriorConfig, fit_posterior
from sampler.synthetic import PoolConfig, SyntheticPool, make_pool


def annotate(pool: SyntheticPool, rows: np.ndarray, weight: float = 1.0) -> CleanLabels:
    clean = CleanLabels(pool.noisy.shape[1])
    clean.replace(rows, pool.clean[rows], np.full(rows.size, weight))
    return clean


@pytest.fixture(scope="module")
def large() -> SyntheticPool:
    return make_pool(PoolConfig(n_emrs=6000, n_codes=40, noise=0.4, systematic=0.2), seed=3)


def test_without_annotations_a_surer_mapper_is_believed_more(pool):
    prior = fit_posterior(pool.noisy, CleanLabels(20))
    p = prior.probabilities(pool.noisy).data
    order = np.argsort(pool.noisy.data)
    assert np.corrcoef(p, pool.noisy.data)[0, 1] > 0.9
    assert p[order[0]] < p[order[-1]]


def test_probabilities_come_true_as_often_as_they_say(large):
    seen, unseen = np.arange(1500), np.arange(1500, 6000)
    posterior = fit_posterior(large.noisy, annotate(large, seen), category=large.category)
    probs = posterior.probabilities(large.noisy[unseen])
    right = present(probs, large.clean[unseen])
    for low, high in ((0.02, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        held = (probs.data >= low) & (probs.data < high)
        assert right[held].mean() == pytest.approx(probs.data[held].mean(), abs=0.05)


def test_what_was_learned_beats_the_prior(large):
    unseen = large.noisy[1500:]
    right = present(unseen, large.clean[1500:])

    def log_loss(n_seen: int) -> float:
        clean = annotate(large, np.arange(n_seen))
        p = fit_posterior(large.noisy, clean).probabilities(unseen).data
        return float(-np.log(np.where(right, p, 1 - p)).mean())

    assert log_loss(300) < log_loss(30) < log_loss(0)


def test_a_code_that_always_stands_for_its_sibling_is_looked_behind():
    n_emrs = 100
    noisy = sp.csr_matrix(np.tile([0.9, 0.0, 0.0], (n_emrs, 1)).astype(np.float32))
    clean = CleanLabels(3)
    rows = np.arange(60)
    clean.replace(rows, code_matrix([[1]] * 60, 3), np.ones(60))
    posterior = fit_posterior(noisy, clean, category=np.array([0, 0, 1]))
    p = posterior.probabilities(noisy[60:]).toarray()
    assert (p[:, 1] > 0.6).all()
    assert (p[:, 0] < 0.3).all()
    assert (p[:, 2] == 0).all()


def test_siblings_of_other_categories_are_not_looked_behind():
    noisy = sp.csr_matrix(np.tile([0.9, 0.0], (100, 1)).astype(np.float32))
    clean = CleanLabels(2)
    clean.replace(np.arange(60), code_matrix([[1]] * 60, 2), np.ones(60))
    posterior = fit_posterior(noisy, clean, category=np.array([0, 1]))
    assert posterior.confusion.nnz == posterior.habit.nnz == 0
    assert posterior.unlisted[1] == pytest.approx(60 / 110)


def test_heavier_emrs_move_the_estimate_more(pool):
    rows = np.arange(40)
    light = fit_posterior(pool.noisy, annotate(pool, rows, 0.1))
    heavy = fit_posterior(pool.noisy, annotate(pool, rows, 10.0))
    prior = np.array(PosteriorConfig().prior)
    assert np.abs(heavy.theta - prior).sum() > np.abs(light.theta - prior).sum()


def test_draws_scatter_around_the_estimate_and_less_so_with_more_annotations(large):
    rng = np.random.default_rng(0)

    few = fit_posterior(large.noisy, annotate(large, np.arange(200)))
    many = fit_posterior(large.noisy, annotate(large, np.arange(2000)))
    shifts = {id(p): np.array([p.draw(rng).shift for _ in range(200)]) for p in (few, many)}
    assert shifts[id(many)].mean(0) == pytest.approx(many.shift, abs=0.1)
    assert shifts[id(many)].std(0).mean() < 0.7 * shifts[id(few)].std(0).mean()


def test_precisions_of_zero_are_refused():
    with pytest.raises(ConfigError, match="above 0"):
        PosteriorConfig(code_spread=0)
