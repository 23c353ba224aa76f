import json

import pytest
import typer

from label_config.errors import DataError
from ml_backend.commands.data import simulate_check
from simulator import check
from simulator.check import check_dataset
from simulator.dataset import DatasetConfig, write_dataset
from simulator.rates import Row


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked")
    write_dataset(folder, DatasetConfig(emrs=60))
    return folder


@pytest.fixture
def judge_noise_alone(monkeypatch):
    """Sixty EMRs say little of anything else."""
    monkeypatch.setattr(check, "rate_rows", lambda *_: [])
    monkeypatch.setattr(check, "noise_rows", lambda data: [_share_of_missing(data)])


def _share_of_missing(dataset):
    asked = dataset.settings["noise"]["missing"]
    return Row("missing", asked, asked - 0.1, asked + 0.1, dataset.error_rates()["missing"])


def test_the_command_ends_in_peace_when_every_row_is_in_its_band(folder, judge_noise_alone):
    simulate_check(folder, baselines=False)


def test_the_command_ends_with_1_when_a_row_is_off_and_names_it(
    folder, judge_noise_alone, tmp_path, capsys
):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    about = json.loads((tmp_path / "dataset.json").read_text())
    about["settings"]["noise"]["missing"] = 0.6
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(typer.Exit) as ended:
        simulate_check(tmp_path, baselines=False, json_file=tmp_path / "rows.json")
    assert ended.value.exit_code == 1
    assert "outside their band: missing" in capsys.readouterr().err
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["met"] is False and row["target"] == 0.6


def test_every_rate_is_told_with_its_band(folder):
    rows = {row.id: row for row in check_dataset(folder, baselines=False)}
    assert {"words per EMR", "standard name in the long text", "noise: vague"} <= rows.keys()
    assert all(row.low <= row.high for row in rows.values())


def test_a_row_without_a_value_is_neither_met_nor_off():
    assert Row("x", None, 0.0, 1.0, None).met is None
    assert Row("x", None, 0.2, 0.4, 0.3).met is True
    assert Row("x", None, 0.2, 0.4, 0.5).met is False


def test_a_band_as_wide_as_the_scale_is_no_band():
    assert Row("x", None, 0.0, 1.0, 0.3).band == ""
    assert Row("x", None, -1.0, 1.0, 0.3).band == ""
    assert Row("x", None, 0.0, 0.45, 0.3).band == "0 to 0.45"
    assert Row("words", 728, 677, 779, 728).band == "677 to 779"


def test_too_few_emrs_for_the_baselines_are_refused(folder):
    with pytest.raises(DataError, match="at least 200 EMRs to train"):
        check_dataset(folder)
