"""The commands that take exports in, look back, cancel and migrate, as a shell runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from label_config.files import read_codings
from label_config.record import EMR, Coding
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.task import build_result, build_task
from label_config.taxonomy import CodeEntry, Taxonomy
from ml_backend.dashboard.figures import MEMBERS_FILE
from ml_backend.workspace import ProjectConfig, Workspace

Run = Callable[..., tuple[int, str]]
TREE = Taxonomy("small", (CodeEntry(c, c, None, "chapter") for c in ("I10", "E11.9", "J18.9")))


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    made = Workspace.create(
        tmp_path / "ward", ProjectConfig("Ward 7", ("I10", "E11.9"), taxonomy="small.csv")
    )
    TREE.to_csv(made.folder / "small.csv")
    return made.folder


@pytest.fixture
def export(tmp_path: Path) -> Path:
    emr = EMR("e1", {"Plan": "Rest."})
    suggested = SuggestionSet("e1", (Suggestion("I10", 0.9, {"names": 0.9}),), "v1-abc")
    task = build_task(emr, suggested, TREE, batch="b", order=1)
    result = build_result(
        emr, ("E11.9",), [], candidates=("I10",), principal=None, quality="clean", taxonomy=TREE
    )
    annotation = {"id": 5, "result": result, "prediction": task["predictions"][0]}
    skipped = {"id": 6, "result": [], "was_cancelled": True}
    (tmp_path / "export.json").write_text(
        json.dumps([{**task, "id": 3, "annotations": [annotation, skipped]}])
    )
    return tmp_path / "export.json"


def test_an_export_goes_into_a_workspace_or_into_files(
    run: Run, ward: Path, export: Path, tmp_path: Path
):
    report = tmp_path / "report.json"
    code, said = run("import-export", export, "--into", ward, "--json", report)
    assert code == 0
    assert "1 coded EMRs of 1 tasks, 1 new" in said
    assert json.loads(report.read_text())["rows"][0]["where"] == "task 3 annotation 6"
    assert Workspace(ward).read_clean()[0].suggested == ("I10",)
    tree = ward / "small.csv"
    code, _ = run("import-export", export, "--out", tmp_path / "out", "--taxonomy", tree)
    assert code == 0
    assert len(read_codings(tmp_path / "out" / "clean.parquet").records) == 1


def test_another_interface_is_read_by_a_mapping_file(run: Run, ward: Path, tmp_path: Path):
    (tmp_path / "m.yaml").write_text("sections: {Note: note}\ncodes: [{control: icd}]\n")
    (tmp_path / "a.csv").write_text('id,annotation_id,note,icd\n7,1,Coughs.,"J18.9"\n')
    arguments = ("import-export", tmp_path / "a.csv", "--into", ward)
    code, said = run(*arguments)
    assert code == 1
    assert "no usable annotation" in said
    assert run(*arguments, "--mapping", tmp_path / "m.yaml")[0] == 0
    [coding] = Workspace(ward).read_clean()
    assert (coding.emr_id, coding.codes) == ("task-7", ("J18.9",))


def test_feedback_counts_by_code_and_with_an_export_by_member(
    run: Run, ward: Path, export: Path, tmp_path: Path
):
    Workspace(ward).write_clean([Coding("e1", ("E11.9",), "clean", suggested=("I10",))])
    report = tmp_path / "report.json"
    code, said = run("feedback", ward, "--export", export, "--json", report)
    assert code == 0
    assert "what became of the suggestions" in said
    found = json.loads(report.read_text())
    assert {r["code"]: (r["removed"], r["added"]) for r in found["codes"]} == {
        "E11.9": (0, 1), "I10": (1, 0)
    }  # fmt: skip
    assert [(r["member"], r["suggested"], r["kept"]) for r in found["members"]] == [("names", 1, 0)]
    assert json.loads((ward / MEMBERS_FILE).read_text())["rows"] == found["members"]


def test_a_replay_without_the_version_says_so_and_is_no_failure(run: Run, ward: Path, export: Path):
    code, said = run("replay", ward, "--export", export)
    assert code == 0
    assert "version is gone" in said
    code, said = run("replay", ward, "--export", export, "--version", "v9")
    assert code == 1
    assert "no model version 'v9'" in said


def test_a_migration_is_shown_done_and_undone(run: Run, ward: Path, tmp_path: Path):
    Workspace(ward).write_clean(
        [Coding("e1", ("I10",), "clean"), Coding("e2", ("E11.9",), "clean")]
    )
    (tmp_path / "t.csv").write_text("old,new\nI10,J18.9\nE11.9,E11.9\nE119,J18.9\n")
    report = tmp_path / "report.json"
    arguments = ("migrate", ward, "--table", tmp_path / "t.csv", "--json", report)
    code, said = run(*arguments, "--dry-run")
    assert code == 0
    assert "nothing was written" in said
    assert Workspace(ward).config.codes == ("I10", "E11.9")
    assert json.loads(report.read_text())["to_recode"] == [
        {"emr_id": "e2", "code": "E11.9", "candidates": "E11.9, J18.9"}
    ]
    assert run(*arguments)[0] == 0
    assert Workspace(ward).config.codes == ("J18.9", "E11.9")
    assert run("migrate", ward, "--undo")[0] == 0
    assert Workspace(ward).read_clean()[0].codes == ("I10",)
    assert "nothing to do" in run("migrate", ward, "--finish")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("import-export", "x.json"),
        ("import-export", "x.json", "--into", "w", "--out", "o"),
        ("migrate", "w"),
        ("migrate", "w", "--undo", "--finish"),
        ("jobs", "cancel", "w"),
    ],
)
def test_wrong_usage_has_exit_code_2(run: Run, arguments: tuple[str, ...]):
    code, said = run(*arguments)
    assert code == 2
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("import-export", "nowhere.json", "--into", "WARD"), "cannot read nowhere.json"),
        (("import-export", "nowhere.json", "--into", "WARD", "--mapping", "no.yaml"), "no.yaml"),
        (("migrate", "WARD", "--table", "nowhere.csv"), "cannot read nowhere.csv"),
        (("migrate", "WARD", "--undo"), "has no migration to undo"),
        (("jobs", "cancel", "WARD", "abc"), "no such job; there are: none"),
        (("feedback", "WARD", "--export", "nowhere.json"), "cannot read nowhere.json"),
    ],
)
def test_an_expected_error_is_one_clear_line_and_exit_code_1(
    run: Run, ward: Path, arguments: tuple[str, ...], line: str
):
    code, said = run(*(str(ward) if a == "WARD" else a for a in arguments))
    assert code == 1
    assert line in said
    assert "Traceback" not in said
