from pathlib import Path

import numpy as np
import pytest

from label_config.errors import CheckpointError, ConfigError
from label_config.record import DIAGNOSIS_SECTION, EMR, Coding, Diagnosis, EvidenceSpan
from label_config.taxonomy import Taxonomy
from training.lexicon import Lexicon, LexiconConfig

CODES = ["E11.9", "I10", "J18.9", "K35.8"]


def emr(text: str, emr_id: str = "e1") -> EMR:
    return EMR(emr_id, {"Illness": text})


def highlighted(record: EMR, code: str, words: str) -> Coding:
    start = record.sections["Illness"].index(words)
    span = EvidenceSpan(code, "Illness", start, start + len(words))
    return Coding(record.emr_id, (code,), "clean", evidence=(span,))


def fit(four_codes: Taxonomy, emrs: list[EMR] = [], codings: list[Coding] = []) -> Lexicon:  # noqa: B006
    return Lexicon.fit(emrs, codings, four_codes, CODES, synonyms={"I10": ["HTA"]})


def test_names_and_synonyms_are_found_with_their_exact_place(four_codes: Taxonomy) -> None:
    record = emr("Conocida  HTA y PNEUMONÍA grave")
    found = {
        s.code: record.text_of(s.section)[s.start : s.end] for s in fit(four_codes).mentions(record)
    }
    assert found == {"I10": "HTA", "J18.9": "PNEUMONÍA"}


def test_a_name_in_the_diagnosis_list_counts_in_that_texts_offsets(four_codes: Taxonomy) -> None:
    record = EMR("e1", {}, (Diagnosis("cough"), Diagnosis("Acute appendicitis")))
    (span,) = fit(four_codes).mentions(record)
    assert span.section == DIAGNOSIS_SECTION
    assert record.diagnosis_text[span.start : span.end] == "Acute appendicitis"


def test_denied_and_family_mentions_stay_silent(four_codes: Taxonomy) -> None:
    lexicon = fit(four_codes)
    record = emr("No pneumonia. Mother had essential hypertension.")
    assert lexicon.mentions(record) == []
    assert not lexicon.scores([record]).any()


def test_one_accepted_highlight_speaks_in_the_next_record(four_codes: Taxonomy) -> None:
    lexicon = fit(four_codes)
    first, second = emr("on metformin since May"), emr("takes Metformin twice a day", "e2")
    assert lexicon.scores([second])[0, 0] == 0
    lexicon.learn(first, highlighted(first, "E11.9", "metformin"))
    score = lexicon.scores([second])[0, 0]
    assert score > 0.7


def test_rejections_silence_a_string(four_codes: Taxonomy) -> None:
    lexicon = fit(four_codes)
    before = lexicon.scores([emr("pneumonia")])[0, 2]
    for i in range(6):
        lexicon.learn(emr("pneumonia", f"r{i}"), Coding(f"r{i}", ("I10",), "clean"))
        after = lexicon.scores([emr("pneumonia")])[0, 2]
        assert after < before or after == 0
        before = after
    assert before == 0


def test_a_coder_who_submits_again_replaces_the_first_answer(four_codes: Taxonomy) -> None:
    once, twice = fit(four_codes), fit(four_codes)
    record = emr("pneumonia")
    twice.learn(record, Coding("e1", (), "clean"))
    for lexicon in (once, twice):
        lexicon.learn(record, Coding("e1", ("J18.9",), "clean"))
    probe = [emr("pneumonia", "other")]
    assert (once.scores(probe) == twice.scores(probe)).all()


def test_noisy_codes_count_less_than_a_coder(four_codes: Taxonomy) -> None:
    records = [emr("pneumonia", f"e{i}") for i in range(3)]
    by = {
        source: fit(four_codes, records, [Coding(r.emr_id, (), source) for r in records])
        for source in ("noisy", "clean")
    }
    assert by["noisy"].scores(records)[0, 2] > by["clean"].scores(records)[0, 2]


def test_counts_are_kept_apart_by_context(four_codes: Taxonomy) -> None:
    records = [emr("no pneumonia", f"e{i}") for i in range(8)]
    codings = [Coding(r.emr_id, ("J18.9",), "clean") for r in records]
    lexicon = fit(four_codes, records, codings)
    assert lexicon.precision("pneumonia", "J18.9", "negated") > 0.8
    assert lexicon.precision("pneumonia", "J18.9", "affirmed") == pytest.approx(0.6)


def test_a_saved_lexicon_says_the_same_and_goes_on_learning(
    four_codes: Taxonomy, ward: tuple[list[EMR], list[Coding]], tmp_path: Path
) -> None:
    emrs, codings = ward
    lexicon = fit(four_codes, emrs, codings)
    lexicon.save(tmp_path / "lexicon")
    loaded = Lexicon.load(tmp_path / "lexicon")
    assert np.allclose(loaded.scores(emrs), lexicon.scores(emrs))
    for each in (lexicon, loaded):
        each.learn(emrs[0], Coding(emrs[0].emr_id, (), "clean"))
    assert np.allclose(loaded.scores(emrs), lexicon.scores(emrs))


def test_evidence_finds_the_codes_of_unseen_records(
    four_codes: Taxonomy, ward: tuple[list[EMR], list[Coding]]
) -> None:
    emrs, codings = ward
    lexicon = fit(four_codes, emrs[:24], codings[:24])
    truth = np.array([[code in c.codes for code in CODES] for c in codings[24:]])
    assert ((lexicon.scores(emrs[24:]) > 0.5) == truth).all()


def test_strings_without_letters_and_codes_outside_the_set_teach_nothing(
    four_codes: Taxonomy,
) -> None:
    record = emr("120/80 and fever")
    lexicon = fit(four_codes)
    lexicon.learn(record, highlighted(record, "E11.9", "120/80"))
    lexicon.learn(record, highlighted(record, "Z99", "fever"))
    assert lexicon.mentions(record) == []


def test_a_foreign_folder_and_a_bad_setting_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        Lexicon.load(tmp_path)
    with pytest.raises(ConfigError, match="min_precision"):
        LexiconConfig(min_precision=2)
