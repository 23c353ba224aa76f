"""A small real project: six EMRs, three codes, a trained model, served by the real app."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from label_config.files import write_records
from label_config.record import EMR, Coding, Diagnosis
from label_config.suggestion import SuggestionSet
from label_config.task import build_task
from ml_backend.registry import Registry
from ml_backend.server import create_app
from ml_backend.serving import Backend
from ml_backend.settings import Settings
from ml_backend.workspace import ProjectConfig, Workspace
from training.encoder import Encoder
from training.suggest import Suggester

CODES = ("I10", "E11.9", "J18.9")
PROJECT_ID = 1
"""The project of the recorded requests."""

TEXTS = {
    "I10": ("high blood pressure for ten years, takes amlodipine", "essential hypertension"),
    "E11.9": ("thirst and frequent urination, glucose 12.1, takes metformin", "type 2 diabetes"),
    "J18.9": ("fever and productive cough, consolidation on the chest film", "pneumonia"),
}


def emr(number: int, code: str) -> EMR:
    text, name = TEXTS[code]
    sections = {"History of present illness": f"Patient {number}: {text}."}
    return EMR(f"e{number}", sections, (Diagnosis(name),))


@pytest.fixture(scope="session")
def emrs() -> list[EMR]:
    return [emr(number, CODES[number % 3]) for number in range(6)]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, emrs: list[EMR]) -> Workspace:
    folder = tmp_path_factory.mktemp("ward")
    config = ProjectConfig("Ward 7", CODES, quota=2, network="none", project_id=PROJECT_ID)
    workspace = Workspace.create(folder / "workspace", config)
    write_records(workspace.pool_path, emrs, EMR)
    noisy = [
        Coding(e.emr_id, (CODES[n % 3],), "noisy", confidence=(0.9,)) for n, e in enumerate(emrs)
    ]
    workspace.write_noisy(noisy)
    model = Suggester.train(
        emrs, noisy, [], codes=CODES, taxonomy=workspace.taxonomy, encoder=Encoder.load()
    )
    registry = Registry(workspace.models_folder)
    model.save(workspace.models_folder / model.version)
    registry.add(workspace.models_folder / model.version, model.version, model.validation)
    registry.promote(model.version)
    shutil.copytree(workspace.folder, folder / "untouched")
    return workspace


@pytest.fixture
def untouched(workspace: Workspace, tmp_path: Path) -> Workspace:
    """The project as it was before any test, in a copy that the test may change."""
    kept = workspace.folder.with_name("untouched")
    return Workspace(Path(shutil.copytree(kept, tmp_path / "ward")))


@pytest.fixture(scope="session")
def backend(workspace: Workspace) -> Backend:
    return Backend([workspace.folder])


@pytest.fixture
def client(backend: Backend) -> FlaskClient:
    return create_app(backend, Settings(backend_password=SecretStr(""))).test_client()


@pytest.fixture(scope="session")
def task(backend: Backend, workspace: Workspace, emrs: list[EMR]) -> dict:
    """A task as Label Studio sends it to /predict."""
    (suggested,) = backend.servings[0].suggest(emrs[:1])
    assert isinstance(suggested, SuggestionSet)
    made = build_task(emrs[0], suggested, workspace.taxonomy, batch="b0001", order=1)
    return {**made, "id": 7, "predictions": [], "annotations": []}
