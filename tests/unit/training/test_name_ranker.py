import numpy as np

from training.name_ranker import NONE, PRIOR, Ranker

F = len(PRIOR)


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Names of five candidates whose chance of being right follows known weights."""
    rng = np.random.default_rng(seed)
    features = rng.random((n, 5, F))
    true = Ranker((9.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, -3.0, 0.0), 8.0)
    chosen = np.array([rng.choice(6, p=p) for p in true.probs(features)])
    return features, np.eye(6, dtype=bool)[chosen][:, :5]


def test_the_learned_chances_hold() -> None:
    ranker = Ranker.fit(*drawn(4000), pull=0.1)
    features, right = drawn(4000, seed=1)
    probs = ranker.probs(features)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0)
    for low in (0.0, 0.2, 0.4, 0.6):
        inside = (probs[:, :5] >= low) & (probs[:, :5] < low + 0.2)
        assert abs(probs[:, :5][inside].mean() - right[inside].mean()) < 0.04


def test_names_that_fit_nothing_raise_the_bid_for_any_code() -> None:
    features, right = drawn(300)
    assert Ranker.fit(features, np.zeros_like(right)).none > NONE


def test_without_names_the_prior_stands_and_it_survives_json() -> None:
    ranker = Ranker.fit(np.zeros((0, 5, F)), np.zeros((0, 5), dtype=bool))
    assert ranker == Ranker() == Ranker.from_dict(ranker.to_dict())


def test_two_codes_may_be_right_for_one_name() -> None:
    features, _ = drawn(200)
    right = np.zeros((200, 5), dtype=bool)
    right[:, :2] = True
    features[:, 2:, 0] = 0.0
    features[:, :2, 0] = 1.0
    assert Ranker.fit(features, right).probs(features)[:, :2].sum(axis=1).min() > 0.6


def test_a_code_that_sure_names_mean_is_likelier_for_the_unsure() -> None:
    features = np.zeros((20, 2, F))
    features[:15, 0, 0], features[:15, 1, 0] = 2.0, 0.1
    features[15:, :, 0] = 1.0
    codes = np.tile([0, 1], (20, 1))
    log_prior = Ranker().code_prior(features, codes, 3)
    assert log_prior[0] > log_prior[1]
    assert log_prior.shape == (3,)
