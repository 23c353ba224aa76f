import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from label_config.errors import ConfigError
from label_config.record import EMR
from training import back_end as back_end_module
from training.encoder import Encoder
from training.features import FeatureStore

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="extra `openvino` not installed"
)
TEXTS = ["fever", "", "患者因糖尿病入院", "cough and fever with pain in the chest . " * 15]


@pytest.fixture(scope="module")
def on_openvino(encoder_folder) -> Encoder:
    return Encoder.load(str(encoder_folder), precision="float32", back_end="openvino")


@needs_openvino
def test_openvino_gives_the_states_of_torch_for_texts_of_any_length(tiny_encoder, on_openvino):
    expected, found = tiny_encoder.token_states(TEXTS), on_openvino.token_states(TEXTS)
    for torch_states, states in zip(expected, found, strict=True):
        np.testing.assert_allclose(states.states_TD, torch_states.states_TD, atol=1e-4)
        np.testing.assert_allclose(states.cls_D, torch_states.cls_D, atol=1e-4)


@needs_openvino
def test_openvino_embeds_a_text_alike_alone_and_beside_longer_ones(tiny_encoder, on_openvino):
    together = on_openvino.embed(TEXTS)
    alone = np.concatenate([on_openvino.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, tiny_encoder.embed(TEXTS), atol=1e-4)


@needs_openvino
@pytest.mark.parametrize("back_end", ["openvino", "openvino-int8"])
def test_faster_arithmetic_stays_within_a_cosine_of_0_995(tiny_encoder, encoder_folder, back_end):
    fast = Encoder.load(str(encoder_folder), precision="bfloat16", back_end=back_end)
    (exact,), (states,) = tiny_encoder.token_states(TEXTS[-1:]), fast.token_states(TEXTS[-1:])
    lengths = [np.linalg.norm(x.states_TD, axis=1) for x in (exact, states)]
    cosines = (exact.states_TD * states.states_TD).sum(1) / (lengths[0] * lengths[1])
    assert cosines.mean() >= 0.995


@needs_openvino
def test_one_back_end_does_not_read_the_cache_of_the_other(tiny_encoder, on_openvino, tmp_path):
    emrs = [EMR("emr-1", {"Illness": "cough and fever"})]
    FeatureStore(tiny_encoder, tmp_path).features(emrs)
    FeatureStore(on_openvino, tmp_path).features(emrs)
    assert tiny_encoder.checksum == on_openvino.checksum
    assert len(list(tmp_path.iterdir())) == 2


@needs_openvino
def test_openvino_is_for_processors_only(encoder_folder):
    with pytest.raises(ConfigError, match="got cuda"):
        Encoder.load(str(encoder_folder), device="cuda", back_end="openvino")


def test_openvino_cannot_report_its_use_to_its_makers(tmp_path):
    reporter = "import pathlib; pathlib.Path('sent').touch()"
    library = "try:\n    import openvino_telemetry\nexcept ImportError:\n    pass"
    (tmp_path / "openvino_telemetry.py").write_text(reporter)
    (tmp_path / "openvino.py").write_text(library)
    run = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    subprocess.run([sys.executable, "-c", run + "import openvino"], cwd=tmp_path, check=True)
    assert (tmp_path / "sent").exists()
    (tmp_path / "sent").unlink()
    ours = "from training.back_end import _openvino; _openvino()"
    subprocess.run(
        [sys.executable, "-c", run + ours],
        cwd=tmp_path,
        check=True,
        env={"PYTHONPATH": str(Path(back_end_module.__file__).parents[1])},
    )
    assert not (tmp_path / "sent").exists()


def test_a_missing_extra_is_named(encoder_folder, monkeypatch):
    monkeypatch.setattr(back_end_module, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"clinicoco\[openvino\]"):
        Encoder.load(str(encoder_folder), back_end="openvino")


def test_the_fingerprint_tells_precisions_apart_and_loads_of_one_alike(encoder_folder):
    prints = [
        Encoder.load(str(encoder_folder), precision=precision).fingerprint
        for precision in ("float32", "bfloat16", "float32")
    ]
    assert prints[0] == prints[2] != prints[1]
