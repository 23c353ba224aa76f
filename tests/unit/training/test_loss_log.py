import csv
import logging

import pytest

from training.loss_log import LossLog

HISTORY = [
    {"stage": "raw", "epoch": 1, "loss": 0.9},
    {"stage": "noisy", "epoch": 1, "loss": 0.7, "held_back": 0.3},
    {"stage": "noisy", "epoch": 2, "loss": 0.6, "held_back": 0.4},
]


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch):
    """A store that MLflow keeps in files, as a server would keep it."""
    mlflow = pytest.importorskip("mlflow", reason="extra `mlflow` not installed")
    store = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return mlflow.MlflowClient(store)


def runs_of(client):
    experiment = client.get_experiment_by_name("clinicoco")
    return client.search_runs([experiment.experiment_id])


def test_the_csv_file_holds_every_row(tmp_path):
    log = LossLog(tmp_path)
    log.write(HISTORY[:1])
    log.write(HISTORY)
    rows = list(csv.DictReader((tmp_path / "losses.csv").open()))
    assert [(row["stage"], row["epoch"], row["held_back"]) for row in rows] == [
        ("raw", "1", ""),
        ("noisy", "1", "0.3"),
        ("noisy", "2", "0.4"),
    ]


def test_nothing_is_sent_to_mlflow_unless_its_server_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    LossLog(tmp_path).write(HISTORY)
    assert not (tmp_path / "mlflow-run").exists()


def test_a_training_that_goes_on_stays_one_run_of_mlflow(tmp_path, mlflow_store):
    LossLog(tmp_path).write(HISTORY[:1])
    again = LossLog(tmp_path)
    again.write(HISTORY[:2])
    again.write(HISTORY)
    (run,) = runs_of(mlflow_store)
    losses = mlflow_store.get_metric_history(run.info.run_id, "loss/noisy")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 0.7), (2, 0.6)]
    assert run.data.metrics["held_back/noisy"] == 0.4
    assert not run.data.params and set(run.data.tags) <= {"mlflow.runName"}


@pytest.mark.usefixtures("mlflow_store")
def test_a_server_that_is_away_does_not_stop_a_training(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING, "training.loss_log"):
        log = LossLog(tmp_path)
        log.write(HISTORY[:1])
        log.write(HISTORY)
    assert caplog.text.count("MLflow cannot be reached") == 1
    assert len((tmp_path / "losses.csv").read_text().splitlines()) == 4
