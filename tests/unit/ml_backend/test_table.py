import json
from pathlib import Path

import pytest
from rich.console import Console

from ml_backend import table


def test_a_table_is_printed_and_written_with_the_same_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [{"code": "I10", "clean": 3, "share": 0.5}, {"code": "J18.9", "clean": 0, "share": 1.0}]
    table.show("coverage", rows, tmp_path / "out.json")
    said = capsys.readouterr().out
    assert "coverage" in said
    assert "J18.9" in said
    assert json.loads((tmp_path / "out.json").read_text()) == {"title": "coverage", "rows": rows}


def test_what_cannot_be_measured_is_null_in_json_and_a_dash_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table.show("scores", [{"auc": float("nan")}], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == [{"auc": None}]
    assert "-" in capsys.readouterr().out


def test_rows_of_one_setting_become_their_median_and_range_over_seeds():
    rows = [
        {"codes": 50, "seed": seed, "policy": policy, "emrs": emrs, "share": 0.5}
        for policy, counts in (("random", (10, 30, 20)), ("ours", (7, 7, 7)))
        for seed, emrs in enumerate(counts)
    ]
    assert table.over_repeats(rows) == [
        {"codes": 50, "policy": "random", "emrs": "20 (10-30)", "share": 0.5},
        {"codes": 50, "policy": "ours", "emrs": 7, "share": 0.5},
    ]


def test_repeats_of_a_benchmark_are_summed_up_as_seeds_are():
    rows = [{"part": "graph", "repeat": i, "ratio": ratio} for i, ratio in enumerate((3, 5, 4))]
    assert table.over_repeats(rows) == [{"part": "graph", "ratio": "4 (3-5)"}]


def test_what_no_seed_measured_is_a_dash_and_what_some_did_is_told_of_those():
    nan = float("nan")
    rows = [{"seed": seed, "rare": nan, "some": value} for seed, value in enumerate((3, nan, 5))]
    [row] = table.over_repeats(rows)
    assert row["some"] == "4 (3-5)"
    record = table.experiment_json("s", "c", rows, [], seeds=(0, 1, 2), data_hash="ab")
    assert "| - | 4 (3-5) |" in table.markdown(record, [row])


def test_rows_without_a_seed_stay_as_they_are():
    rows = [{"emrs": 10, "seconds": 0.1}, {"emrs": 20, "seconds": 0.2}]
    assert table.over_repeats(rows) == rows


def test_an_experiment_s_record_says_what_was_run_on_what_and_where():
    record = table.experiment_json(
        "sampler", "clinicoco experiment sampler", [{"emrs": 3}],
        [{"id": "g", "target": "<= 1", "value": 0.5, "met": True}], seeds=(1, 2), data_hash="ab",
    )  # fmt: skip
    assert set(record) == {
        *("name", "command", "commit", "data_hash", "seeds", "machine", "rows", "goals"),
        "findings",
    }
    assert record["seeds"] == [1, 2]
    assert record["machine"]["cores"] >= 1
    json.dumps(record)


def test_a_report_names_what_was_run_and_holds_goals_and_rows():
    record = table.experiment_json("s", "clinicoco experiment s", [], [
        {"id": "g", "target": "<= 1", "value": 0.5, "met": True}
    ], seeds=(1,), data_hash="ab", findings=["So it is."])  # fmt: skip
    report = table.markdown(record, [{"policy": "a|b", "emrs": 3}])
    assert report.startswith("# s\n")
    assert "`clinicoco experiment s`" in report
    assert "\n\n- So it is.\n\n" in report
    assert "| g | <= 1 | 0.5 | yes |" in report
    assert "| a\\|b | 3 |" in report


@pytest.mark.parametrize(("width", "turned"), [(30, True), (200, False)])
def test_few_rows_that_are_too_wide_are_printed_as_columns(
    width: int,
    turned: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(table, "console", Console(width=width))
    rows = [{"version": f"v{n}", **{f"figure_{i}": i + n for i in range(8)}} for n in (1, 2)]
    table.show("trained", rows, tmp_path / "out.json")
    said = capsys.readouterr().out
    assert "…" not in said
    lines = [line.split() for line in said.splitlines()]
    assert (["│", "figure", "7", "│", "8", "│", "9", "│"] in lines) is turned
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == rows
    table.show("codes", rows * 2)
    assert "figure 7 │ 8" not in capsys.readouterr().out


def test_brackets_of_a_path_are_printed_as_they_stand(capsys: pytest.CaptureFixture[str]):
    table.say("[ward]/a: [/red] 3 EMRs")
    table.complain("[ward]/b: [/red] is none")
    table.show("[ward]/c [/red]", [{"code of the longest kind of name": "I10"}])
    shown = capsys.readouterr()
    assert "[ward]/a: [/red] 3 EMRs" in shown.out and "[ward]/c [/red]" in shown.out
    assert shown.err == "error: [ward]/b: [/red] is none\n"
