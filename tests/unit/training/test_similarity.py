import copy
from pathlib import Path

import numpy as np
import pytest

from label_config.errors import CheckpointError, ConfigError
from label_config.record import EMR, Diagnosis
from label_config.taxonomy import CodeEntry, Taxonomy
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.encoder import Encoder
from training.similarity import NameMapper, SimilarityConfig

ENTRIES = {
    "E11.9": (
        "Type 2 diabetes mellitus",
        ("adult onset diabetes", "non insulin dependent diabetes"),
    ),
    "I10": ("Essential hypertension", ("high blood pressure", "arterial hypertension")),
    "J18.9": ("Pneumonia", ("lung infection", "pneumonia of the lung")),
    "K35.8": ("Acute appendicitis", ("inflamed appendix", "appendicitis with fever")),
    "S52.5": ("Fracture of the radius", ()),
    "H25.9": ("Senile cataract", ()),
}
CODES = ["E11.9", "I10", "J18.9", "K35.8"]
TITLES = {ENTRIES[code][0]: code for code in CODES}


class LetterEncoder:
    """Counts letters: an encoder that knows spelling and nothing of meaning."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, texts: list[str]) -> np.ndarray:
        self.seen += texts
        counts = np.array([[t.count(chr(97 + i)) for i in range(26)] for t in texts], np.float32)
        counts = counts.reshape(len(texts), 26)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy("t", [CodeEntry(c, t, None, "category", s) for c, (t, s) in ENTRIES.items()])


@pytest.fixture(scope="module")
def mapper(taxonomy: Taxonomy) -> NameMapper:
    names = ["Pneumonia", "hypertension essential", "diabetes type 2"]
    return NameMapper.fit(names, taxonomy, CODES, LetterEncoder(), synonyms={"I10": ["HTA"]})


def test_official_names_misspellings_and_synonyms_find_their_code(mapper: NameMapper) -> None:
    names = ["Acute appendicitis", "acute apendicitis", "HTA", "PNEUMONIA.", "lung infection"]
    assert [m.code for m in mapper.map(names)] == ["K35.8", "K35.8", "I10", "J18.9", "J18.9"]


def test_an_exact_name_is_surer_than_a_spoilt_one(mapper: NameMapper) -> None:
    exact, spoilt = mapper.map(["Type 2 diabetes mellitus", "diab 2 melitus tipe"])
    assert exact.confidence > spoilt.confidence
    assert exact.confidence > 0.8


def test_a_name_that_fits_nothing_gets_no_code(mapper: NameMapper) -> None:
    strange = mapper.map(["xyzzy qqq", "", "   "])
    assert [m.code for m in strange] == [None, None, None]


def test_candidates_fall_in_confidence_and_hold_each_code_once(mapper: NameMapper) -> None:
    (match,) = mapper.map(["high blood presure"])
    confidences = [p for _, p in match.candidates]
    assert confidences == sorted(confidences, reverse=True)
    assert len({code for code, _ in match.candidates}) == len(match.candidates) == 4
    assert match.confidence == confidences[0]


def test_equal_names_are_encoded_once(taxonomy: Taxonomy) -> None:
    encoder = LetterEncoder()
    mapper = NameMapper.fit([], taxonomy, CODES, encoder)
    encoder.seen.clear()
    mapper.map(["Lung infarct", "lung infarct", "LUNG INFARCT "] * 5)
    assert len(encoder.seen) <= 1


def test_auto_label_keeps_the_names_order_and_the_best_confidence(mapper: NameMapper) -> None:
    names = ["lung infection", "Essential hypertension", "Pneumonia", "zzz qqq"]
    emr = EMR("e1", {}, tuple(Diagnosis(name) for name in names))
    (coding,) = mapper.auto_label([emr])
    best = max(m.confidence for m in mapper.map(["lung infection", "Pneumonia"]))
    assert coding.source == "noisy"
    assert coding.codes == ("J18.9", "I10")
    assert coding.confidence[0] == best


def test_a_code_attached_by_the_hospital_is_taken(mapper: NameMapper) -> None:
    emr = EMR("e1", {}, (Diagnosis("zzz qqq", "K35.8"), Diagnosis("Pneumonia", "not in the set")))
    (coding,) = mapper.auto_label([emr])
    assert coding.codes == ("K35.8", "J18.9")
    assert coding.confidence[0] == mapper.config.trusted_code
    assert mapper.scores([emr])[0, CODES.index("K35.8")] == mapper.config.trusted_code


def test_an_emr_without_names_has_no_opinion(mapper: NameMapper) -> None:
    emrs = [EMR("e1", {"Text": "fever"}), EMR("e2", {}, (Diagnosis("Pneumonia"),))]
    scores = mapper.scores(emrs)
    assert np.isnan(scores[0]).all()
    assert scores[1].argmax() == CODES.index("J18.9")


def test_characters_decide_alone_where_the_encoder_is_blind() -> None:
    class Blind:
        def embed(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 4), np.float32) / 2

    titles = {"E11": "2型糖尿病", "I10": "原发性高血压", "J18": "肺炎", "K35": "急性阑尾炎"}
    taxonomy = Taxonomy("zh", [CodeEntry(c, t, None, "category") for c, t in titles.items()])
    mapper = NameMapper.fit(["高血压病"], taxonomy, list(titles), Blind())
    matches = mapper.map(["高血压", "糖尿病", "急性阑尾炎"])
    assert [m.candidates[0][0] for m in matches] == ["I10", "E11", "K35"]


def test_a_saved_mapper_says_the_same(
    taxonomy: Taxonomy, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    mapper = NameMapper.fit(["lung trouble"], taxonomy, CODES, tiny_encoder)
    mapper.save(tmp_path / "names")
    loaded = NameMapper.load(tmp_path / "names", tiny_encoder)
    names = ["pneumonia", "blood pressure", "appendix", "cataract"]
    assert loaded.map(names) == mapper.map(names)
    assert loaded.config == mapper.config


def test_a_mapper_of_another_encoder_is_refused(
    taxonomy: Taxonomy, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    NameMapper.fit([], taxonomy, CODES, tiny_encoder).save(tmp_path / "names")
    other = copy.copy(tiny_encoder)
    other.checksum = "f" * 64
    said = f"names was made with another encoder .{tiny_encoder.checksum[:12]}.*auto-label` again"
    with pytest.raises(CheckpointError, match=said):
        NameMapper.load(tmp_path / "names", other)


def test_a_mapper_kept_before_it_named_its_encoder_is_still_read(
    taxonomy: Taxonomy, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    mapper = NameMapper.fit([], taxonomy, CODES, tiny_encoder)
    mapper.save(tmp_path / "new")
    settings = open_checkpoint(tmp_path / "new", kind="names")
    del settings["encoder"]
    tensors = load_tensors(tmp_path / "new" / "layer.safetensors")
    save_checkpoint(
        tmp_path / "old",
        kind="names",
        config=settings,
        write=lambda to: save_tensors(to / "layer.safetensors", tensors),
    )
    loaded = NameMapper.load(tmp_path / "old", tiny_encoder)
    assert loaded.map(["lung infection"]) == mapper.map(["lung infection"])


def test_a_short_form_is_read_as_the_pool_writes_it_out(taxonomy: Taxonomy) -> None:
    pool = ["severe CAP", "CAP", "community acquired pneumonia", "Essential hypertension"]
    mapper = NameMapper.fit(pool, taxonomy, CODES, LetterEncoder())
    readings = mapper.candidates.abbreviations.readings("CAP")
    assert readings == ("cap", "community acquired pneumonia")
    assert [m.code for m in mapper.map(["CAP", "severe cap"])] == ["J18.9", "J18.9"]


def test_confirmed_names_teach_which_codes_the_words_mean(taxonomy: Taxonomy) -> None:
    mapper = NameMapper.fit([], taxonomy, CODES, LetterEncoder())
    names = [f"Fracture of the {part} bone" for part in "abcdefghijklmnopqrstuvwxyz"] * 2
    before = mapper.map(["fracture of the hip bone"])[0].confidence
    mapper.refine(names[:20], [()] * 20)
    assert mapper.map(["fracture of the hip bone"])[0].confidence == before  # too few
    mapper.refine([*names, *TITLES], [()] * len(names) + [{c} for c in TITLES.values()])
    assert mapper.map(["fracture of the hip bone"])[0].confidence < before
    assert [m.code for m in mapper.map(list(TITLES))] == list(TITLES.values())


def test_a_foreign_folder_is_refused(tmp_path: Path, tiny_encoder: Encoder) -> None:
    with pytest.raises(CheckpointError):
        NameMapper.load(tmp_path, tiny_encoder)


def test_codes_without_any_name_are_refused(taxonomy: Taxonomy) -> None:
    with pytest.raises(ConfigError, match="at least one named code"):
        NameMapper.fit([], taxonomy, ["Z99"], LetterEncoder())
    with pytest.raises(ConfigError, match="no_code_below"):
        SimilarityConfig(no_code_below=1.5)
