import numpy as np
import pytest

from label_config.errors import ConfigError
from label_config.record import EMR
from label_config.taxonomy import CodeEntry, Taxonomy
from training.encoder import Encoder
from training.zero_shot import ZeroShot, ZeroShotConfig

TAXONOMY = Taxonomy(
    "t",
    [
        CodeEntry("J45", "Asthma", None, "category"),
        CodeEntry("J45.2", "Mild intermittent", "J45", "subcategory"),
        CodeEntry("K35", "Acute appendicitis", None, "category", ("inflamed appendix",)),
        CodeEntry("I10", "Essential hypertension", None, "category"),
    ],
)
CODES = ["J45.2", "K35", "I10"]


@pytest.fixture(scope="module")
def scorer(tiny_encoder: Encoder) -> ZeroShot:
    return ZeroShot(CODES, TAXONOMY, tiny_encoder, synonyms={"I10": ["raised tension"]})


def emr(text: str) -> EMR:
    return EMR("e1", {"Text": text})


def test_a_code_is_found_by_any_of_its_names(scorer: ZeroShot) -> None:
    texts = ["Seen today. An inflamed appendix was removed.", "Known raised tension; stable."]
    scores = scorer.scores([emr(text) for text in texts])
    assert scores.argmax(axis=1).tolist() == [1, 2]
    assert ((scores >= 0) & (scores <= 1)).all()


def test_the_category_stands_in_for_a_code_that_is_not_named(scorer: ZeroShot) -> None:
    (scores,) = scorer.scores([emr("He has had asthma since childhood.")])
    assert scores.argmax() == 0


def test_without_back_off_only_the_codes_own_names_count(tiny_encoder: Encoder) -> None:
    config = ZeroShotConfig(encoder_share=0.0, back_off=0.0)
    scorer = ZeroShot(CODES, TAXONOMY, tiny_encoder, config=config)
    assert scorer.scores([emr("asthma")]).tolist() == [[0.0, 0.0, 0.0]]


def test_an_emr_without_a_sentence_scores_nothing(scorer: ZeroShot) -> None:
    assert not scorer.scores([emr("..")]).any()
    assert scorer.scores([]).shape == (0, 3)


def test_sentences_in_several_parts_score_as_in_one(
    scorer: ZeroShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [emr("Asthma. Inflamed appendix. Nothing else; raised tension.")]
    whole = scorer.scores(records)
    monkeypatch.setattr("training.zero_shot._CELLS_AT_ONCE", 1)
    np.testing.assert_allclose(scorer.scores(records), whole, atol=1e-5)


def test_settings_that_make_no_sense_are_refused(tiny_encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="encoder_share"):
        ZeroShotConfig(encoder_share=1.5)
    with pytest.raises(ConfigError, match="shortest"):
        ZeroShotConfig(shortest=9, longest=3)
    with pytest.raises(ConfigError, match="named code"):
        ZeroShot(["Z1"], TAXONOMY, tiny_encoder)
