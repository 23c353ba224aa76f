"""A real but random encoder, a few EMRs and a few epochs: the network's experiments in seconds."""

import dataclasses

import numpy as np
import pytest

from label_config.record import EMR, Coding
from simulator import hospital
from simulator.experiments import network_rivals, network_trial
from simulator.experiments.network_data import Pool, knowledge
from training.encoder import Encoder
from training.stages import StagesConfig

CODES = ("E11.9", "E11.6", "I10", "J18.9")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory, write_encoder):
    """A one-layer encoder with random weights."""
    folder = tmp_path_factory.mktemp("encoder")
    titles = [knowledge().taxonomy.title(code) for code in knowledge().codes[:200]]
    write_encoder(folder, titles, layers=1, dim=16, longest=512)
    return Encoder.load(str(folder), precision="float32")


@pytest.fixture
def small(monkeypatch, encoder):
    """Everything that an experiment does, in seconds."""
    quick = StagesConfig.quick()
    tiny = dataclasses.replace(
        quick,
        extractor=dataclasses.replace(quick.extractor, hidden=8, attention=8),
        raw=dataclasses.replace(quick.raw, epochs=1),
        noisy=dataclasses.replace(quick.noisy, epochs=1),
        clean=dataclasses.replace(quick.clean, epochs=2),
    )
    monkeypatch.setattr(
        StagesConfig, "quick", lambda *, seed=0: dataclasses.replace(tiny, seed=seed)
    )
    monkeypatch.setattr(Encoder, "load", lambda **_: encoder)
    for name in ("hph", "aph"):
        short = dataclasses.replace(hospital.PROFILES[name], words=200, words_wide=None)
        monkeypatch.setitem(hospital.PROFILES, name, short)
    monkeypatch.setattr(hospital, "CALIBRATION_VISITS", 30)
    monkeypatch.setattr(hospital, "CALIBRATION_TEXTS", (6,))
    monkeypatch.setattr(network_rivals, "QUICK_EPOCHS", 1)
    monkeypatch.setattr(network_trial, "QUICK_SIZES", (4, 8, 14, 10))


@pytest.fixture
def made():
    """Makes a pool whose text does not matter: frequent codes, and one in every tenth EMR."""

    def make(n):
        rng = np.random.default_rng(0)
        emrs = [EMR(f"e{i}", {"History": f"EMR number {i}."}) for i in range(n)]
        gold = []
        for i, emr in enumerate(emrs):
            codes = ["I10", "E11.9"] if rng.random() < 0.5 else ["I10"]
            codes += ["J18.9"] * (i % 10 == 0) + ["E11.6"] * (i % 20 == 5)
            gold.append(Coding(emr.emr_id, tuple(codes), "gold"))
        noisy = [Coding(g.emr_id, g.codes, "noisy", (0.8,) * len(g.codes)) for g in gold]
        return Pool(emrs, noisy, gold, emrs, gold, CODES, knowledge().taxonomy)

    return make
