import json

import numpy as np
import pytest

from label_config.errors import ConfigError
from training.fusion import Fusion
from training.late import Late
from training.tune import fuse_unseen

RNG = np.random.default_rng(0)
TRUTH = RNG.random((120, 8)) < 0.25
FOLDS = np.arange(120) % 3
EARLY = np.clip(0.5 * TRUTH + 0.5 * RNG.random(TRUTH.shape), 0, 1)


def said(good: bool) -> np.ndarray:
    """A late member's scores: heard in fold 0 alone."""
    rng = np.random.default_rng(1)
    scores = rng.random(TRUTH.shape)
    if good:
        scores = np.clip(0.7 * TRUTH + 0.3 * scores, 0, 1)
    return np.where(FOLDS[:, None] == 0, scores, np.nan)


def fused(good: bool) -> tuple[Fusion, np.ndarray, np.ndarray]:
    fusion = Fusion(["early"], late=["late"])
    with_late = fuse_unseen(fusion, {"early": EARLY, "late": said(good)}, TRUTH, FOLDS)
    without = fuse_unseen(Fusion(["early"]), {"early": EARLY}, TRUTH, FOLDS)
    return fusion, with_late, without


def gap(probs: np.ndarray) -> float:
    rows = FOLDS == 0
    return float(probs[rows][TRUTH[rows]].mean() - probs[rows][~TRUTH[rows]].mean())


def test_a_late_member_that_knows_better_is_listened_to_where_it_was_heard():
    fusion, with_late, without = fused(good=True)
    assert fusion.late.weights[0] > 0.5
    assert gap(with_late) > gap(without) + 0.05
    np.testing.assert_array_equal(with_late[FOLDS != 0], without[FOLDS != 0])


def test_a_late_member_that_adds_nothing_changes_next_to_nothing():
    fusion, with_late, without = fused(good=False)
    assert fusion.late.weights[0] < 0.5
    assert np.abs(with_late - without).mean() < 0.02


def test_what_late_members_add_is_judged_on_emrs_that_did_not_teach_it():
    honest = fused(good=True)[1]
    flipped = TRUTH.copy()
    flipped[0] = ~flipped[0]  # an EMR of fold 0
    other = fuse_unseen(
        Fusion(["early"], late=["late"]), {"early": EARLY, "late": said(True)}, flipped, FOLDS
    )
    np.testing.assert_array_equal(honest[0], other[0])


def test_a_silent_late_member_leaves_what_the_others_say():
    fusion, *_ = fused(good=True)
    scores = {"early": EARLY[:2], "late": np.full((2, 8), np.nan)}
    np.testing.assert_array_equal(fusion.combine(scores), fusion.combine({"early": EARLY[:2]}))


def test_before_it_has_been_heard_a_late_member_is_not_listened_to():
    fusion = Fusion(["early"], late=["late"])
    loud = {"early": EARLY[:2], "late": np.ones((2, 8))}
    np.testing.assert_array_equal(fusion.combine(loud), fusion.combine({"early": EARLY[:2]}))
    assert fusion.weights() == {"early": 1.0, "late": 0.0}
    with pytest.raises(ConfigError):
        fusion.combine({"late": np.ones((2, 8))})


def test_nobody_learns_where_there_is_nothing_to_find():
    nothing = np.zeros_like(TRUTH)
    late = Late.fit(["late"], {"late": said(True)}, EARLY, nothing, pull=1.0)
    np.testing.assert_array_equal(late.join(EARLY, {"late": said(True)}), EARLY)


def test_a_fusion_keeps_its_late_members():
    fusion, *_ = fused(good=True)
    again = Fusion.from_dict(json.loads(json.dumps(fusion.to_dict())))
    scores = {"early": EARLY, "late": said(True)}
    np.testing.assert_array_equal(again.combine(scores), fusion.combine(scores))
    assert again.weights() == fusion.weights()
