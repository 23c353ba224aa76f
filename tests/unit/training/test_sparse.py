from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_config.errors import CheckpointError, ConfigError, UnknownCode
from training.fold import fold
from training.sparse import SparseModel, out_of_fold, tokens

TEXTS = [
    *("Tos y fiebre alta desde ayer", "fiebre alta con tos seca", "refiere tos y fiebre alta"),
    *(
        "dolor en fosa iliaca derecha",
        "dolor de fosa ilíaca derecha",
        "gran dolor en la fosa iliaca",
    ),
] * 3
TARGETS = np.array([[True, False, False, True]] * 3 + [[False, True, False, True]] * 3).repeat(1, 0)
TARGETS = np.concatenate([TARGETS] * 3)
CODES = ["J18.9", "K35.8", "never", "always"]


@pytest.fixture(scope="module")
def model() -> SparseModel:
    return SparseModel.fit(TEXTS, TARGETS, CODES)


def test_it_tells_the_codes_apart(model: SparseModel) -> None:
    probs = model.predict(["tos con fiebre alta", "mucho dolor en fosa iliaca"])
    assert probs.shape == (2, 4)
    assert probs[0, 0] > 0.5 > probs[0, 1]
    assert probs[1, 1] > 0.5 > probs[1, 0]


def test_codes_that_no_or_every_text_has_get_their_share_as_a_constant(model: SparseModel) -> None:
    probs = model.predict(["anything", TEXTS[0]])
    n = len(TEXTS)
    assert probs[:, 2] == pytest.approx(0.5 / (n + 1))
    assert probs[:, 3] == pytest.approx((n + 0.5) / (n + 1))


def test_evidence_quotes_the_original_text(model: SparseModel) -> None:
    text = "Ingresa con  DOLOR en fosa ILÍACA derecha"
    spans = model.evidence(text, "K35.8")
    quoted = " ".join(text[s.start : s.end].lower() for s in spans)
    assert spans and max(s.score for s in spans) == 1.0
    assert "dolor" in quoted or "fosa" in quoted
    assert model.evidence(text, "never") == []


def test_chinese_is_read_by_characters() -> None:
    texts = ["患者咳嗽发热", "咳嗽三天", "右下腹痛", "腹痛伴呕吐"] * 3
    targets = np.array([[True], [True], [False], [False]] * 3)
    model = SparseModel.fit(texts, targets, ["J18.9"])
    probs = model.predict(["反复咳嗽", "下腹痛"])[:, 0]
    assert probs[0] > 0.5 > probs[1]
    assert [w for w, _, _ in tokens("ct示肺炎 38度")] == ["ct", "示", "肺", "炎", "38", "度"]


def test_out_of_fold_rows_come_from_the_other_folds_only() -> None:
    folds = np.array([0] * 6 + [1] * 6 + [-1] * 6)
    probs = out_of_fold(TEXTS, TARGETS, folds)
    assert np.isnan(probs[12:]).all()
    alone = SparseModel.fit(TEXTS[6:], TARGETS[6:], CODES).predict(TEXTS[:6])
    assert probs[:6, :2] == pytest.approx(alone[:, :2], abs=0.05)


def test_weights_say_how_much_a_text_counts() -> None:
    texts = ["tos seca", "tos húmeda", "fiebre"] * 4
    targets = np.array([[True], [False], [False]] * 4)
    trusted, doubted = (
        SparseModel.fit(texts, targets, ["c"], weights_N=np.array([1.0, w, 1.0] * 4))
        for w in (10.0, 0.01)
    )
    assert doubted.predict(["tos"]) > trusted.predict(["tos"])


def test_a_saved_model_says_the_same(model: SparseModel, tmp_path: Path) -> None:
    model.save(tmp_path / "sparse")
    loaded = SparseModel.load(tmp_path / "sparse")
    assert loaded.predict(TEXTS) == pytest.approx(model.predict(TEXTS), abs=1e-6)
    for one, other in zip(
        loaded.evidence(TEXTS[0], "J18.9"), model.evidence(TEXTS[0], "J18.9"), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=200))
def test_any_text_gets_an_answer_and_sound_offsets(text: str) -> None:
    model = SparseModel.fit(TEXTS[:6], TARGETS[:6, :1], CODES[:1])
    assert np.isfinite(model.predict([text])).all()
    assert all(0 <= s.start < s.end <= len(text) for s in model.evidence(text, "J18.9"))
    assert all(fold(text).text[s:e] == word for word, s, e in tokens(fold(text).text))


def test_wrong_shapes_unknown_codes_and_foreign_folders_are_refused(
    model: SparseModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="needed targets of shape"):
        SparseModel.fit(["a"], np.zeros((2, 1), bool), ["c"])
    with pytest.raises(UnknownCode):
        model.evidence("tos", "Z99")
    with pytest.raises(CheckpointError):
        SparseModel.load(tmp_path)
