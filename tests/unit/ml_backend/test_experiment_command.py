"""`clinicoco experiment NAME --keep FILE`, run as a shell would."""

import inspect
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from label_config.measured import Measured
from ml_backend import table
from ml_backend.commands.experiment import EXPERIMENTS
from ml_backend.locks import locked
from sampler.synthetic import PoolConfig, make_pool
from simulator.experiments import forecast, network_table2
from simulator.experiments.chosen import Chosen
from simulator.experiments.kept import NOTHING

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One small project per seed; returns which were played."""
    played: list[int] = []

    def project(seed: int):
        played.append(seed // 1000)
        pool = make_pool(PoolConfig(n_emrs=200, n_codes=8, codes_per_emr=2.0), seed)
        return {"quota": 8}, pool

    monkeypatch.setattr(forecast, "draw_project", project)
    monkeypatch.setattr(forecast, "PER_SEED_QUICK", 1)
    monkeypatch.setattr(forecast, "DRAWS", 10)
    return played


@pytest.mark.parametrize("module", EXPERIMENTS.values())
def test_every_experiment_can_keep_its_rows_and_keeps_none_unless_it_is_asked_to(module: str):
    assert inspect.signature(import_module(module).run).parameters["kept"].default is NOTHING


def test_a_run_goes_on_with_the_rows_that_are_there(run: Run, tmp_path: Path, few: list[int]):
    keep, record = tmp_path / "kept.jsonl", tmp_path / "record.json"
    arguments = ("experiment", "forecast", "--quick", "--keep", keep, "--json", record, "--seeds")
    code, said = run(*arguments, 1)
    assert code == 0, said
    assert run(*arguments, 2)[0] == 0
    assert few == [100, 101]
    more = json.loads(record.read_text())
    assert run(*arguments[:3], "--json", record, "--seeds", 2)[0] == 0
    whole = json.loads(record.read_text())
    alike = ("rows", "goals", "data_hash", "seeds", "commit", "machine")
    assert {name: more[name] for name in alike} == {name: whole[name] for name in alike}


def test_the_first_line_says_what_the_record_says_of_all_rows(
    run: Run, tmp_path: Path, few: list[int]
):
    keep = tmp_path / "kept.jsonl"
    run("experiment", "forecast", "--quick", "--seeds", 1, "--keep", keep)
    about = json.loads(keep.read_text().splitlines()[0])
    assert about["experiment"] == "forecast" and about["quick"] is True
    assert {"version", "commit", "code", *table.machine()} < set(about)


def test_rows_of_another_size_or_commit_are_refused_in_one_line(
    run: Run, tmp_path: Path, few: list[int], monkeypatch: pytest.MonkeyPatch
):
    keep = tmp_path / "kept.jsonl"
    arguments = ("experiment", "forecast", "--seeds", 1, "--keep", keep)
    assert run(*arguments, "--quick")[0] == 0
    code, said = run(*arguments)
    assert code == 1
    assert (
        "holds rows of experiment forecast, quick True; this run is experiment forecast, " in said
    )
    monkeypatch.setattr(table, "_commit", lambda: "0123456789ab")
    code, said = run(*arguments, "--quick")
    assert code == 1 and "commit 0123456789ab" in said
    assert few == [100]


def test_a_dirty_tree_is_told_apart_by_its_code(
    run: Run, tmp_path: Path, few: list[int], monkeypatch: pytest.MonkeyPatch
):
    arguments = ("experiment", "forecast", "--quick", "--seeds", 1, "--keep", tmp_path / "kept")
    for commit in ("0123456789ab", "0123456789ab-dirty"):  # a report may have been written
        monkeypatch.setattr(table, "_commit", lambda commit=commit: commit)
        assert run(*arguments)[0] == 0
    monkeypatch.setattr("simulator.experiments.kept.content_hash", lambda: "another")
    code, said = run(*arguments)
    assert code == 1 and "code another" in said
    assert few == [100]


def test_two_runs_do_not_write_to_one_file(run: Run, tmp_path: Path, few: list[int]):
    keep = tmp_path / "kept.jsonl"
    with locked(keep):
        code, said = run("experiment", "forecast", "--quick", "--seeds", 1, "--keep", keep)
    assert code == 1 and "another run is writing to it" in said and not few


def test_an_unknown_experiment_leaves_no_file(run: Run, tmp_path: Path):
    assert run("experiment", "nothing", "--keep", tmp_path / "kept.jsonl")[0] == 1
    assert not list(tmp_path.iterdir())


def test_places_and_rows_are_asked_for_by_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Chosen] = []

    def table(quick: bool, seeds: range, *, chosen: Chosen, progress: object) -> Measured:
        asked.append(chosen)
        return Measured([{"micro_f1": 0.5}], [], tuple(seeds), "0")

    monkeypatch.setattr(network_table2, "run", table)
    record, rows = tmp_path / "record.json", ("--row", "without raw", "--row", "LAAT")
    code, said = run("experiment", "table2", *rows, "--place", "a", "--json", record)
    assert code == 0, said
    assert "--row 'without raw' --row LAAT --place a" in json.loads(record.read_text())["command"]
    assert asked == [Chosen(("a",), ("without raw", "LAAT"))]
    code, said = run("experiment", "forecast", "--row", "x", "--keep", tmp_path / "kept.jsonl")
    assert code == 1 and "takes neither --place nor --row" in said
    assert not (tmp_path / "kept.jsonl").exists()
