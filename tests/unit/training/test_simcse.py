import numpy as np
import pytest

from label_config.errors import ConfigError
from training.simcse import SimCSEConfig, apply_layer, train_layer


def embeddings(n: int = 12, dim: int = 16) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_names_of_one_code_move_together() -> None:
    x = embeddings()
    groups = [i // 2 for i in range(12)]
    pairs = [(i, i ^ 1) for i in range(12)]
    layer = train_layer(x, pairs, groups, config=SimCSEConfig(epochs=60))
    moved = apply_layer(x, layer)
    before = np.mean([x[i] @ x[i + 1] for i in range(0, 12, 2)])
    after = np.mean([moved[i] @ moved[i + 1] for i in range(0, 12, 2)])
    assert after > before + 0.2


def test_the_same_seed_gives_the_same_layer() -> None:
    x, pairs = embeddings(), [(i, i) for i in range(12)]
    one, two = (train_layer(x, pairs, [-1] * 12, config=SimCSEConfig(), seed=3) for _ in range(2))
    assert (one == two).all() and one.any()


def test_without_pairs_or_strength_nothing_moves() -> None:
    x = embeddings()
    layer = train_layer(x, [], [], config=SimCSEConfig())
    assert not layer.any()
    assert apply_layer(x, np.ones((16, 16), np.float32), 0.0) == pytest.approx(x, abs=1e-6)


def test_an_unusable_temperature_is_refused() -> None:
    with pytest.raises(ConfigError, match="temperature above 0"):
        SimCSEConfig(temperature=0)
