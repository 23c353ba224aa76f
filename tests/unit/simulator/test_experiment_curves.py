import json
from functools import partial

import numpy as np
import pytest

from label_config.errors import DataError
from simulator.experiments import curves
from simulator.experiments.curves import LEARNS_FROM, POLICIES, Trial


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Cases whose words tell their codes; code C1.0 is rare, A0.0 common."""
    folder = tmp_path_factory.mktemp("codiesp")
    rng = np.random.default_rng(0)
    codes = ["A00.0", "A00.1", "B01.0", "C10.0"]
    cases = []
    for _ in range(320):
        given = [c for c, p in zip(codes, (0.6, 0.4, 0.3, 0.06), strict=True) if rng.random() < p]
        filler = [f"w{i}" for i in rng.integers(0, 60, 12)]
        cases.append(
            {
                "id": f"c{len(cases)}",
                "text": " ".join(filler + [f"word{c[:3]}{c[-1]}" for c in given]),
                "codes": given,
            }
        )
    (folder / "codiesp_es_traindev.jsonl").write_text("\n".join(map(json.dumps, cases)), "utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(folder):
    return curves._codiesp("cases", folder, "es", chapters=False)


def test_no_emr_is_annotated_twice_and_every_point_has_its_number(corpus):
    for policy in POLICIES:
        points = list(Trial(corpus, seed=1).curve(policy, (20, 50, 120), noisy=False))
        assert [size for size, _ in points] == [20, 50, 120]
        assert all(0 <= score <= 1 for _, scores in points for score in scores.values())


def test_pool_validation_and_test_share_no_case(corpus):
    trial = Trial(corpus, seed=1)
    parts = np.concatenate([trial.pool, trial.validation, trial.test])
    assert sorted(parts.tolist()) == list(range(320))


def test_more_annotations_make_a_better_model(corpus):
    points = [scores for _, scores in Trial(corpus, 2).curve("random", (20, 120), noisy=False)]
    assert points[1]["macro_f1"] > points[0]["macro_f1"] + 0.05


def test_annotated_labels_take_the_place_of_noisy_ones(corpus):
    trial = Trial(corpus, seed=3)
    everything = np.arange(trial.pool.size)
    assert np.array_equal(
        trial._probabilities(everything, noisy=True)[:, :3],
        trial._probabilities(everything, noisy=False)[:, :3],
    )


def test_the_experiment_draws_its_curves_and_repeats_itself(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "N_SIMULATED", 260)
    monkeypatch.setattr(curves, "QUICK_SIZES", (25, 50))
    steps = []
    once = curves.run(True, (4,), lambda *at: steps.append(at), data=folder)
    again = curves.run(True, (4,), data=folder)
    assert once.rows == again.rows and once.data_hash == again.data_hash
    assert len(once.rows) == 2 * len(POLICIES) * len(LEARNS_FROM) * 2
    assert steps[-1] == (12, 12)
    once.figure(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(DataError, match="codiesp_es_traindev"):
        curves.run(True, (0,), data=tmp_path)


def test_it_goes_on_after_it_was_stopped(folder, monkeypatch, begun_again):
    monkeypatch.setattr(curves, "N_SIMULATED", 260)
    monkeypatch.setattr(curves, "QUICK_SIZES", (25, 50))
    made = begun_again(partial(curves.run, True, (4,), data=folder), after=7)
    assert len(made) == 5 and {key["data"] for key in made} == {"codiesp es, 50 codes"}
