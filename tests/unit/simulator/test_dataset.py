from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from label_config.errors import ConfigError, DataError
from label_config.files import read_codings, read_emrs
from simulator import dataset as dataset_module
from simulator.card import text_free_ceiling, write_card
from simulator.dataset import CHUNKS_PER_GROUP, DATASETS, DatasetConfig, write_dataset
from simulator.rates import noise_rows, rate_rows
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


def test_row_groups_are_written_as_they_come_a_few_chunks_each(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "CHUNK", 10)
    emrs = 10 * CHUNKS_PER_GROUP + 1
    write_dataset(tmp_path, DatasetConfig(emrs=emrs))
    for name in ("emrs", "gold", "about"):
        groups = pq.ParquetFile(tmp_path / f"{name}.parquet").metadata
        assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [emrs - 1, 1]


def test_dataset_b_holds_raw_emrs_of_patients_who_are_not_in_a(folder, tmp_path):
    write_dataset(tmp_path, replace(DATASETS["B"], emrs=40, seed=CONFIG.seed))
    raw = read_dataset(tmp_path)
    assert set(raw.shares) == {"raw"} and not raw.errors
    assert all(not emr.diagnoses for emr in raw.emrs)
    patients = {emr.patient_id for emr in read_dataset(folder).emrs}
    assert patients.isdisjoint(emr.patient_id for emr in raw.emrs)
    assert "real records" in write_card(tmp_path).read_text()


def test_dataset_a_is_a_quarter_clean_and_split_6_2_2():
    a = DATASETS["A"]
    assert (a.clean, a.raw, a.train, a.validation) == (0.25, 0.0, 0.6, 0.2)


def test_the_check_finds_the_noise_that_was_asked_for(folder):
    rows = {row.id: row for row in noise_rows(read_dataset(folder))}
    assert rows["noise: missing"].value == pytest.approx(0.12, abs=0.02)
    assert rows["noise: extra"].value == 0


def test_the_check_measures_sections_and_codes(folder, pack):
    rows = {row.id: row for row in rate_rows(read_dataset(folder), pack, pack.codes[:50])}
    assert rows["codes per EMR"].met
    assert rows["specialist condition present"].value == pytest.approx(0.63, abs=0.06)


def test_the_card_names_statistics_settings_and_hashes_and_shows_the_plots(folder):
    path = write_card(folder, noise_rows(read_dataset(folder)))
    card = path.read_text()
    for part in ("words per EMR", "text-free ceiling", '"profile": "hph"', '"seed": 2', "728"):
        assert part in card
    assert card.count(".parquet | ") == 4
    assert "| noise: missing | 0.12 | 0.11 to 0.13 |" in card
    assert "(card.png)" in card
    assert (folder / "card.png").read_bytes().startswith(b"\x89PNG")


def test_sex_and_age_alone_do_not_give_the_codes_away(folder):
    dataset = read_dataset(folder)
    assert 0.1 < text_free_ceiling(dataset.emrs, dataset.gold) < 0.6


def test_a_folder_without_a_dataset_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no dataset"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("shares", [{"train": 0.9, "validation": 0.2}, {"train": 0.0}])
def test_splits_that_leave_no_training_or_exceed_one_are_refused(shares):
    with pytest.raises(ConfigError, match="train must be above 0"):
        DatasetConfig(**shares)


def test_shares_that_exceed_one_are_refused():
    with pytest.raises(ConfigError, match="sum to at most 1"):
        DatasetConfig(clean=0.7, raw=0.5)
