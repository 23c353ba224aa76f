"""What training a suggester promises about its network: no leak, no work lost by a kill."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from label_config.record import EMR, Coding, Diagnosis
from training import network_training, stages
from training.build import complete
from training.extractor import ExtractorConfig
from training.member_training import train_members
from training.resume import RunFolder
from training.stages import CleanConfig, NoisyConfig, RawConfig, StagesConfig
from training.suggest import Suggester
from training.suggester_config import SuggesterConfig

CODES = ["E11.9", "I10", "J18.9", "K35.8"]
SMALL = StagesConfig(
    extractor=ExtractorConfig(hidden=8, attention=8, dropout=0.2),
    raw=RawConfig(epochs=1),
    noisy=NoisyConfig(epochs=3, contrastive=0.1, codes=1.0),
    clean=CleanConfig(epochs=2),
    batch=8,
)
TAUGHT = dataclasses.replace(SMALL, noisy=dataclasses.replace(SMALL.noisy, taught=1.0))

Train = Callable[..., Suggester]


@pytest.fixture
def train(ward, four_codes, tiny_encoder) -> Train:
    """24 clean EMRs, 8 noisy ones; all 48 are read without their codes."""
    emrs, codings = ward
    named = [
        dataclasses.replace(e, diagnoses=tuple(Diagnosis(four_codes.title(x)) for x in c.codes))
        for e, c in zip(emrs, codings, strict=True)
    ]
    noisy = [Coding(c.emr_id, c.codes, "noisy") for c in codings[24:32]]

    def run(clean=codings[:24], network=SMALL, **how) -> Suggester:
        return Suggester.train(
            named[:32],
            noisy,
            clean,
            codes=CODES,
            taxonomy=four_codes,
            encoder=tiny_encoder,
            config=SuggesterConfig(folds=3, network=network),
            raw=named,
            **how,
        )

    return run


@pytest.fixture
def lessons(monkeypatch) -> list[tuple[list[EMR], stages.Taught]]:
    """The clean EMRs and the teacher of each network that is trained."""
    seen = []
    real = network_training.train_network

    def spy(raw, noisy_emrs, noisy, emrs, codings, **how):
        seen.append((list(emrs), how["taught"]))
        return real(raw, noisy_emrs, noisy, emrs, codings, **how)

    monkeypatch.setattr(network_training, "train_network", spy)
    return seen


def test_the_teacher_of_the_network_that_is_judged_knows_nothing_of_the_emrs_it_is_judged_by(
    train, ward, lessons
):
    codings = ward[1][:24]
    train(network=TAUGHT)
    clean = {c.emr_id for c in codings}
    hidden = clean - {emr.emr_id for emr in lessons[0][0]}
    assert len(hidden) == 8
    assert not hidden & {emr.emr_id for emr in lessons[0][1].emrs}
    assert clean <= {emr.emr_id for emr in lessons[1][1].emrs}
    wrong = [dataclasses.replace(c, codes=(), evidence=()) for c in codings]
    train([w if c.emr_id in hidden else c for c, w in zip(codings, wrong, strict=True)], TAUGHT)
    before, whole_before, after, whole_after = (taught.hash() for _, taught in lessons)
    assert before == after, "codes of EMRs that it is judged by change nothing"
    assert whole_before != whole_after


def test_the_teacher_speaks_of_every_emr_without_clean_codes_once(train, ward, lessons):
    train(network=TAUGHT)
    for emrs, taught in lessons:
        ids = [emr.emr_id for emr in taught.emrs]
        others = {emr.emr_id for emr in ward[0][24:]}
        assert len(ids) == len(set(ids)) and set(ids) == {e.emr_id for e in emrs} | others


def test_no_more_emrs_are_taught_than_the_settings_allow(train, lessons):
    noisy = dataclasses.replace(TAUGHT.noisy, most_taught=27)
    train(network=dataclasses.replace(TAUGHT, noisy=noisy))
    assert [len(taught.emrs) for _, taught in lessons] == [27, 32], "those with codings all count"


def test_without_the_option_nobody_teaches(train, lessons):
    train()
    assert [taught for _, taught in lessons] == [None, None]


def test_members_trained_once_can_be_completed_several_times(ward, four_codes, tiny_encoder):
    emrs, codings = ward
    how = {"codes": CODES, "taxonomy": four_codes, "encoder": tiny_encoder}
    with_network, without = SuggesterConfig(folds=3, network=SMALL), SuggesterConfig(folds=3)
    trained = train_members(emrs, [], codings[:24], config=without, **how)
    first, second, alone = (
        complete(trained, config=config, **how) for config in (with_network, with_network, without)
    )
    np.testing.assert_array_equal(first.predict(emrs), second.predict(emrs))
    whole = Suggester.train(emrs, [], codings[:24], config=with_network, **how)
    np.testing.assert_array_equal(first.predict(emrs), whole.predict(emrs))
    assert alone.members.network is trained.members.network is None


class Killed(Exception):
    """The training process has come to its end."""


@pytest.mark.parametrize(("training", "network"), [(1, SMALL), (2, SMALL), (1, TAUGHT)])
def test_a_training_that_is_killed_and_called_again_ends_on_the_same_network(
    train, tmp_path, monkeypatch, training, network
):
    monkeypatch.setitem(RunFolder.__init__.__kwdefaults__, "seconds", 0.0)
    whole = train(network=network)
    seen: list[tuple[str, int]] = []

    def fall(what: str, done: int, total: int) -> None:
        seen.append((what, done))
        if seen.count(("noisy", 2)) == training:
            raise Killed

    with pytest.raises(Killed):
        train(network=network, keep=tmp_path, progress=fall)
    epochs: list[tuple[str, int]] = []
    resumed = train(
        network=network, keep=tmp_path, progress=lambda what, done, _: epochs.append((what, done))
    )
    done = [epoch for epoch in epochs if epoch[0] in ("raw", "noisy", "clean")]
    left = [("noisy", 3), ("clean", 1), ("clean", 2)]
    again = [("raw", 1), ("noisy", 1), ("noisy", 2), *left]
    assert done in (
        ([*left, *again], [("noisy", 2), *left, *again])
        if training == 1
        else (left, [("noisy", 2), *left])
    )
    assert not any(what == "encode" for what, _ in epochs), "features outlive the kill"
    weights, expected = (model.members.network.extractor.state_dict() for model in (resumed, whole))
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=0)
    assert resumed.validation == whole.validation


def test_a_damaged_state_costs_the_training_but_not_the_model(train, tmp_path, caplog):
    whole = train(keep=tmp_path)
    (state,) = (tmp_path / "whole").glob("state-*/state.safetensors")
    state.write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        again = train(keep=tmp_path)
    assert "this training starts again" in caplog.text
    assert again.validation == whole.validation


def test_what_is_kept_holds_no_text_and_names_no_emr(train, ward, tmp_path):
    train(network=TAUGHT, keep=tmp_path)
    words = [b"amlodipine", b"crackles", b"Essential", b"emr-1"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"unseen", "whole", "features"} == {path.name for path in tmp_path.iterdir()}
    for path in files:
        content = path.read_bytes()
        assert not [word for word in words if word in content or word in path.name.encode()]


def test_without_a_folder_nothing_is_kept(train, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train()
    assert not list(tmp_path.iterdir())
