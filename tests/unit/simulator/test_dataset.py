import pytest

from label_config.errors import ConfigError, DataError
from label_config.files import read_codings, read_emrs
from simulator.card import text_free_ceiling, write_card
from simulator.check import noise_rows, rate_rows
from simulator.dataset import DatasetConfig, write_dataset
from simulator.reader import read_dataset

CONFIG = DatasetConfig(emrs=700, codes=50, raw=0.1, seed=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    seen = []
    write_dataset(folder, CONFIG, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(500, 700), (700, 700)]
    return folder


def test_two_processes_write_the_same_bytes_as_one(folder, tmp_path):
    write_dataset(tmp_path, CONFIG, processes=2)
    for name in ("emrs", "gold", "about", "errors"):
        assert (tmp_path / f"{name}.parquet").read_bytes() == (
            folder / f"{name}.parquet"
        ).read_bytes()


def test_the_tables_are_files_of_the_project(folder):
    assert len(read_emrs(folder / "emrs.parquet").records) == 700
    assert len(read_codings(folder / "gold.parquet").records) == 700


def test_a_patient_stands_in_one_split_only(folder):
    dataset = read_dataset(folder)
    splits = {}
    for emr, split in zip(dataset.emrs, dataset.splits, strict=True):
        assert splits.setdefault(emr.patient_id, split) == split


def test_splits_and_shares_have_the_sizes_asked_for(folder):
    dataset = read_dataset(folder)
    assert len(dataset.of(split="train")) / 700 == pytest.approx(0.6, abs=0.06)
    assert len(dataset.of(share="clean")) / 700 == pytest.approx(0.25, abs=0.06)
    assert len(dataset.of(share="raw")) / 700 == pytest.approx(0.1, abs=0.05)


def test_raw_emrs_have_no_diagnosis_names(folder):
    dataset = read_dataset(folder)
    assert all(not dataset.emrs[i].diagnoses for i in dataset.of(share="raw"))


def test_the_check_finds_the_noise_that_was_asked_for(folder):
    rows = {row.id: row for row in noise_rows(read_dataset(folder))}
    assert rows["noise: missing"].value == pytest.approx(0.12, abs=0.02)
    assert rows["noise: extra"].value == 0


def test_the_check_measures_sections_and_codes(folder, pack):
    rows = {row.id: row for row in rate_rows(read_dataset(folder), pack, pack.codes[:50])}
    assert rows["codes per EMR"].met
    assert rows["specialist condition present"].value == pytest.approx(0.63, abs=0.06)


def test_the_card_names_statistics_settings_and_hashes(folder):
    card = write_card(folder).read_text()
    assert "words per EMR" in card and '"profile": "hph"' in card and "emrs.parquet" in card


def test_sex_and_age_alone_do_not_give_the_codes_away(folder):
    dataset = read_dataset(folder)
    assert 0.1 < text_free_ceiling(dataset.emrs, dataset.gold) < 0.6


def test_a_folder_without_a_dataset_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no dataset"):
        read_dataset(tmp_path)


def test_shares_that_exceed_one_are_refused():
    with pytest.raises(ConfigError, match="sum to at most 1"):
        DatasetConfig(clean=0.7, raw=0.5)
