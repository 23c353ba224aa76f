import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from training.l1 import L1Problem, fit_codes

RNG = np.random.default_rng(0)
PRESENT = csr_matrix((RNG.random((120, 600)) < 0.1).astype(float))
TARGETS = np.stack([PRESENT[:, k].toarray().ravel() > 0 for k in (0, 1, 2)], axis=1) ^ (
    RNG.random((120, 3)) < 0.05
)


def problem(min_positives: int = 1) -> L1Problem:
    return L1Problem(PRESENT, np.ones(120), 1.0, 1e-5, 1000, min_positives)


def objective(weights: np.ndarray, bias: float, target: np.ndarray) -> float:
    n, positives = len(target), target.sum()
    pull = np.where(target, n / (2 * positives), n / (2 * (n - positives)))
    logits = PRESENT @ weights + bias
    loss = pull @ np.logaddexp(0, np.where(target, -logits, logits))
    return float(np.abs(weights).sum() + abs(bias) + loss)


def test_it_finds_what_liblinear_finds_on_all_columns() -> None:
    coef, bias = fit_codes(problem(), TARGETS)
    for k in range(3):
        whole = LogisticRegression(
            l1_ratio=1.0,
            solver="liblinear",
            class_weight="balanced",
            tol=1e-5,
            max_iter=1000,
            random_state=0,
        ).fit(PRESENT, TARGETS[:, k])
        best = objective(whole.coef_[0], whole.intercept_[0], TARGETS[:, k])
        ours = objective(coef[k].toarray()[0], bias[k], TARGETS[:, k])
        assert ours == pytest.approx(best, rel=0.01)


def test_codes_too_rare_to_learn_get_their_share() -> None:
    rare = np.zeros((120, 2), dtype=bool)
    rare[0, 0] = True
    rare[:, 1] = True
    coef, bias = fit_codes(problem(min_positives=2), rare)
    assert not coef.nnz
    assert 1 / (1 + np.exp(-bias)) == pytest.approx([1.5 / 121, 120.5 / 121])
