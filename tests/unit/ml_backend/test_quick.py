from types import SimpleNamespace

import numpy as np
import pytest

from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import CodeEntry, Taxonomy
from ml_backend.quick import LONGEST, suggest_quickly
from training.fusion import Fusion
from training.lexicon import Lexicon
from training.phrase_model import PhraseModel

CODES = ["E11.9", "J18.9"]
TAXONOMY = Taxonomy(
    "ward",
    [
        CodeEntry("E11.9", "Type 2 diabetes", None, "category"),
        CodeEntry("J18.9", "Pneumonia", None, "category"),
    ],
)


class Names:
    """A mapper to which no name was given."""

    def scores(self, emrs):
        return np.full((len(emrs), len(CODES)), np.nan)


@pytest.fixture(scope="module")
def model() -> SimpleNamespace:
    emrs = [EMR(f"e{i}", {"Course": f"rusty sputum, day {i}, no change"}) for i in range(24)]
    span = EvidenceSpan("J18.9", "Course", 0, len("rusty sputum"))
    clean = [Coding(e.emr_id, ("J18.9",), "clean", evidence=(span,)) for e in emrs]
    lexicon = Lexicon.fit([], [], TAXONOMY, CODES)
    phrases = PhraseModel.fit(emrs, clean, TAXONOMY, CODES)
    return SimpleNamespace(
        codes=CODES,
        members=SimpleNamespace(names=Names(), lexicon=lexicon, phrases=phrases, network=None),
        fusion=Fusion(("names", "lexicon", "phrases", "sparse")),
        config=SimpleNamespace(floor=0.05, max_suggestions=12),
        version="v1",
        threshold=0.5,
    )


def test_a_coder_s_phrase_is_found_in_a_hurry_too(model) -> None:
    (said,) = suggest_quickly(model, [EMR("new", {"Course": "Rusty sputum since Monday."})])
    assert said.suggestions[0].code == "J18.9"
    assert set(said.suggestions[0].members) == {"phrases"}


def test_in_a_very_long_emr_names_and_lexicon_are_all_there_is_time_for(model) -> None:
    long = "Rusty sputum since Monday. Pneumonia. " * (LONGEST // 30)
    said = suggest_quickly(model, [EMR("long", {"Course": long})])[0]
    assert set(said.suggestions[0].members) == {"lexicon"}
    assert said.suggestions[0].evidence


def test_a_model_without_phrases_answers_as_before(model) -> None:
    members = SimpleNamespace(**{**vars(model.members), "phrases": None})
    young = SimpleNamespace(**{**vars(model), "members": members})
    (said,) = suggest_quickly(young, [EMR("new", {"Course": "Pneumonia, rusty sputum."})])
    assert set(said.suggestions[0].members) == {"lexicon"}
