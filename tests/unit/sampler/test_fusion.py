import numpy as np
import pytest
import scipy.sparse as sp

from sampler.confusion import present
from sampler.fusion import PRIOR, fit_fusion

N, K = 4000, 12
UNLISTED = 0.15 * 0.15 / (0.15 * 0.15 + 0.85 * 0.9)


@pytest.fixture(scope="module")
def witnesses():
    """Clean codes, what the noisy codes say of them, and a calibrated but vaguer model."""
    rng = np.random.default_rng(3)
    clean = (rng.random((N, K)) < 0.15).astype(np.float32)
    p = np.where(clean > 0, rng.beta(5, 2, (N, K)), rng.beta(2, 6, (N, K)))
    # A code is listed in 85 % of its EMRs, and in 10 % of the others.
    p[rng.random((N, K)) < np.where(clean > 0, 0.15, 0.9)] = 0
    m = np.where(clean > 0, rng.beta(4, 2, (N, K)), rng.beta(1, 9, (N, K)))
    m[m < 0.1] = 0
    return sp.csr_matrix(clean), sp.csr_matrix(p), sp.csr_matrix(m)


def fuse(witnesses, seen: int):
    clean, p, m = witnesses
    unlisted = np.full(K, UNLISTED)
    fusion = fit_fusion(
        p[:seen], m[:seen], clean[:seen], weight_M=np.ones(seen), unlisted_K=unlisted
    )
    return fusion, fusion.probabilities(p[2000:], m[2000:], unlisted), clean[2000:]


def test_both_together_come_true_as_often_as_they_say(witnesses):
    _, probs, clean = fuse(witnesses, 1500)
    right = present(probs, clean)
    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 1.0)):
        held = (probs.data >= low) & (probs.data < high)
        assert right[held].mean() == pytest.approx(probs.data[held].mean(), abs=0.1)


def test_two_witnesses_tell_more_than_one(witnesses):
    clean, p, _ = witnesses

    def loss(probs, truth):
        said = np.clip(probs.toarray(), 0.02, 0.98)
        has = truth.toarray() > 0
        return -np.log(np.where(has, said, 1 - said)).mean()

    fused, alone = fuse(witnesses, 500), p[2000:]
    assert loss(fused[1], fused[2]) < 0.7 * loss(alone, clean[2000:])


def test_a_code_that_only_the_model_names_gets_an_entry():
    p, m = sp.csr_matrix((1, 3)), sp.csr_matrix(np.array([[0, 0.95, 0.0]]))
    none = fit_fusion(p[:0], m[:0], p[:0], weight_M=np.zeros(0), unlisted_K=np.full(3, 0.05))
    probs = none.probabilities(p, m, np.full(3, 0.05)).toarray()[0]
    assert none.theta.tolist() == list(PRIOR)
    assert probs[1] > 0.05
    assert probs[0] == probs[2] == 0


def test_a_model_that_guesses_is_not_believed(witnesses):
    clean, p, _ = witnesses
    rng = np.random.default_rng(1)
    guess = sp.random(N, K, 0.3, "csr", random_state=rng)
    fusion = fit_fusion(p, guess, clean, weight_M=np.ones(N), unlisted_K=np.full(K, 0.05))
    assert abs(fusion.theta[2]) < 0.1
