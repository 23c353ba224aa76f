import csv
import dataclasses
import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from label_config.errors import CheckpointError
from training import stage_loop
from training.checkpoint import load_tensors, open_checkpoint
from training.extractor import ExtractorConfig
from training.stages import CleanConfig, NoisyConfig, RawConfig, StagesConfig, train_network


def newest(run_folder: Path) -> int:
    """The number of the newest state; 0 before there is one."""
    return max((int(p.name.removeprefix("state-")) for p in run_folder.glob("state-*")), default=0)


def test_a_run_killed_at_ten_random_moments_ends_on_the_same_network(trainer, tmp_path):
    trainer.start(tmp_path / "whole", "everything")
    assert trainer.ended() == 0
    run_folder, rng, places = tmp_path / "run", random.Random(0), set()
    for kill in range(10):
        pid = trainer.start(tmp_path / "resumed", "everything", run_folder=str(run_folder))
        # the first two at any time after the start, the others some minibatches further on
        enough = newest(run_folder) + rng.randint(1, 4) if kill > 1 else 0
        while newest(run_folder) < enough:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.03 if enough else 0.5))
        os.kill(pid, signal.SIGKILL)
        assert trainer.ended() == -signal.SIGKILL
        if number := newest(run_folder):
            config = run_folder / f"state-{number:08}" / "config.json"
            place = json.loads(config.read_text())
            places.add((place["stage"], place["epoch"], place["minibatch"]))
    assert len(places) >= 8
    assert len({stage for stage, _, _ in places}) >= 2
    trainer.start(tmp_path / "resumed", "everything", run_folder=str(run_folder))
    assert trainer.ended() == 0
    whole, resumed = (
        load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "resumed")
    )
    assert whole.keys() == resumed.keys()
    for name, weights in whole.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0, atol=0)
    histories = [
        open_checkpoint(tmp_path / name, kind="network")["provenance"]["history"]
        for name in ("whole", "resumed")
    ]
    assert histories[0] == histories[1]


CONFIG = dataclasses.replace(
    StagesConfig.paper(),
    extractor=ExtractorConfig(hidden=8, attention=8),
    raw=RawConfig(epochs=1),
    noisy=NoisyConfig(epochs=2),
    clean=CleanConfig(epochs=2),
    batch=8,
)


def train(ward, taxonomy, encoder, run_folder, config=CONFIG, *, first=0):
    emrs, codings = ward
    return train_network(
        emrs[:8],
        emrs[8:20],
        codings[8:20],
        emrs[20 + first :],
        codings[20 + first :],
        codes=[entry.code for entry in taxonomy],
        taxonomy=taxonomy,
        encoder=encoder,
        config=config,
        run_folder=run_folder,
    )


@pytest.fixture
def run_folder(ward, four_codes, tiny_encoder, tmp_path) -> Path:
    train(ward, four_codes, tiny_encoder, tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run_is_not_run_again(ward, four_codes, tiny_encoder, run_folder, monkeypatch):
    first = train(ward, four_codes, tiny_encoder, run_folder)
    monkeypatch.setattr(stage_loop, "_run_epoch", None)
    again = train(ward, four_codes, tiny_encoder, run_folder)
    np.testing.assert_array_equal(first.predict(ward[0]), again.predict(ward[0]))
    assert again.provenance == first.provenance


def test_a_run_without_an_epoch_can_be_asked_for_again(ward, four_codes, tiny_encoder, tmp_path):
    idle = dataclasses.replace(
        CONFIG, raw=RawConfig(epochs=0), noisy=NoisyConfig(epochs=0), clean=CleanConfig(epochs=0)
    )
    first, again = (
        train(ward, four_codes, tiny_encoder, tmp_path / "run", idle).predict(ward[0])
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("other", ["settings", "data"])
def test_the_state_of_another_run_is_refused_by_name(
    ward, four_codes, tiny_encoder, run_folder, other
):
    config = dataclasses.replace(CONFIG, lr=0.1) if other == "settings" else CONFIG
    with pytest.raises(CheckpointError, match=r"state-\d+ belongs to a run with other data"):
        train(ward, four_codes, tiny_encoder, run_folder, config, first=int(other == "data"))


@pytest.mark.parametrize("name", ["state.safetensors", "config.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "pickle", "remove"])
def test_a_damaged_state_is_refused_by_name(
    ward, four_codes, tiny_encoder, run_folder, name, damage
):
    (path,) = run_folder.glob(f"state-*/{name}")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    elif damage == "pickle":
        torch.save({"weights": torch.zeros(2)}, path)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match="state-"):
        train(ward, four_codes, tiny_encoder, run_folder)


def test_a_run_folder_holds_one_state_its_losses_and_no_pickle(run_folder):
    names = sorted(path.name for path in run_folder.rglob("*") if path.is_file())
    assert [n for n in names if not n.startswith("events.")] == [
        "config.json",
        "losses.csv",
        "manifest.json",
        "state.safetensors",
    ]
    rows = list(csv.DictReader((run_folder / "losses.csv").open()))
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        ("raw", "1"),
        ("noisy", "1"),
        ("noisy", "2"),
        ("clean", "1"),
        ("clean", "2"),
    ]
    assert all(float(row["loss"]) >= 0 and not row["held_back"] for row in rows)


def test_what_a_killed_run_left_half_written_is_swept(ward, four_codes, tiny_encoder, run_folder):
    litter = run_folder / ".state-00000009.abc.tmp"
    litter.mkdir()
    (litter / "state.safetensors").write_bytes(b"half")
    train(ward, four_codes, tiny_encoder, run_folder)
    assert not litter.exists()
