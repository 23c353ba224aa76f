import dataclasses

import numpy as np
import pytest
import torch

from label_config.errors import CheckpointError, DataError, UnknownCode
from label_config.record import EMR, Coding, Diagnosis
from training import stages
from training.encoder import Encoder
from training.extractor import Extractor, ExtractorConfig
from training.features import FeatureStore
from training.network import KnnConfig, build_graphs, mixed
from training.stage_data import Taught, split_held_back, stage_data
from training.stage_loop import held_back_score, train_stages
from training.stages import (
    CleanConfig,
    Network,
    NoisyConfig,
    RawConfig,
    StagesConfig,
    train_network,
)

SMALL = ExtractorConfig(hidden=16, attention=16)
PRESETS = {
    "paper": dataclasses.replace(
        StagesConfig.paper(),
        extractor=SMALL,
        raw=RawConfig(epochs=2),
        noisy=NoisyConfig(epochs=2),
        clean=CleanConfig(epochs=2),
    ),
    "best": dataclasses.replace(
        StagesConfig.best(),
        extractor=dataclasses.replace(StagesConfig.best().extractor, hidden=16, attention=32),
        raw=RawConfig(epochs=2),
        noisy=NoisyConfig(epochs=12, contrastive=0.1, codes=1.0),
        clean=CleanConfig(epochs=20, gamma=0.1, evidence=0.1),
        lr=1e-2,
        batch=8,
        held_back=0.5,
        patience=4,
    ),
}


def train(ward, taxonomy, encoder, config, **kwargs) -> Network:
    """8 raw, 20 noisy (8 of them with a wrong code added), 20 clean EMRs."""
    emrs, codings = ward
    codes = [entry.code for entry in taxonomy]
    noisy = [
        Coding(
            c.emr_id, tuple(dict.fromkeys([*c.codes, codes[i % 4]] if i < 8 else c.codes)), "noisy"
        )
        for i, c in enumerate(codings[8:28])
    ]
    return train_network(
        emrs[:8],
        emrs[8:28],
        noisy,
        emrs[28:],
        codings[28:],
        codes=codes,
        taxonomy=taxonomy,
        encoder=encoder,
        config=config,
        **kwargs,
    )


@pytest.fixture(scope="module")
def networks(ward, four_codes, tiny_encoder) -> dict[str, Network]:
    return {name: train(ward, four_codes, tiny_encoder, config) for name, config in PRESETS.items()}


@pytest.fixture(params=PRESETS)
def network(request, networks) -> Network:
    return networks[request.param]


def targets(codings: list[Coding], codes: tuple[str, ...]) -> np.ndarray:
    return np.array([[code in coding.codes for code in codes] for coding in codings])


def test_probabilities_are_numbers_between_0_and_1_for_every_code(network, ward):
    for knn in (False, True):
        probs = network.predict(ward[0], knn=knn)
        assert probs.shape == (48, 4)
        assert probs.dtype == np.float32
        assert ((probs >= 0) & (probs <= 1)).all()


def test_the_best_preset_learns_which_code_is_which(networks, ward):
    network = networks["best"]
    unseen = ward[0][:8]
    probs, truth = network.predict(unseen), targets(ward[1][:8], network.codes)
    assert probs[truth].mean() > probs[~truth].mean() + 0.3


def test_knn_mixes_the_votes_in_by_lambda(network, ward):
    alone, mixed = network.predict(ward[0]), network.predict(ward[0], knn=True)
    votes = network.datastore.knn_probs(
        network.embed(ward[0]), 3, emr_ids=[emr.emr_id for emr in ward[0]]
    )
    np.testing.assert_allclose(mixed, 0.3 * votes + 0.7 * alone, atol=1e-5)


def test_an_adaptive_lambda_follows_nearness_and_doubt():
    knn = KnnConfig(weight=0.3, adaptive=True)
    probs = np.array([[0.99, 0.0], [0.5, 0.0], [0.5, 0.0], [0.5, 0.0]], np.float32)
    votes = np.tile(np.array([[0.0, 1.0]], np.float32), (4, 1))
    near = np.array([1.0, 1.0, 0.1, 50.0], np.float32)
    shares = mixed(probs, votes, knn, near_N=near)[:, 1]
    assert shares == pytest.approx([0.006, 0.3, 0.03, 1.0], abs=1e-6)
    assert (mixed(probs, votes, KnnConfig())[:, 1] == np.float32(0.3)).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_prediction_does_not_depend_on_its_minibatch(network, ward, encoder_folder, precision):
    encoder = Encoder.load(str(encoder_folder), precision=precision)
    illness = ward[0][0].sections["Illness"]
    emrs = [
        dataclasses.replace(emr, sections={"Illness": (illness + emr.sections["Illness"]) * times})
        for times, emr in enumerate(ward[0][:10], start=1)
    ]

    def predict(emrs):  # each with a network that has read nothing yet
        store = network.datastore
        fresh = Network(network.extractor, codes=network.codes, encoder=encoder, datastore=store)
        return fresh.predict(emrs)

    alone = np.concatenate([predict([emr]) for emr in emrs])
    np.testing.assert_allclose(predict(emrs), alone, atol=3e-5)


def test_embeddings_are_unit_length_and_the_datastore_holds_the_clean_emrs(network, ward):
    z = network.embed(ward[0])
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, atol=1e-4)
    assert len(network.datastore) == 20
    case, *_ = network.similar(ward[0][28], 2)
    assert case.emr_id != "emr-28"
    assert case.shared_words


def test_evidence_is_clean_text_of_the_record(network, ward):
    emr = ward[0][0]
    for code in network.codes:
        spans = network.evidence(emr, code)
        assert 1 <= len(spans) <= 5
        assert spans[0].score == 1.0
        assert [s.score for s in spans] == sorted((s.score for s in spans), reverse=True)
        for span in spans:
            text = emr.text_of(span.section)[span.start : span.end]
            assert text == text.strip(" .,")
            assert len(text.split()) <= 8


def test_evidence_of_the_best_preset_points_at_the_signs_of_the_code(networks, ward):
    network, hits, total = networks["best"], 0, 0
    for emr, coding in zip(ward[0][28:], ward[1][28:], strict=True):
        for mark in coding.evidence:
            span = network.evidence(emr, mark.code)[0]
            sentence = emr.text_of("Illness").find(".", mark.start)
            hits += span.section == "Illness" and mark.start <= span.start <= sentence
            total += 1
    assert hits / total > 0.6


def test_evidence_for_an_unknown_code_is_refused(network, ward):
    with pytest.raises(UnknownCode, match=r"Z99\.9"):
        network.evidence(ward[0][0], "Z99.9")


@pytest.mark.parametrize(
    "emr",
    [EMR("empty", {"Illness": "..."}), EMR("names only", {}, (Diagnosis("Pneumonia"),))],
    ids=lambda emr: emr.emr_id,
)
def test_a_record_without_words_gets_probabilities_and_no_evidence(network, emr):
    assert np.isfinite(network.predict([emr], knn=True)).all()
    assert network.evidence(emr, "I10") == ()


def test_probabilities_and_embedding_of_the_same_emrs_take_one_pass(network, ward, monkeypatch):
    emrs, runs = ward[0][:3], []
    real = network.extractor.forward

    def counted(batch, **kwargs):
        runs.append(len(batch.sizes_B))
        return real(batch, **kwargs)

    network.embed(ward[0][3:4])
    monkeypatch.setattr(network.extractor, "forward", counted)
    probs = network.predict(emrs)
    probs[:] = -1.0
    z = network.embed(emrs)
    assert runs == [3]
    assert (network.predict(emrs) >= 0).all()
    np.testing.assert_allclose(network.embed(emrs[1:]), z[1:], atol=1e-5)
    assert runs == [3, 2]


def test_no_emrs_give_no_predictions(network):
    assert network.predict([], knn=True).shape == (0, 4)


def test_a_newly_coded_emr_is_shown_at_once(networks, ward):
    network = networks["paper"]
    emr = EMR("new", {"Illness": "raised blood pressure"})
    network.learn([emr], [Coding("new", ("I10",), "clean")])
    assert "new" in network.datastore
    assert network.similar(EMR("twin", {"Illness": "raised blood pressure"}), 1)[0].emr_id == "new"


def test_prototypes_come_to_stand_near_the_emrs_with_their_code(
    ward, four_codes, tiny_encoder, tmp_path
):
    best = PRESETS["best"]
    config = dataclasses.replace(
        best,
        extractor=dataclasses.replace(best.extractor, prototypes=True),
        clean=dataclasses.replace(best.clean, gamma=1.0),
    )
    network = train(ward, four_codes, tiny_encoder, config)
    points = network.extractor.prototype_KH.detach()
    points = (points / points.norm(dim=1, keepdim=True)).numpy()
    truth = targets(ward[1], network.codes)
    alike = network.embed(ward[0]) @ points.T
    assert alike[truth].mean() > alike[~truth].mean() + 0.1
    network.save(tmp_path / "model")
    Network.load(tmp_path / "model", tiny_encoder)


def test_a_saved_network_says_the_same(network, ward, tiny_encoder, tmp_path):
    network.save(tmp_path / "model")
    loaded = Network.load(tmp_path / "model", tiny_encoder)
    emrs = ward[0][:6]
    np.testing.assert_array_equal(loaded.predict(emrs, knn=True), network.predict(emrs, knn=True))
    assert loaded.evidence(emrs[0], "I10") == network.evidence(emrs[0], "I10")
    assert loaded.similar(emrs[0]) == network.similar(emrs[0])
    assert loaded.provenance == network.provenance


def test_a_network_is_not_served_with_another_encoder(networks, tiny_encoder, tmp_path):
    networks["paper"].save(tmp_path / "model")
    other = object.__new__(type(tiny_encoder))
    other.__dict__ = {**tiny_encoder.__dict__, "checksum": "f" * 64}
    with pytest.raises(CheckpointError, match="trained on encoder"):
        Network.load(tmp_path / "model", other)


@pytest.mark.parametrize("name", ["model.safetensors", "datastore/emrs.parquet"])
def test_a_damaged_network_is_refused_by_name(networks, tiny_encoder, tmp_path, name):
    networks["paper"].save(tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=name):
        Network.load(tmp_path / "model", tiny_encoder)


def test_the_same_seed_gives_the_same_network(ward, four_codes, tiny_encoder, networks):
    again = train(ward, four_codes, tiny_encoder, PRESETS["best"])
    emrs = ward[0][:8]
    np.testing.assert_array_equal(again.predict(emrs), networks["best"].predict(emrs))
    assert again.provenance == networks["best"].provenance


def test_the_history_has_a_row_per_epoch_and_stage(networks):
    rows = networks["paper"].provenance["history"]
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        (stage, epoch) for stage in ("raw", "noisy", "clean") for epoch in (1, 2)
    ]
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_a_stage_stops_when_the_held_back_score_no_longer_rises(networks):
    for stage, epochs in (("noisy", 12), ("clean", 20)):
        history = networks["best"].provenance["history"]
        scores = [row["held_back"] for row in history if row["stage"] == stage]
        assert len(scores) == min(epochs, int(np.argmax(scores)) + 1 + 4)


def test_a_stage_with_held_back_emrs_ends_on_its_best_epoch(ward, four_codes, tiny_encoder):
    emrs, codings = ward
    config = dataclasses.replace(PRESETS["best"], noisy=NoisyConfig(epochs=0), lr=0.3)
    codes = [entry.code for entry in four_codes]
    extractor = Extractor(config.extractor, encoder_dim=tiny_encoder.dim, n_codes=4)
    features = FeatureStore(tiny_encoder).features(emrs)
    data = stage_data(build_graphs(features, config.extractor), emrs, codings, codes)
    history = train_stages(extractor, data.select(np.arange(0)), data, data, config)
    _, held_back = split_held_back(data, config.held_back, np.random.default_rng(config.seed))
    best = max(row["held_back"] for row in history if row["stage"] == "clean")
    assert held_back_score(extractor, held_back) == pytest.approx(best, abs=1e-6)


def test_held_back_emrs_are_not_trained_on(ward, four_codes, tiny_encoder):
    emrs, codings = ward
    features = FeatureStore(tiny_encoder).features(emrs)
    data = stage_data(build_graphs(features, SMALL), emrs, codings, ["I10"])
    kept, held = split_held_back(data, 0.25, np.random.default_rng(0))
    ids = [id(graph) for part in (kept, held) for graph in part.graphs]
    assert (len(kept.graphs), len(held.graphs)) == (36, 12)
    assert sorted(ids) == sorted(id(graph) for graph in data.graphs)
    assert split_held_back(data, 0.1, np.random.default_rng(0)) == (data, None)


def test_a_teacher_does_not_speak_of_those_that_judge_an_epoch(
    ward, four_codes, tiny_encoder, monkeypatch
):
    emrs, _ = ward
    taught = Taught(emrs, np.full((len(emrs), 4), 0.5))
    seen = []

    def train_nothing(extractor, raw, noisy, clean, config, progress, *, keep):
        seen.append((noisy, clean))
        return []

    monkeypatch.setattr(stages, "train_stages", train_nothing)
    config = PRESETS["best"]
    config = dataclasses.replace(config, noisy=dataclasses.replace(config.noisy, taught=1.0))
    train(ward, four_codes, tiny_encoder, config, taught=taught)
    ((noisy, clean),) = seen
    kept, held_back = split_held_back(clean, 0.5, np.random.default_rng(config.seed))
    in_stage_2 = {id(graph) for graph in noisy.graphs}
    assert not in_stage_2 & {id(graph) for graph in held_back.graphs}
    assert {id(graph) for graph in kept.graphs} < in_stage_2
    assert len(noisy.graphs) == len(emrs) - len(held_back.graphs)


def test_training_leaves_the_callers_random_numbers_alone(ward, four_codes, tiny_encoder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(ward, four_codes, tiny_encoder, PRESETS["paper"])
    assert torch.equal(torch.rand(3), expected)


def test_progress_names_the_stage_and_the_cache_is_used_again(
    ward, four_codes, tiny_encoder, tmp_path
):
    seen: list[tuple[str, int, int]] = []
    config = dataclasses.replace(PRESETS["paper"], noisy=NoisyConfig(epochs=1))
    for _ in range(2):
        train(
            ward,
            four_codes,
            tiny_encoder,
            config,
            cache=tmp_path,
            progress=lambda what, done, total: seen.append((what, done, total)),
        )
    assert seen.count(("encode", 48, 48)) == 1
    assert seen.count(("clean", 2, 2)) == 2


@pytest.mark.parametrize("left_out", ["raw", "noisy", "clean"])
def test_a_stage_without_emrs_is_left_out(ward, four_codes, tiny_encoder, left_out):
    emrs, codings = ward
    parts = {name: ([], []) if name == left_out else (emrs[:6], codings[:6]) for name in PARTS}
    network = train_network(
        parts["raw"][0],
        *parts["noisy"],
        *parts["clean"],
        codes=[entry.code for entry in four_codes],
        taxonomy=four_codes,
        encoder=tiny_encoder,
        config=PRESETS["paper"],
    )
    stages = {row["stage"] for row in network.provenance["history"]}
    assert stages == set(PARTS) - {left_out}
    assert np.isfinite(network.predict(emrs[:2], knn=True)).all()


PARTS = ("raw", "noisy", "clean")


def test_emrs_and_codings_in_another_order_are_refused(ward, four_codes, tiny_encoder):
    emrs, codings = ward
    with pytest.raises(DataError, match="same order"):
        train_network(
            [],
            [],
            [],
            emrs[:4],
            codings[3::-1],
            codes=["I10"],
            taxonomy=four_codes,
            encoder=tiny_encoder,
            config=PRESETS["paper"],
        )
