from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from label_config.files import write_json, write_records
from label_config.record import EMR, Coding
from ml_backend import retrain
from ml_backend.retrain import suggester_config, train_model
from ml_backend.settings import settings
from ml_backend.workspace import ProjectConfig, Workspace
from training.adapt import AdaptConfig
from training.stages import StagesConfig
from training.suggester_config import SuggesterConfig


class Killed(Exception):
    """The training process has come to its end."""


class Model:
    """As much of a suggester as is kept and judged."""

    def __init__(self, score: float = 0.5, codes: tuple[str, ...] = ("I10",)) -> None:
        self.validation, self.codes = {"micro_f1": score}, codes

    def save(self, folder: Path, *, version: str) -> None:
        folder.mkdir(parents=True)
        write_json(folder / "config.json", {"codes": self.codes})


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The weights of the encoder that the environment names."""
    file = tmp_path / "encoder" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    monkeypatch.setenv("CLINICOCO_ENCODER", str(file.parent))
    settings.cache_clear()
    yield file
    settings.cache_clear()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "ward", ProjectConfig("Ward 7", ("I10",)))
    write_records(made.pool_path, [EMR("e1", {"Text": "Raised blood pressure."})], EMR)
    made.write_noisy([Coding("e1", ("I10",), "noisy")])
    return made


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where each training has kept its state; the first one is killed."""
    given: list[Path] = []

    def train(*about: Any) -> Model:
        keep = about[4]
        given.append(keep)
        (keep / "whole").mkdir(parents=True, exist_ok=True)
        if len(given) == 1:
            raise Killed
        return Model()

    monkeypatch.setattr(retrain, "_train", train)
    return given


@pytest.fixture
def run(workspace: Workspace) -> Callable[..., retrain.Trained]:
    def run(*, again: bool = True, **settings: Any) -> retrain.Trained:
        config = SuggesterConfig(**settings)
        return train_model(workspace, config=config, progress=print, again=again)

    return run


def test_a_killed_training_finds_its_state_again_and_leaves_none(run, trainings, workspace):
    with pytest.raises(Killed):
        run()
    assert trainings[0].is_relative_to(workspace.folder / "jobs")
    assert (trainings[0] / "whole").is_dir(), "what it has done so far outlives it"
    assert run().promoted
    assert trainings[0] == trainings[1] and not trainings[0].exists()


@pytest.mark.parametrize("other", ["data", "settings"])
def test_the_state_of_other_data_or_settings_is_swept(run, trainings, workspace, other):
    with pytest.raises(Killed):
        run()
    if other == "data":
        workspace.write_noisy([])
    run(seed=int(other == "settings"))
    assert trainings[0] != trainings[1]
    assert not list((workspace.folder / "jobs").glob(f"{retrain.KEPT}*"))


def test_a_version_that_is_there_already_leaves_no_state_either(run, trainings, workspace):
    with pytest.raises(Killed):
        run()
    run()
    (trainings[1] / "whole").mkdir(parents=True)
    run(again=False)
    assert len(trainings) == 2 and not trainings[1].exists()


@pytest.mark.parametrize("other", ["encoder", "names"])
def test_another_encoder_or_name_mapper_is_trained_with(run, trainings, workspace, weights, other):
    with pytest.raises(Killed):
        run()
    first = run().version
    assert run(again=False) == retrain.Trained(first, promoted=True, new=False)
    if other == "encoder":
        weights.write_bytes(b"other weights")
    else:
        write_json(workspace.names_folder / "manifest.json", {"files": {"config.json": "f" * 64}})
    assert run(again=False).new
    assert len(trainings) == 3


@pytest.mark.parametrize("network", ["quick", "best", "paper"])
def test_the_workspace_says_whether_the_network_fine_tunes_the_encoder(workspace, network):
    preset = getattr(StagesConfig, network)()
    workspace.configure(network=network)
    assert suggester_config(workspace, has_clean=True).network == preset
    workspace.configure(fine_tune=True)
    asked = suggester_config(workspace, has_clean=True).network
    assert asked is not None and asked.adapt == AdaptConfig()
    assert replace(asked, adapt=None) == preset


def test_a_cold_start_has_no_network_whatever_the_workspace_says(workspace):
    workspace.configure(fine_tune=True)
    assert suggester_config(workspace, has_clean=False).network is None


def test_scores_over_other_codes_do_not_keep_a_version_from_serving(workspace, run, monkeypatch):
    made = [Model(0.9), Model(0.6), Model(0.6, ("I10", "J18.9"))]
    monkeypatch.setattr(retrain, "_train", lambda *about: made.pop(0))
    assert [run(seed=seed).promoted for seed in range(3)] == [True, False, True]
