import json
from pathlib import Path

import pytest
import torch

from label_config.errors import CheckpointError
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors


def write(folder: Path) -> None:
    save_tensors(folder / "model.safetensors", {"w": torch.arange(4.0)})
    (folder / "part").mkdir()
    (folder / "part" / "more.json").write_text("{}")


@pytest.fixture
def folder(tmp_path) -> Path:
    save_checkpoint(tmp_path / "model", kind="thing", config={"codes": ["I10"]}, write=write)
    return tmp_path / "model"


def test_a_folder_reads_back_what_was_written(folder):
    assert open_checkpoint(folder, kind="thing") == {"codes": ["I10"]}
    assert load_tensors(folder / "model.safetensors")["w"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "part/more.json"])
@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_damaged_folder_is_refused_by_the_name_of_the_file(folder, name, damage):
    if damage == "change":
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)
    else:
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        open_checkpoint(folder, kind="thing")


def test_a_file_that_the_manifest_does_not_name_is_refused(folder):
    (folder / "extra.pkl").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"extra\.pkl is not in the manifest"):
        open_checkpoint(folder, kind="thing")


def test_a_folder_of_another_kind_or_format_is_refused(folder):
    with pytest.raises(CheckpointError, match="should hold a other, got 'thing'"):
        open_checkpoint(folder, kind="other")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match="format 1, got 99"):
        open_checkpoint(folder, kind="thing")


@pytest.mark.parametrize("content", [None, "not json", "[1]", "{}"])
def test_a_foreign_folder_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=tmp_path.name):
        open_checkpoint(tmp_path, kind="thing")


def test_a_failed_save_leaves_the_old_model_and_no_litter(folder):
    def fail(to: Path) -> None:
        write(to)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        save_checkpoint(folder, kind="thing", config={"codes": []}, write=fail)
    assert open_checkpoint(folder, kind="thing") == {"codes": ["I10"]}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_saving_again_replaces_the_model_and_leaves_no_litter(folder):
    save_checkpoint(folder, kind="thing", config={"codes": ["E11.9"]}, write=write)
    assert open_checkpoint(folder, kind="thing") == {"codes": ["E11.9"]}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_pickle_is_never_loaded(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="safetensors"):
        load_tensors(tmp_path / "model.safetensors")


def test_the_manifest_says_which_versions_made_the_model(folder):
    libraries = json.loads((folder / "manifest.json").read_text())["libraries"]
    assert libraries["torch"] == torch.__version__
