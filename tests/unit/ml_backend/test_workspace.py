import json
from dataclasses import replace
from pathlib import Path

import pytest

from label_config.errors import ConfigError, DataError
from label_config.files import write_records
from label_config.record import EMR, Coding
from ml_backend.pool import PoolIndex
from ml_backend.workspace import ProjectConfig, Workspace

CONFIG = ProjectConfig(title="Ward 7", codes=("I10", "J18.9"), quota=2)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ward", CONFIG)


def test_a_workspace_opens_with_the_settings_it_was_made_with(workspace: Workspace):
    assert Workspace(workspace.folder).config == CONFIG
    assert Workspace.create(workspace.folder, CONFIG).config == CONFIG


def test_a_folder_is_never_taken_over_by_another_project(workspace: Workspace):
    other = ProjectConfig(title="Ward 8", codes=("I10",))
    with pytest.raises(ConfigError, match="already holds project 'Ward 7'"):
        Workspace.create(workspace.folder, other)


def test_a_missing_or_damaged_workspace_is_named(tmp_path: Path, workspace: Workspace):
    with pytest.raises(ConfigError, match="is not a workspace"):
        Workspace(tmp_path / "none")
    (workspace.folder / "project.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        Workspace(workspace.folder)


def test_changed_settings_reach_another_process(workspace: Workspace):
    other = Workspace(workspace.folder)
    workspace.configure(project_id=12)
    other.reload()
    assert other.config.project_id == 12


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codes": ()}, "at least one code"),
        ({"codes": ("I10", "I10")}, "repeats"),
        ({"quota": 0}, "quota"),
        ({"title": "x"}, "3 characters"),
        ({"network": "none", "fine_tune": True}, "fine_tune needs a network"),
    ],
)
def test_settings_that_no_project_can_use_are_refused(changes: dict, reason: str):
    with pytest.raises(ConfigError, match=reason):
        ProjectConfig(**{"title": "Ward 7", "codes": ("I10",), **changes})


def test_a_workspace_that_was_made_before_a_setting_opens_with_its_default(workspace: Workspace):
    path = workspace.folder / "project.json"
    values = json.loads(path.read_text())
    del values["fine_tune"]
    path.write_text(json.dumps(values))
    assert Workspace(workspace.folder).config == CONFIG


def test_fine_tuning_is_refused_where_its_extra_is_missing_but_a_workspace_with_it_opens(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace.configure(fine_tune=True)
    monkeypatch.setattr("ml_backend.workspace.find_spec", lambda name: None)
    assert Workspace(workspace.folder).config.fine_tune
    workspace.configure(fine_tune=False)
    for refused in (
        lambda: workspace.configure(fine_tune=True),
        lambda: Workspace.create(tmp_path / "new", replace(CONFIG, fine_tune=True)),
    ):
        with pytest.raises(ConfigError, match=r"clinicoco\[lora\]"):
            refused()
    assert not Workspace(workspace.folder).config.fine_tune and not (tmp_path / "new").exists()


def test_a_step_that_came_too_early_says_which_command_is_needed(workspace: Workspace):
    with pytest.raises(DataError, match="run `clinicoco import` first"):
        workspace.read_pool()
    with pytest.raises(DataError, match="run `clinicoco auto-label` first"):
        workspace.read_noisy()
    assert workspace.read_clean() == []


def test_codings_come_back_and_are_replaced_whole(workspace: Workspace):
    workspace.write_clean([Coding("e1", ("I10",), "clean"), Coding("e2", (), "clean")])
    workspace.write_clean([Coding("e1", ("J18.9",), "clean")])
    assert workspace.read_clean() == [Coding("e1", ("J18.9",), "clean")]


def test_batches_are_numbered_in_the_order_they_were_chosen(workspace: Workspace):
    workspace.add_batch(["e1", "e2"], ["1st of 2 for I10", "2nd of 2 for I10"])
    workspace.add_batch(["e3"], ["1st of 2 for J18.9"])
    assert [b.name for b in workspace.batches()] == ["b0001", "b0002"]
    assert workspace.batches()[0].emr_ids == ("e1", "e2")
    assert json.loads((workspace.folder / "batches" / "b0002.json").read_text())["made"]


def test_a_pool_that_is_replaced_is_read_anew(tmp_path: Path):
    path = tmp_path / "pool.parquet"
    write_records(path, [EMR(f"e{i}", {"Plan": "rest"}) for i in range(3)], EMR)
    pool = PoolIndex(path)
    write_records(path, [EMR("e2", {"Plan": "walk"})], EMR)
    assert "e0" not in pool and len(pool) == 1
    assert {i: emr.sections["Plan"] for i, emr in pool.get(["e0", "e2"]).items()} == {"e2": "walk"}


def test_a_stale_process_that_changes_one_setting_keeps_the_others(workspace: Workspace):
    stale = Workspace(workspace.folder)
    workspace.configure(codes=("I10",))
    stale.configure(project_id=3)
    assert stale.config.codes == Workspace(workspace.folder).config.codes == ("I10",)


def test_the_pool_index_finds_any_emr_across_row_groups(tmp_path: Path):
    emrs = [EMR(f"e{i}", {"Plan": f"rest {i}"}) for i in range(2_300)]
    write_records(tmp_path / "pool.parquet", emrs, EMR)
    pool = PoolIndex(tmp_path / "pool.parquet")
    assert len(pool) == 2_300
    assert "e2299" in pool
    assert "x" not in pool
    found = pool.get(["e2299", "x", "e0", "e1500"])
    assert {i: found[i].sections["Plan"] for i in found} == {
        "e0": "rest 0", "e1500": "rest 1500", "e2299": "rest 2299"
    }  # fmt: skip
