from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from label_config.errors import CheckpointError, ConfigError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import Taxonomy
from training import phrase_model, phrases
from training.phrase_model import PhraseConfig, PhraseModel
from training.surroundings import CodeSurroundings

CODES = ["E11.9", "I10", "J18.9", "K35.8"]
Ward = tuple[list[EMR], list[Coding]]


@pytest.fixture(scope="module")
def model(ward: Ward, four_codes: Taxonomy) -> PhraseModel:
    return PhraseModel.fit(ward[0][:32], ward[1][:32], four_codes, CODES)


def test_highlights_find_the_codes_of_unseen_records(model: PhraseModel, ward: Ward) -> None:
    truth = np.array([[code in c.codes for code in CODES] for c in ward[1][32:]])
    assert ((model.scores(ward[0][32:]) > 0.5) == truth).all()


def pain(i: int) -> tuple[EMR, Coding]:
    """Pain of the chest is one code, any other pain another."""
    chest = i % 2 == 0
    text = "Slept well. " * (i // 2 % 5) + f"Has pain of the {'chest' if chest else 'belly'} today."
    emr = EMR(f"p{i}", {"Illness": text})
    code, start = ("I10" if chest else "K35.8"), text.index("pain")
    span = EvidenceSpan(code, "Illness", start, start + 4)
    return emr, Coding(emr.emr_id, (code,), "clean", evidence=(span,))


def test_the_words_around_tell_one_code_from_another(four_codes: Taxonomy) -> None:
    emrs, codings = zip(*(pain(i) for i in range(40)), strict=True)
    model = PhraseModel.fit(emrs, codings, four_codes, CODES)
    texts = ("Slept well. There is pain of the chest.", "Slept well. There is pain in the belly.")
    probe = [EMR(f"new {i}", {"Illness": text}) for i, text in enumerate(texts)]
    scores = model.scores(probe)
    assert scores[0, 1] > 0.7 > 0.3 > scores[0, 3]
    assert scores[1, 3] > 0.7 > 0.3 > scores[1, 1]


def test_evidence_is_the_phrase_at_its_place(model: PhraseModel) -> None:
    emr = EMR("new", {"Illness": "Today thirst and high glucose."})
    spans = [s for s in model.mentions(emr) if s.code == "E11.9"]
    assert "thirst and h" in {emr.sections["Illness"][s.start : s.end][:12] for s in spans}
    assert all(model.config.shown <= s.score <= 1 for s in spans)


def test_an_emr_is_read_once_for_its_scores_and_mentions(
    model: PhraseModel, ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[EMR] = []

    def counted(emrs: list[EMR]) -> list[phrases.Reading]:
        reads.extend(emrs)
        return phrases.read(emrs)

    monkeypatch.setattr(phrase_model, "read", counted)
    for emr in ward[0][:2]:
        model.scores([emr])
        assert model.mentions(emr) == PhraseModel.mentions(model, replace(emr))
    assert reads == [emr for emr in ward[0][:2] for _ in range(2)]


def test_a_finished_emr_changes_the_next_scores(ward: Ward, four_codes: Taxonomy) -> None:
    model = PhraseModel.fit(*ward, four_codes, CODES)
    seen, later = (EMR(i, {"Illness": "Known HbA1c of nine."}) for i in ("n1", "n2"))
    assert model.scores([later])[0, 0] == 0
    span = EvidenceSpan("E11.9", "Illness", 6, 11)
    model.learn(seen, Coding("n1", ("E11.9",), "clean", evidence=(span,)))
    assert model.scores([later])[0, 0] > 0.2


def test_a_saved_one_says_the_same(model: PhraseModel, ward: Ward, tmp_path: Path) -> None:
    model.save(tmp_path / "phrases")
    loaded = PhraseModel.load(tmp_path / "phrases")
    assert np.allclose(loaded.scores(ward[0]), model.scores(ward[0]))
    assert loaded.mentions(ward[0][0]) == model.mentions(ward[0][0])


def test_training_twice_gives_the_same_scores(
    model: PhraseModel, ward: Ward, four_codes: Taxonomy
) -> None:
    again = PhraseModel.fit(ward[0][:32], ward[1][:32], four_codes, CODES)
    assert (again.scores(ward[0]) == model.scores(ward[0])).all()


def test_codings_without_any_code_leave_the_names(four_codes: Taxonomy) -> None:
    emrs = [EMR(f"e{i}", {"Illness": "Nothing to report."}) for i in range(6)]
    model = PhraseModel.fit(emrs, [Coding(e.emr_id, (), "clean") for e in emrs], four_codes, CODES)
    assert model.scores([EMR("new", {"Illness": "pneumonia"})])[0, 2] == pytest.approx(0.5)
    assert not model.scores(emrs).any()


def test_a_missing_coding_a_foreign_folder_and_bad_settings_are_refused(
    ward: Ward, four_codes: Taxonomy, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="one coding per EMR"):
        PhraseModel.fit(ward[0], ward[1][:3], four_codes, CODES)
    with pytest.raises(CheckpointError):
        PhraseModel.load(tmp_path)
    with pytest.raises(ConfigError, match="folds"):
        PhraseConfig(folds=1)


def test_the_order_in_which_words_were_read_changes_nothing() -> None:
    own = CodeSurroundings(0.0, 1.0, {f"~:{i}": 0.1 * i for i in range(1, 9)})
    words = list(own.weights)
    there, back = (own.logits(np.zeros(1), [order]) for order in (words, words[::-1]))  # type: ignore[list-item]
    assert sum(own.weights.values()) != sum(reversed(own.weights.values()))
    assert there == back
