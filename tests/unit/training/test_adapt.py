import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertModel,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
)

from label_config.errors import CheckpointError, ConfigError, DataError
from label_config.record import EMR, Coding, Diagnosis
from training import adapt, lower_layers
from training.adapt import AdaptConfig, adapt_encoder
from training.adapter import Adapter, LoraShape, load_lora, lora_tensors, plain_model, with_lora
from training.checkpoint import load_tensors, open_checkpoint
from training.encoder import Encoder
from training.extractor import ExtractorConfig
from training.lower_layers import KeptRecords, mask_of, only_top
from training.network import Network
from training.stages import CleanConfig, NoisyConfig, RawConfig, StagesConfig, train_network

CODES = ("E11.9", "I10", "J18.9", "K35.8")
CONFIG = AdaptConfig(layers=1, rank=2, alpha=4.0, epochs=2, batch=8, lr=5e-3)
STAGES = StagesConfig(
    extractor=ExtractorConfig(hidden=8, attention=8, attend="words", static=True),
    raw=RawConfig(epochs=0),
    noisy=NoisyConfig(epochs=1, codes=1.0),
    clean=CleanConfig(epochs=2),
    start_from_names=True,
    adapt=CONFIG,
)


SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 0,
}
KINDS = {
    "RoBERTa": RobertaConfig(**SIZES),
    "ELECTRA": ElectraConfig(**SIZES, embedding_size=8),
    "DistilBERT": DistilBertConfig(vocab_size=50, dim=16, n_layers=3, n_heads=2, hidden_dim=32),
    "ModernBERT": ModernBertConfig(**SIZES, bos_token_id=1, eos_token_id=2),
}


def fine_tuned(encoder: Encoder, emrs, codings, **kwargs) -> Encoder:
    return adapt_encoder(encoder, emrs, codings, **{"codes": CODES, "config": CONFIG, **kwargs})


@pytest.fixture(scope="module")
def adapted(tiny_encoder, ward) -> Encoder:
    return fine_tuned(tiny_encoder, *ward)


@pytest.fixture(scope="module")
def foreign(tiny_encoder, encoder_folder, tmp_path_factory) -> Encoder:
    """An encoder of the same shape with other weights."""
    folder = tmp_path_factory.mktemp("foreign")
    torch.manual_seed(1)
    BertModel(BertModel.from_pretrained(encoder_folder).config).save_pretrained(folder)
    tiny_encoder.tokenizer.save_pretrained(folder)
    return Encoder.load(str(folder), precision="float32")


@pytest.fixture
def in_float32(monkeypatch) -> None:
    monkeypatch.setattr(lower_layers, "has_bfloat16", lambda device: False)


def states(encoder: Encoder, text: str) -> np.ndarray:
    return encoder.token_states([text])[0].states_TD


def weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    return encoder._run._model.state_dict()


def train(ward, taxonomy, encoder, config=STAGES, **kwargs) -> Network:
    """16 noisy and 32 clean EMRs."""
    emrs, codings = ward
    noisy = [dataclasses.replace(c, source="noisy", evidence=()) for c in codings[:16]]
    return train_network(
        [],
        emrs[:16],
        noisy,
        emrs[16:],
        codings[16:],
        codes=CODES,
        taxonomy=taxonomy,
        encoder=encoder,
        config=config,
        **kwargs,
    )


def test_only_the_adapters_of_the_top_layers_get_a_gradient(tiny_encoder):
    model = with_lora(plain_model(tiny_encoder), LoraShape(1, 2, 4.0))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 6  # A and B of query, key, value and the three dense layers
    assert all("encoder.layer.1." in name and "lora_" in name for name in trained)


def test_weights_below_the_top_layers_stay_the_same_bit_for_bit(tiny_encoder, adapted):
    before, after = weights(tiny_encoder), weights(adapted)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 6
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def test_the_merged_encoder_gives_the_states_of_the_unmerged_adapters(tiny_encoder, ward, adapted):
    model = with_lora(plain_model(tiny_encoder), adapted.adapter.shape)
    load_lora(model, adapted.adapter.tensors)
    text = ward[0][0].long_text
    ids = tiny_encoder.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        unmerged = model(input_ids=ids).last_hidden_state[0, 1:-1].numpy()
    np.testing.assert_allclose(states(adapted, text), unmerged, atol=1e-5)
    assert not np.allclose(states(tiny_encoder, text), unmerged, atol=1e-2)


def test_the_top_layers_alone_go_on_from_the_kept_states_of_a_record_of_several_windows(
    tiny_encoder, ward, tmp_path, in_float32
):
    texts = [" ".join(emr.long_text for emr in ward[0][:12]), ward[0][0].long_text]
    model = with_lora(plain_model(tiny_encoder), LoraShape(1, 2, 4.0))
    records = KeptRecords.read(model, tiny_encoder, texts, 1, tmp_path)
    assert [len(windows) > 1 for windows in records.windows] == [True, False]
    nothing = torch.zeros(2, len(CODES))
    trainer = adapt._Trainer(model, tiny_encoder, records, nothing, nothing)
    with only_top(model, 1), torch.no_grad():
        tokens_BSD, sizes_B = trainer._tokens(np.array([1, 0]))
    for text, tokens_SD, size in zip(texts[::-1], tokens_BSD, sizes_B, strict=True):
        np.testing.assert_allclose(tokens_SD[:size], states(tiny_encoder, text), atol=5e-3)


@pytest.mark.parametrize("config", KINDS.values(), ids=list(KINDS))
def test_the_top_layers_of_every_kind_of_encoder_run_alone(config: PretrainedConfig):
    plain = AutoModel.from_config(config).eval().requires_grad_(False)
    model = with_lora(plain, LoraShape(2, 2, 4.0)).eval()
    ids, mask = torch.randint(3, 50, (2, 12)), mask_of([12, 7])
    with torch.inference_mode():
        whole = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        with only_top(model, 2):
            top = model(inputs_embeds=whole.hidden_states[-3], attention_mask=mask)
    torch.testing.assert_close(top.last_hidden_state[mask], whole.last_hidden_state[mask])


def test_afterwards_the_model_has_all_its_layers_again(tiny_encoder):
    model = with_lora(plain_model(tiny_encoder), LoraShape(1, 2, 4.0))
    with pytest.raises(KeyError), only_top(model, 1):
        raise KeyError
    text = "cough and fever"
    encoded = tiny_encoder.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        whole = model(**encoded).last_hidden_state[0, 1:-1].numpy()
    np.testing.assert_allclose(whole, states(tiny_encoder, text), atol=1e-5)


def test_it_learns_a_word_that_stands_for_a_code(tiny_encoder):
    rng = np.random.default_rng(0)
    fillers = ["patient", "ward", "stable", "pain", "cough", "fever", "chest", "glucose"]
    emrs, codings = [], []
    for i in range(128):
        words = list(rng.choice(fillers, 6))
        if i % 3 == 0:
            words[rng.integers(6)] = "amlodipine"
        emrs.append(EMR(f"emr-{i}", {"Illness": " ".join(words)}))
        codings.append(Coding(f"emr-{i}", ("I10",) if i % 3 == 0 else (), "clean"))
    config = AdaptConfig(layers=2, epochs=12, batch=8, lr=3e-3, patience=12)
    found = fine_tuned(tiny_encoder, emrs, codings, codes=["I10"], config=config, held_back=0.3)
    scores = [row["held_back"] for row in found.adapter.history]
    assert scores[0] + 0.1 < max(scores) > 0.9


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny_encoder, ward, adapted):
    again, other = (fine_tuned(tiny_encoder, *ward, seed=seed) for seed in (0, 1))
    assert again.checksum == adapted.checksum != other.checksum
    assert again.adapter.tensors.keys() == adapted.adapter.tensors.keys()
    for name, tensor in again.adapter.tensors.items():
        assert torch.equal(tensor, adapted.adapter.tensors[name])


def test_it_leaves_the_random_numbers_of_others_alone(tiny_encoder, ward):
    torch.manual_seed(7)
    fine_tuned(tiny_encoder, *(part[:8] for part in ward))
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))


def test_a_fine_tuned_encoder_is_another_one_for_caches_and_models(tiny_encoder, adapted):
    assert adapted.checksum != tiny_encoder.checksum
    assert adapted.fingerprint != tiny_encoder.fingerprint
    assert (adapted.name, adapted.back_end) == (tiny_encoder.name, tiny_encoder.back_end)


def test_it_stops_when_the_held_back_score_no_longer_rises(tiny_encoder, ward):
    config = dataclasses.replace(CONFIG, epochs=30, patience=2)
    found = fine_tuned(tiny_encoder, *ward, config=config, held_back=0.3)
    scores = [row["held_back"] for row in found.adapter.history]
    assert len(scores) == min(30, int(np.argmax(scores)) + 1 + 2)


def test_noisy_emrs_count_by_their_confidence_and_without_one_fully(tiny_encoder, ward):
    emrs, codings = ward

    def with_confidence(value: float | None) -> str:
        noisy = [
            Coding(c.emr_id, c.codes, "noisy", confidence=(value,) * len(c.codes) if value else ())
            for c in codings[:16]
        ]
        parts = emrs[16:], codings[16:]
        return fine_tuned(tiny_encoder, *parts, also=(emrs[:16], noisy)).checksum

    assert with_confidence(None) == with_confidence(1.0) != with_confidence(0.2)


def test_emrs_without_text_teach_nothing(tiny_encoder, ward, adapted):
    emrs, codings = ward
    empty = EMR("empty", {"Illness": "  "}, (Diagnosis("hypertension"),))
    with_empty = fine_tuned(
        tiny_encoder, emrs, codings, also=([empty], [Coding("empty", ("I10",), "noisy")])
    )
    assert len(with_empty.adapter.history) == len(adapted.adapter.history)
    assert all(torch.isfinite(t).all() for t in with_empty.adapter.tensors.values())
    with pytest.raises(DataError, match="EMRs with text"):
        fine_tuned(tiny_encoder, [empty], [Coding("empty", ("I10",), "clean")])
    with pytest.raises(DataError, match="EMRs with text, got none in 0"):
        fine_tuned(tiny_encoder, [], [])


def test_an_adapter_comes_back_from_its_folder_as_it_was(tiny_encoder, ward, adapted, tmp_path):
    adapted.adapter.save(tmp_path / "adapter")
    loaded = Adapter.load(tmp_path / "adapter")
    assert loaded.checksum == adapted.checksum
    assert list(loaded.history) == list(adapted.adapter.history)
    again, text = loaded.apply(tiny_encoder), ward[0][0].long_text
    np.testing.assert_array_equal(states(again, text), states(adapted, text))


def test_an_adapter_refuses_an_encoder_that_it_was_not_trained_on(adapted, foreign):
    with pytest.raises(CheckpointError, match="was trained on an encoder"):
        adapted.adapter.apply(foreign)
    with pytest.raises(CheckpointError, match="was trained on an encoder"):
        adapted.adapter.apply(adapted)


def test_a_fine_tuned_encoder_is_not_fine_tuned_again(adapted, ward):
    with pytest.raises(CheckpointError, match="only a plain encoder"):
        fine_tuned(adapted, *ward)


def test_matrices_of_another_shape_are_refused(tiny_encoder, adapted):
    wide = dataclasses.replace(adapted.adapter, shape=LoraShape(1, 3, 4.0))
    with pytest.raises(CheckpointError, match="do not fit the encoder"):
        wide.apply(tiny_encoder)


@pytest.mark.parametrize("name", ["adapter.safetensors", "config.json", "manifest.json"])
def test_a_damaged_adapter_is_refused_by_name(adapted, tmp_path, name):
    adapted.adapter.save(tmp_path / "adapter")
    path = tmp_path / "adapter" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=name):
        Adapter.load(tmp_path / "adapter")


def test_an_adapter_without_its_shape_is_refused(adapted, tmp_path):
    with pytest.raises(CheckpointError, match="no model at"):
        Adapter.load(tmp_path)
    adapted.adapter.save(tmp_path / "adapter")
    assert sorted(p.suffix for p in (tmp_path / "adapter").iterdir()) == [
        ".json",
        ".json",
        ".safetensors",
    ]


def test_a_network_keeps_its_adapter_and_loads_with_the_plain_encoder(
    tiny_encoder, ward, four_codes, foreign, tmp_path
):
    network = train(ward, four_codes, tiny_encoder)
    expected = network.predict(ward[0], knn=True)
    network.save(tmp_path / "network")
    loaded = Network.load(tmp_path / "network", tiny_encoder)
    assert loaded.encoder.checksum == network.encoder.checksum != tiny_encoder.checksum
    np.testing.assert_array_equal(loaded.predict(ward[0], knn=True), expected)
    with_it = Network.load(tmp_path / "network", network.encoder)
    np.testing.assert_array_equal(with_it.predict(ward[0], knn=True), expected)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "adapter").is_dir()
    with pytest.raises(CheckpointError, match="was trained on an encoder"):
        Network.load(tmp_path / "network", foreign)
    settings = open_checkpoint(tmp_path / "network", kind="network")["provenance"]["settings"]
    assert AdaptConfig(**json.loads(json.dumps(settings))["adapt"]) == CONFIG


def test_a_network_on_the_plain_encoder_has_no_adapter(tiny_encoder, ward, four_codes, tmp_path):
    plain = dataclasses.replace(STAGES, adapt=None)
    network = train(ward, four_codes, tiny_encoder, plain)
    network.save(tmp_path / "network")
    assert network.encoder is tiny_encoder
    assert not (tmp_path / "network" / "adapter").exists()


def test_a_resumed_run_takes_the_adapter_from_its_folder(
    tiny_encoder, ward, four_codes, tmp_path, monkeypatch
):
    whole = train(ward, four_codes, tiny_encoder)
    first = train(ward, four_codes, tiny_encoder, run_folder=tmp_path)
    monkeypatch.setattr(adapt, "_fine_tune", None)
    resumed = train(ward, four_codes, tiny_encoder, run_folder=tmp_path)
    for network in (first, resumed):
        assert network.encoder.checksum == whole.encoder.checksum
        np.testing.assert_array_equal(network.predict(ward[0]), whole.predict(ward[0]))
    other = dataclasses.replace(STAGES, adapt=dataclasses.replace(CONFIG, lr=1e-3))
    with pytest.raises(CheckpointError, match="adapter belongs to a run with other data or"):
        train(ward, four_codes, tiny_encoder, other, run_folder=tmp_path)


def test_two_processes_fine_tune_once_and_share_the_adapter(trainer, tmp_path):
    trainer.start(tmp_path / "model", "adapted", run_folder=str(tmp_path / "run"), processes=2)
    assert trainer.ended() == 0
    folders = [tmp_path / f"model{rank}" for rank in range(2)]
    checksums = [open_checkpoint(f, kind="network")["encoder"]["checksum"] for f in folders]
    kept = Adapter.load(tmp_path / "run" / "adapter").checksum
    assert checksums == [kept, kept]
    first, second = (load_tensors(folder / "model.safetensors") for folder in folders)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=0)


def test_several_processes_need_a_folder_to_share_it_in(tiny_encoder, ward, monkeypatch):
    monkeypatch.setattr(adapt.Workers, "of_environment", lambda: adapt.Workers(0, 2))
    with pytest.raises(ConfigError, match="run_folder"):
        fine_tuned(tiny_encoder, *ward)


def test_without_peft_the_error_names_the_extra(tiny_encoder, ward, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"clinicoco\[lora\]"):
        fine_tuned(tiny_encoder, *ward)


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": 0},
        {"rank": 0},
        {"alpha": 0.0},
        {"epochs": 0},
        {"lr": 0.0},
        {"batch": 0},
        {"dropout": 1.0},
        {"patience": 0},
    ],
)
def test_settings_that_no_run_can_use_are_refused(wrong):
    with pytest.raises(ConfigError, match="got"):
        AdaptConfig(**wrong)


def test_a_rate_of_learning_that_makes_it_diverge_is_refused(tiny_encoder, ward):
    with pytest.raises(ConfigError, match="diverged"):
        fine_tuned(tiny_encoder, *ward, config=dataclasses.replace(CONFIG, lr=1e30))


def test_more_layers_than_the_encoder_has_are_refused(tiny_encoder, ward):
    with pytest.raises(ConfigError, match="layers in 1 to 2, the encoder's, got 3"):
        fine_tuned(tiny_encoder, *ward, config=dataclasses.replace(CONFIG, layers=3))


def test_codings_of_other_emrs_are_refused(tiny_encoder, ward):
    with pytest.raises(DataError, match="its own coding"):
        fine_tuned(tiny_encoder, ward[0], ward[1][1:])
    with pytest.raises(ConfigError, match="at least one code"):
        fine_tuned(tiny_encoder, *ward, codes=[])


def test_the_adapters_change_nothing_before_they_are_trained(tiny_encoder):
    model = with_lora(plain_model(tiny_encoder), LoraShape(2, 2, 4.0))
    assert all((t == 0).all() for name, t in lora_tensors(model).items() if "lora_B" in name)


def test_a_mask_marks_the_first_so_many_of_each_row():
    assert mask_of([2, 0, 3]).tolist() == [[True, True, False], [False] * 3, [True] * 3]
