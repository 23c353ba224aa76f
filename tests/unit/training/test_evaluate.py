import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from label_config.errors import DataError
from training.evaluate import bands, calibration_floor, evaluate, interval, micro_f1

SHAPE = (7, 4)
PROBS = arrays(float, SHAPE, elements=st.floats(0, 1, width=16), unique=True)
TARGETS = arrays(bool, SHAPE)


@settings(deadline=None, max_examples=40)
@given(PROBS, TARGETS)
def test_figures_agree_with_scikit_learn(probs: np.ndarray, targets: np.ndarray) -> None:
    ours, ticked = evaluate(probs, targets), probs >= 0.5
    for average in ("micro", "macro"):
        theirs = metrics.precision_recall_fscore_support(
            targets, ticked, average=average, zero_division=0
        )
        names = [f"{average}_precision", f"{average}_recall", f"{average}_f1"]
        if average == "micro":
            assert [ours[n] for n in names] == pytest.approx(list(theirs[:3]))
        else:
            assert ours["macro_f1_all_codes"] == pytest.approx(theirs[2])
    seen = (targets | ticked).any(axis=0)
    if seen.any():
        macro = metrics.f1_score(
            targets[:, seen], ticked[:, seen], average="macro", zero_division=0
        )
        assert ours["macro_f1"] == pytest.approx(macro)
    assert ours["exact_match"] == pytest.approx(metrics.accuracy_score(targets, ticked))
    jaccard = metrics.jaccard_score(targets, ticked, average="samples", zero_division=1)
    assert ours["jaccard"] == pytest.approx(jaccard)
    some = targets.any(axis=1)
    if some.any():
        theirs = metrics.label_ranking_average_precision_score(targets[some], probs[some])
        assert ours["map"] == pytest.approx(theirs)
        theirs = metrics.coverage_error(targets[some], probs[some])
        assert ours["coverage_error"] == pytest.approx(theirs)
    able = targets.any(axis=0) & ~targets.all(axis=0)
    assert ours["codes_without_auc"] == 4 - able.sum()
    if able.any():
        theirs = metrics.roc_auc_score(targets[:, able], probs[:, able], average="macro")
        assert ours["macro_auc"] == pytest.approx(theirs)


@settings(deadline=None, max_examples=40)
@given(PROBS, TARGETS)
def test_ranking_figures_agree_with_counting_by_hand(
    probs: np.ndarray, targets: np.ndarray
) -> None:
    ours = evaluate(probs, targets)
    order = [sorted(range(4), key=lambda k, row=row: -row[k]) for row in probs]
    at5 = [sum(t[k] for k in o[:5]) for o, t in zip(order, targets, strict=True)]
    assert ours["precision@5"] == pytest.approx(np.mean(at5) / 5)
    rows = [n for n in range(7) if targets[n].any()]
    if rows:
        at_own = [targets[n][order[n][: targets[n].sum()]].mean() for n in rows]
        assert ours["r_precision"] == pytest.approx(np.mean(at_own))
        assert ours["recall@5"] == pytest.approx(1.0)
    else:
        assert np.isnan(ours["r_precision"])


def test_a_perfect_answer_scores_one_everywhere() -> None:
    targets = np.random.default_rng(0).random((30, 5)) < 0.4
    figures = evaluate(targets.astype(float), targets)
    for name in ("micro_f1", "macro_f1", "map", "r_precision", "exact_match", "macro_auc"):
        assert figures[name] == 1.0
    assert figures["ece"] == 0.0


def test_the_calibration_floor_is_what_chance_makes_of_true_confidences() -> None:
    sure = np.full((400, 1), 0.5)
    expected = np.sqrt(2 / np.pi) * 0.5 / np.sqrt(400)  # mean distance of a binomial share
    assert calibration_floor(sure) == pytest.approx(expected, rel=0.15)
    assert calibration_floor(np.repeat(sure, 100, axis=0)) < 0.15 * expected
    assert calibration_floor(np.ones((50, 1))) == 0.0


def test_the_calibration_error_of_a_constant_is_its_distance_from_the_truth() -> None:
    targets = np.zeros((100, 1), dtype=bool)
    targets[:30] = True
    assert evaluate(np.full((100, 1), 0.75), targets)["ece"] == pytest.approx(0.45)


def test_a_threshold_per_code_is_taken_per_code() -> None:
    probs, targets = np.array([[0.4, 0.4]]), np.array([[True, False]])
    assert evaluate(probs, targets, threshold=np.array([0.3, 0.5]))["micro_f1"] == 1.0


def test_bands_split_codes_by_their_training_frequency() -> None:
    probs = np.array([[0.9, 0.8, 0.1, 0.9]])
    targets = np.array([[True, False, True, True]])
    rows = bands(probs, targets, np.array([1, 3, 3, 100]), at=2)
    assert [row["codes"] for row in rows] == [1, 2, 0, 1]
    assert [row["recall@2"] for row in rows] == [1.0, 0.0, 0.0, 1.0]
    assert [row["micro_f1"] for row in rows] == [1.0, 0.0, 0.0, 1.0]


def test_the_bootstrap_interval_holds_the_figure_and_repeats_by_seed() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((200, 3)) < 0.3
    probs = np.clip(targets * 0.3 + rng.random((200, 3)) * 0.7, 0, 1)
    metric = micro_f1(0.5)
    low, high = interval(metric, probs, targets, draws=200)
    assert low < metric(probs, targets) < high < low + 0.2
    assert (low, high) == interval(metric, probs, targets, draws=200)


@pytest.mark.parametrize(
    ("probs", "targets"),
    [(np.ones((2, 3)), np.ones((3, 2))), (np.ones((0, 3)), np.ones((0, 3))), ([[1.2]], [[1]])],
)
def test_what_cannot_be_judged_is_refused(probs: object, targets: object) -> None:
    with pytest.raises(DataError):
        evaluate(probs, targets)  # type: ignore[arg-type]
