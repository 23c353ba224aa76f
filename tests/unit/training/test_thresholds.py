import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from label_config.errors import ConfigError, DataError
from training.thresholds import (
    best_threshold,
    promised_threshold,
    steady_threshold,
)

SHAPE = (12, 3)
PROBS = arrays(float, SHAPE, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0]))
TARGETS = arrays(bool, SHAPE)


@settings(deadline=None, max_examples=40)
@given(PROBS, TARGETS)
def test_no_other_threshold_has_a_better_f1(probs: np.ndarray, targets: np.ndarray) -> None:
    threshold, f1 = best_threshold(probs, targets)
    if targets.any():
        assert f1 == pytest.approx(f1_score(targets.ravel(), (probs >= threshold).ravel()))
        for other in (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.01):
            assert f1 >= f1_score(targets.ravel(), (probs >= other).ravel()) - 1e-12


def test_few_positives_give_a_threshold_near_half_the_f1_and_many_the_best_one() -> None:
    rng = np.random.default_rng(0)
    probs = rng.beta(0.3, 0.6, (20_000, 3))
    targets = rng.random(probs.shape) < probs  # calibrated: theory and search agree
    best, f1 = best_threshold(probs, targets)
    assert best == pytest.approx(f1 / 2, abs=0.03)
    assert steady_threshold(probs, targets) == pytest.approx(best, abs=0.01)
    far = [
        abs(steady_threshold(p, t) - best)
        for p, t in zip(np.split(probs, 1000), np.split(targets, 1000), strict=True)
    ]
    alone = [
        abs(best_threshold(p, t)[0] - best)
        for p, t in zip(np.split(probs, 1000), np.split(targets, 1000), strict=True)
    ]
    assert np.mean(far) < 0.5 * np.mean(alone)
    assert steady_threshold(probs, np.zeros_like(targets)) == 0.5
    assert (
        steady_threshold(probs[:9], targets[:9], shrinkage=0)
        == best_threshold(probs[:9], targets[:9])[0]
    )
    with pytest.raises(ConfigError, match="shrinkage"):
        steady_threshold(probs, targets, shrinkage=-1)


def test_the_promise_holds_on_new_emrs() -> None:
    rng = np.random.default_rng(1)
    targets = rng.random((4000, 8)) < 0.25
    probs = np.clip(targets * 0.4 + rng.random((4000, 8)) * 0.6, 0, 1)
    missed = []
    for part in range(40):
        rows = rng.choice(4000, 300, replace=False)
        promise = promised_threshold(probs[rows], targets[rows], miss=0.05)
        new = np.setdiff1d(np.arange(4000), rows)
        lost = (targets[new] & (probs[new] < promise.threshold)).sum(axis=1)
        missed.append((lost / np.maximum(targets[new].sum(axis=1), 1)).mean())
        assert promise.kept and promise.missed <= 0.05
        assert 0 < promise.precision <= 1 and promise.candidates > 0, part
    assert np.mean(missed) <= 0.05
    assert np.mean(missed) > 0.03


def test_too_few_emrs_tick_everything_and_say_so() -> None:
    promise = promised_threshold(np.array([[0.9, 0.1]]), np.array([[True, False]]))
    assert (promise.threshold, promise.kept, promise.candidates) == (0.0, False, 2.0)


def test_promises_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ConfigError, match="inside 0 to 1"):
        promised_threshold(np.ones((1, 1)), np.ones((1, 1), bool), miss=0)
    with pytest.raises(DataError, match="at least one EMR"):
        promised_threshold(np.zeros((0, 2)), np.zeros((0, 2), bool))


def test_a_certain_promise_ticks_more_than_one_kept_on_average() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((400, 10)) < 0.2
    probs = np.clip(truth * 0.5 + rng.random((400, 10)) * 0.6, 0, 1)
    average = promised_threshold(probs, truth, miss=0.1)
    certain = promised_threshold(probs, truth, miss=0.1, sure=0.95, coming=100)
    assert certain.threshold < average.threshold
    assert certain.missed < average.missed <= 0.1


def test_a_certain_promise_is_mostly_kept_on_other_emrs() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((900, 10)) < 0.2
    probs = np.clip(truth * 0.5 + rng.random((900, 10)) * 0.6, 0, 1)
    kept = []
    for _ in range(60):
        order = rng.permutation(900)
        tuned, other = order[:600], order[600:]
        promise = promised_threshold(probs[tuned], truth[tuned], miss=0.05, sure=0.95, coming=300)
        lost = truth[other] & ~(probs[other] >= promise.threshold)
        kept.append((lost.sum(axis=1) / np.maximum(truth[other].sum(axis=1), 1)).mean() <= 0.05)
    assert np.mean(kept) >= 0.9
