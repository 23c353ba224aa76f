import json

import numpy as np
import pytest

from label_config.errors import ConfigError
from training.fusion import UNPROVEN, Fusion, FusionConfig

RNG = np.random.default_rng(0)
TRUTH = RNG.random((300, 6)) < 0.3
GOOD = np.clip(TRUTH * 0.6 + RNG.random((300, 6)) * 0.4, 0, 1)
NOISE = RNG.random((300, 6))


def test_unproven_members_count_the_same_and_one_sure_member_suffices() -> None:
    one, none = np.array([[1.0, 0.0]]), np.zeros((1, 2))
    fused = Fusion(["a", "b"]).combine({"a": one, "b": none})
    swapped = Fusion(["a", "b"]).combine({"a": none, "b": one})
    assert fused == pytest.approx(np.array([[UNPROVEN, 0.0]]))
    assert (fused == swapped).all()


def test_a_useless_member_loses_its_say() -> None:
    fusion = Fusion(["good", "noise"]).fit({"good": GOOD, "noise": NOISE}, TRUTH)
    weights = fusion.weights()
    assert weights["good"] > 3 * weights["noise"]
    assert sum(weights.values()) == pytest.approx(1)


def test_the_fused_probabilities_are_calibrated() -> None:
    fusion = Fusion(["good", "noise"]).fit({"good": GOOD, "noise": NOISE}, TRUTH)
    fused = fusion.combine({"good": GOOD, "noise": NOISE})
    assert fused.mean() == pytest.approx(TRUTH.mean(), abs=0.02)
    sure = fused > 0.8
    assert TRUTH[sure].mean() == pytest.approx(fused[sure].mean(), abs=0.1)


def test_no_member_ever_counts_against_a_code() -> None:
    scores = {"good": GOOD, "inverse": 1 - GOOD}
    fusion = Fusion(["good", "inverse"]).fit(scores, TRUTH)
    raised = {"good": GOOD, "inverse": np.clip(1 - GOOD + 0.1, 0, 1)}
    assert (fusion.combine(raised) >= fusion.combine(scores) - 1e-9).all()


def test_a_missing_member_and_a_silent_row_use_the_weights_learned_without_it() -> None:
    fusion = Fusion(["good", "noise"]).fit({"good": GOOD, "noise": NOISE}, TRUTH)
    silent = NOISE.copy()
    silent[:10] = np.nan
    fused = fusion.combine({"good": GOOD, "noise": silent})
    assert fused[:10] == pytest.approx(fusion.combine({"good": GOOD})[:10])
    assert fused[10:] == pytest.approx(fusion.combine({"good": GOOD, "noise": NOISE})[10:])
    assert not fusion.combine({"noise": np.full((2, 6), np.nan)}).any()


def test_a_member_heard_on_some_emrs_only_is_learned_from_those() -> None:
    partial = np.full_like(GOOD, np.nan)
    partial[:100] = GOOD[:100]
    fusion = Fusion(["noise", "good"]).fit({"noise": NOISE, "good": partial}, TRUTH)
    assert fusion.weights()["good"] > fusion.weights()["noise"]


def test_a_frequent_code_gets_a_bias_of_its_own() -> None:
    truth = TRUTH.copy()
    truth[:, 0] = RNG.random(300) < 0.9
    blind = np.full_like(GOOD, 0.5)
    fused = Fusion(["blind"]).fit({"blind": blind}, truth).combine({"blind": blind})
    assert fused[0, 0] > 0.7 > fused[0, 1:].max()


def test_drawing_negatives_does_not_shift_the_probabilities() -> None:
    scores = {"good": GOOD}
    whole = Fusion(["good"]).fit(scores, TRUTH).combine(scores)
    config = FusionConfig(max_cells=1200)
    drawn = Fusion(["good"], config=config).fit(scores, TRUTH).combine(scores)
    assert drawn.mean() == pytest.approx(whole.mean(), abs=0.03)


def test_it_survives_json() -> None:
    scores = {"good": GOOD, "noise": NOISE}
    fusion = Fusion(["good", "noise"]).fit(scores, TRUTH)
    loaded = Fusion.from_dict(json.loads(json.dumps(fusion.to_dict())))
    assert loaded.combine(scores) == pytest.approx(fusion.combine(scores))


def test_without_positives_it_stays_unproven_and_strangers_are_refused() -> None:
    fusion = Fusion(["a"]).fit({"a": NOISE}, np.zeros_like(TRUTH))
    assert not fusion.fitted
    with pytest.raises(ConfigError, match="stranger"):
        fusion.combine({"stranger": NOISE})
    with pytest.raises(ConfigError, match="max_cells"):
        FusionConfig(max_cells=0)
