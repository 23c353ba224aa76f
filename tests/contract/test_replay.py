"""Predictions that were pushed or answered, made again by the version that they name."""

from __future__ import annotations

import copy

import pytest

from label_config.record import EMR, Coding, EvidenceSpan
from label_config.task import build_prediction, build_task, candidate_codes
from ml_backend.quick import suggest_quickly
from ml_backend.registry import Registry
from ml_backend.replay import DIFFERS, GONE, provenance, replay, stored_predictions
from ml_backend.steps import live_model
from ml_backend.workspace import Workspace


def quiet(*_: object) -> None:
    pass


@pytest.fixture
def ward(untouched: Workspace) -> Workspace:
    return untouched


@pytest.fixture
def pushed(ward: Workspace, emrs: list[EMR]) -> list[dict]:
    """Tasks as a push sends them."""
    return [
        build_task(emr, suggested, ward.taxonomy, batch="b0001", order=1)
        for emr, suggested in zip(emrs[:3], live_model(ward).suggest(emrs[:3]), strict=True)
    ]


def outcomes(ward: Workspace, tasks: list[dict]) -> list[str]:
    found = replay(ward, list(stored_predictions(tasks)), progress=quiet)
    return [replayed.outcome for replayed in found]


def test_what_was_pushed_comes_out_the_same(ward: Workspace, pushed: list[dict]):
    assert outcomes(ward, pushed) == ["as trained"] * 3


def test_a_copy_in_an_annotation_is_replayed_once(ward: Workspace, pushed: list[dict]):
    task = pushed[0]
    [prediction] = task["predictions"]
    copies = [{"id": 1, "prediction": prediction}, {"id": 2, "prediction": None}, {"id": 3}]
    assert outcomes(ward, [{**task, "annotations": copies}]) == ["as trained"]
    assert outcomes(ward, [{**task, "annotations": copies, "predictions": [7]}]) == ["as trained"]


def test_what_was_answered_in_a_hurry_or_after_a_decision_says_so(
    ward: Workspace, pushed: list[dict], emrs: list[EMR]
):
    model = live_model(ward)
    [quick] = suggest_quickly(model, emrs[:1])
    codes = candidate_codes(pushed[0])
    hurried = build_prediction(emrs[0], quick, ward.taxonomy, candidates=codes)
    assert outcomes(ward, [{**pushed[0], "predictions": [hurried]}]) == ["in a hurry"]
    section, text = next(emrs[0].texts())
    start = text.index("amlodipine")
    span = EvidenceSpan("J18.9", section, start, start + len("amlodipine"))
    decided = Coding(emrs[0].emr_id, ("J18.9",), "clean", evidence=(span,))
    ward.write_clean([decided])
    model.learn(emrs[0], decided)
    [taught] = model.suggest(emrs[:1])
    later = build_prediction(emrs[0], taught, ward.taxonomy, candidates=codes)
    assert outcomes(ward, [{**pushed[0], "predictions": [later]}]) == ["with later decisions"]


def test_a_prediction_that_was_changed_differs_and_says_in_which_codes(
    ward: Workspace, pushed: list[dict]
):
    changed = copy.deepcopy(pushed[0])
    [codes] = [i for i in changed["predictions"][0]["result"] if i["from_name"] == "codes"]
    before = codes["value"]["choices"]
    codes["value"]["choices"] = ["Z99.9"]
    [found] = replay(ward, list(stored_predictions([changed])), progress=quiet)
    assert found.outcome == DIFFERS
    assert found.only_stored == ("Z99.9",)
    assert set(found.only_replayed) == set(before)


def test_a_version_that_is_gone_is_named_and_others_are_still_replayed(
    ward: Workspace, pushed: list[dict]
):
    other = copy.deepcopy(pushed[1])
    other["predictions"][0]["model_version"] = "v99-gone"
    assert outcomes(ward, [pushed[0], other]) == ["as trained", GONE]
    stored = list(stored_predictions([pushed[0], other], version="v99-gone"))
    assert [s.version for s in stored] == ["v99-gone"]
    assert next(stored_predictions(pushed, emr_ids=["e1"])).task is pushed[1]


def test_a_version_names_threshold_weights_and_data(ward: Workspace):
    [version] = Registry(ward.models_folder).versions()
    found = provenance(version)
    assert found["version"] == version.version
    assert 0 <= found["threshold"] <= 1
    assert set(found) >= {"data", "made"}
