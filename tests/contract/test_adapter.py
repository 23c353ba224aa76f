import inspect
from importlib.util import find_spec

import pytest

from label_config.errors import ConfigError
from ml_backend.adapter import backend_class
from ml_backend.model import CliniCoCoModel
from ml_backend.workspace import Workspace

HAS_2X = find_spec("label_studio_ml") is not None


def test_our_model_has_the_methods_of_the_2x_base_class():
    for method, parameters in {
        "setup": [],
        "predict": ["tasks", "context"],
        "fit": ["event", "data"],
    }.items():
        signature = inspect.signature(getattr(CliniCoCoModel, method))
        assert list(signature.parameters)[1 : 1 + len(parameters)] == parameters
    assert {"project_id", "label_config"} <= set(inspect.signature(CliniCoCoModel).parameters)


@pytest.mark.skipif(HAS_2X, reason="label-studio-ml is installed")
def test_without_label_studio_ml_the_adapter_says_so(workspace: Workspace):
    with pytest.raises(ConfigError, match=r"label-studio-ml 2\.x is not installed"):
        backend_class([workspace.folder])


@pytest.mark.skipif(not HAS_2X, reason="label-studio-ml 2.x is not installed")
def test_our_model_answers_under_a_2x_server(workspace: Workspace, task: dict):
    from label_studio_ml.api import init_app

    client = init_app(backend_class([workspace.folder])).test_client()
    assert client.get("/health").get_json()["status"] == "UP"
    body = {"tasks": [task], "project": "1.1", "label_config": "<View/>"}
    (prediction,) = client.post("/predict", json=body).get_json()["results"]
    assert prediction["result"]
