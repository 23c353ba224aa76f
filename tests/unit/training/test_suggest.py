import dataclasses
from pathlib import Path

import numpy as np
import pytest

from label_config.errors import CheckpointError, ConfigError, DataError
from label_config.record import DIAGNOSIS_SECTION, EMR, Coding, Diagnosis, EvidenceSpan
from label_config.taxonomy import CodeEntry, Taxonomy
from training.encoder import Encoder
from training.extractor import ExtractorConfig
from training.similarity import NameMapper
from training.stages import CleanConfig, NoisyConfig, RawConfig, StagesConfig
from training.suggest import Suggester
from training.suggester_config import SuggesterConfig

Ward = tuple[list[EMR], list[Coding]]
CODES = ["E11.9", "I10", "J18.9", "K35.8"]
CONFIG = SuggesterConfig(folds=3)


@pytest.fixture(scope="module")
def pool(ward: Ward, four_codes: Taxonomy) -> Ward:
    """The ward's EMRs, now with diagnosis names, and their codes."""
    emrs, codings = ward
    named = [
        dataclasses.replace(
            emr, diagnoses=tuple(Diagnosis(four_codes.title(c)) for c in coding.codes)
        )
        for emr, coding in zip(emrs, codings, strict=True)
    ]
    return named, codings


@pytest.fixture(scope="module")
def cold(pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder) -> Suggester:
    emrs = pool[0][:30]
    names = [d.name for emr in emrs for d in emr.diagnoses]
    noisy = NameMapper.fit(names, four_codes, CODES, tiny_encoder).auto_label(emrs)
    return Suggester.train(
        emrs, noisy, [], codes=CODES, taxonomy=four_codes, encoder=tiny_encoder, config=CONFIG
    )


def train(pool: Ward, taxonomy: Taxonomy, encoder: Encoder, n: int = 30) -> Suggester:
    return Suggester.train(
        pool[0], [], pool[1][:n], codes=CODES, taxonomy=taxonomy, encoder=encoder, config=CONFIG
    )


@pytest.fixture(scope="module")
def warm(pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder) -> Suggester:
    return train(pool, four_codes, tiny_encoder)


def test_the_cold_start_ticks_what_the_names_say(cold: Suggester, pool: Ward) -> None:
    for said, coding in zip(cold.suggest(pool[0][30:]), pool[1][30:], strict=True):
        assert {s.code for s in said.ticked()} == set(coding.codes)
        assert said.similar == ()
    assert "micro_f1" not in cold.validation


def test_a_trained_one_finds_codes_from_the_text_alone(warm: Suggester, pool: Ward) -> None:
    emrs = [dataclasses.replace(emr, diagnoses=()) for emr in pool[0][30:]]
    for said, coding in zip(warm.suggest(emrs), pool[1][30:], strict=True):
        assert {s.code for s in said.ticked()} == set(coding.codes)
        assert "names" not in said.suggestions[0].members
    assert warm.validation["micro_f1"] > 0.9
    assert warm.validation["clean_emrs"] == 30


def test_suggestions_are_ordered_quote_the_record_and_name_who_spoke(
    warm: Suggester, pool: Ward
) -> None:
    emr, coding = pool[0][40], pool[1][40]
    (said,) = warm.suggest([emr])
    first = said.suggestions[0]
    assert first.code in coding.codes
    assert set(first.members) <= {"names", "lexicon", "phrases", "sparse"}
    sections = {span.section for span in first.evidence}
    assert DIAGNOSIS_SECTION in sections and "Illness" in sections
    for suggestion in said.suggestions:
        for span in suggestion.evidence:
            assert span.code == suggestion.code
            text = emr.text_of(span.section)
            assert text[span.start : span.end] == text[span.start : span.end].strip() != ""
    title = next(s for s in first.evidence if s.section == DIAGNOSIS_SECTION)
    assert emr.diagnosis_text[title.start : title.end] in [d.name for d in emr.diagnoses]
    assert said.threshold == warm.threshold and said.model_version == warm.version


def test_similar_cases_are_other_clean_emrs(warm: Suggester, pool: Ward) -> None:
    (said,) = warm.suggest([pool[0][3]])
    assert len(said.similar) == 3
    assert pool[0][3].emr_id not in {case.emr_id for case in said.similar}
    assert {case.emr_id for case in said.similar} <= set(warm.clean_ids)


def test_an_accepted_highlight_changes_the_next_suggestion(
    pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder
) -> None:
    model = train(pool, four_codes, tiny_encoder)
    seen = EMR("new-1", {"Illness": "Known HbA1c of nine percent."})
    later = EMR("new-2", {"Illness": "Comes with HbA1c of nine percent again."})
    before = model.predict([later])[0, 0]
    start = seen.sections["Illness"].index("HbA1c")
    evidence = (EvidenceSpan("E11.9", "Illness", start, start + 5),)
    model.learn(seen, Coding("new-1", ("E11.9",), "clean", evidence=evidence))
    (said,) = model.suggest([later])
    found = next(s for s in said.suggestions if s.code == "E11.9")
    assert found.confidence > before + 0.2
    strongest = found.evidence[0]
    assert later.sections["Illness"][strongest.start : strongest.end] == "HbA1c"
    twin = EMR("new-3", dict(seen.sections))
    assert model.suggest([twin])[0].similar[0].emr_id == "new-1"


def test_a_coding_marked_bad_teaches_nothing(
    pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder
) -> None:
    model = train(pool, four_codes, tiny_encoder)
    before = model.predict(pool[0][30:])
    model.learn(pool[0][31], Coding(pool[0][31].emr_id, (), "clean", quality="bad"))
    assert (model.predict(pool[0][30:]) == before).all()


def test_a_saved_one_says_the_same(
    warm: Suggester, pool: Ward, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    warm.save(tmp_path / "model", version="v7-abc")
    loaded = Suggester.load(tmp_path / "model")
    assert loaded.version == "v7-abc"
    assert loaded.codes == tuple(CODES)
    assert loaded.described is None, "no code was new, so no folder of them was written"
    assert (loaded.threshold, loaded.validation) == (warm.threshold, warm.validation)
    assert np.allclose(loaded.predict(pool[0]), warm.predict(pool[0]), atol=1e-4)
    assert not list((tmp_path / "model").rglob("*.pkl"))


def test_training_twice_gives_the_same_model(
    warm: Suggester, pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder
) -> None:
    again = train(pool, four_codes, tiny_encoder)
    assert again.version == warm.version
    assert (again.predict(pool[0]) == warm.predict(pool[0])).all()


def test_the_network_and_its_nearest_emrs_join_when_asked(
    pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    stages = StagesConfig(
        extractor=ExtractorConfig(hidden=16),
        raw=RawConfig(epochs=1),
        noisy=NoisyConfig(epochs=1),
        clean=CleanConfig(epochs=2),
    )
    model = Suggester.train(
        pool[0][:40],
        [],
        pool[1][:30],
        codes=CODES,
        taxonomy=four_codes,
        encoder=tiny_encoder,
        config=dataclasses.replace(CONFIG, network=stages),
        raw=pool[0][40:],
    )
    assert model.fusion.members == ("names", "lexicon", "phrases", "sparse")
    assert model.fusion.late.members == ("network", "knn")
    assert {"network_f1", "knn_weight"} <= set(model.validation)
    model.save(tmp_path / "model")
    loaded = Suggester.load(tmp_path / "model", tiny_encoder)
    (before,), (after,) = model.suggest(pool[0][40:41]), loaded.suggest(pool[0][40:41])
    assert [s.code for s in before.suggestions] == [s.code for s in after.suggestions]
    assert any("network" in s.members for s in before.suggestions)
    assert len(before.similar) == 3


def test_what_has_no_free_text_is_no_matter_for_the_network(
    pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder
) -> None:
    emrs, codings = list(pool[0]), list(pool[1])
    for i, code in enumerate(CODES * 2):
        emrs.append(EMR(f"names-{i}", {"Course": "..."}, (Diagnosis(four_codes.title(code)),)))
        codings.append(Coding(f"names-{i}", (code,), "clean"))
    stages = StagesConfig(
        extractor=ExtractorConfig(hidden=16), raw=RawConfig(epochs=1), clean=CleanConfig(epochs=2)
    )
    model = Suggester.train(
        emrs,
        [],
        codings,
        codes=CODES,
        taxonomy=four_codes,
        encoder=tiny_encoder,
        config=dataclasses.replace(CONFIG, network=stages),
    )
    asked = EMR("asked", {}, (Diagnosis(four_codes.title("I10")),))
    other = dataclasses.replace(pool[0][0], emr_id="other")
    said, beside = model.suggest([asked, other])
    twin = dataclasses.replace(other, emr_id="asked")  # a task may come twice, with another text
    _, of_text = model.suggest([asked, twin])
    assert of_text.similar == beside.similar != said.similar
    assert said.suggestions[0].code == "I10"
    assert not any({"network", "knn"} & set(s.members) for s in said.suggestions)
    assert any("network" in s.members for s in beside.suggestions)
    network = model.members.network
    assert network is not None and len(network.datastore) == len(pool[0])
    model.learn(asked, Coding("asked", ("I10",), "clean"))
    assert "asked" not in network.datastore and "names-0" not in network.datastore
    (again,) = model.suggest([dataclasses.replace(asked, emr_id="again")])
    assert again.similar[0].emr_id == "asked"


def test_the_version_names_its_number_and_its_data(cold: Suggester, warm: Suggester) -> None:
    assert cold.version.startswith("v1-") and len(cold.version) == 11
    assert cold.version != warm.version


@pytest.mark.parametrize(
    "sections",
    [{"A": "?"}, {"A": "", "B": "咳嗽发热三天"}, {"A": "fever " * 20_000}, {"A": "\u0301\n\x00 "}],
)
def test_odd_records_get_an_answer(warm: Suggester, sections: dict[str, str]) -> None:
    (said,) = warm.suggest([EMR("odd", sections)])
    assert all(0 <= s.confidence <= 1 for s in said.suggestions)


def test_an_emr_without_text_cannot_be_made() -> None:
    with pytest.raises(DataError, match="needs text"):
        EMR("empty", {"A": "", "B": " \n"})


def test_fifty_thousand_words_get_an_answer_with_every_code_once(warm: Suggester) -> None:
    words = "cough and fever with crackles in the chest "
    (said,) = warm.suggest([EMR("long", {"A": words * 6_250})])
    assert said.suggestions[0].code == "J18.9"
    assert len({s.code for s in said.suggestions}) == len(said.suggestions)
    assert all(len(s.evidence) <= 6 for s in said.suggestions)


def test_codes_outside_the_set_teach_nothing_and_do_no_harm(
    pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder
) -> None:
    model = train(pool, four_codes, tiny_encoder)
    before = model.predict(pool[0][30:])
    foreign = Coding(pool[0][31].emr_id, ("Z99.9",), "clean", evidence=())
    empty = Coding(pool[0][31].emr_id, (), "clean")
    model.learn(pool[0][31], foreign)
    after_foreign = model.predict(pool[0][30:])
    model.learn(pool[0][31], empty)
    assert (model.predict(pool[0][30:]) == after_foreign).all()
    assert after_foreign.shape == before.shape


def test_codes_that_no_emr_has_are_never_ticked(
    pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder
) -> None:
    emrs = [dataclasses.replace(emr, diagnoses=()) for emr in pool[0]]
    none = [Coding(emr.emr_id, (), "clean") for emr in emrs[:30]]
    model = Suggester.train(
        emrs, [], none, codes=CODES, taxonomy=four_codes, encoder=tiny_encoder, config=CONFIG
    )
    assert not any(said.ticked() for said in model.suggest(emrs[30:]))


def test_a_promise_of_few_missed_codes_ticks_more(
    pool: Ward, four_codes: Taxonomy, tiny_encoder: Encoder
) -> None:
    config = dataclasses.replace(CONFIG, miss=0.1)
    model = Suggester.train(
        pool[0],
        [],
        pool[1][:30],
        codes=CODES,
        taxonomy=four_codes,
        encoder=tiny_encoder,
        config=config,
    )
    assert model.validation["promise_kept"] and model.validation["recall"] >= 0.9
    with pytest.raises(ConfigError, match="miss"):
        SuggesterConfig(miss=1.5)


def test_a_code_that_nobody_has_given_is_suggested_by_its_name(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    organs = "gastr nephr bronch dermat arthr hepat cyst mening pancreat append sinus tonsill"
    names = [f"{organ}itis of the {side}" for organ in organs.split() for side in ("ward", "town")]
    codes = [f"A{i:02d}" for i in range(24)]
    entries = [CodeEntry(c, n, None, "category") for c, n in zip(codes, names, strict=True)]
    emrs = [EMR(f"e{i}", {"Text": f"Came in. Found was a {name}."}) for i, name in enumerate(names)]
    clean = [Coding(f"e{i}", (code,), "clean") for i, code in enumerate(codes[:22])]
    model = Suggester.train(
        emrs, [], clean, codes=codes, taxonomy=Taxonomy("t", entries), encoder=tiny_encoder
    )
    assert model.described is not None and model.described.codes == tuple(codes[22:])
    fused_NK = model.fusion.combine(model.members.scores(emrs))
    assert (model.predict(emrs)[:, :22] == fused_NK[:, :22]).all(), "codes seen are untouched"
    (said,) = model.suggest([EMR("new", {"Text": "A tonsillitiss, he says, of his town."})])
    first = said.suggestions[0]
    assert first.code == codes[-1] and set(first.members) == {"described"}
    assert [span.section for span in first.evidence] == ["Text"]
    model.save(tmp_path / "model")
    loaded = Suggester.load(tmp_path / "model", tiny_encoder)
    assert np.allclose(loaded.predict(emrs), model.predict(emrs), atol=1e-4)


def test_nothing_to_suggest_for_is_no_error(warm: Suggester) -> None:
    assert warm.suggest([]) == []
    assert warm.predict([]).shape == (0, 4)


def test_foreign_folders_other_encoders_and_empty_training_are_refused(
    warm: Suggester, four_codes: Taxonomy, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError):
        Suggester.load(tmp_path)
    warm.save(tmp_path / "model")
    (tmp_path / "model" / "lexicon" / "votes.parquet").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"votes\.parquet"):
        Suggester.load(tmp_path / "model")
    with pytest.raises(ConfigError, match="needed EMRs and codes"):
        Suggester.train([], [], [], codes=CODES, taxonomy=four_codes, encoder=tiny_encoder)
    with pytest.raises(ConfigError, match="folds"):
        SuggesterConfig(folds=1)
