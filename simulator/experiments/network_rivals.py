"""Published extractors on a simulated hospital: what they learn from and how they are tuned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from label_config.record import Coding
from label_config.taxonomy import Taxonomy
from simulator.experiments.network_data import Ward, targets
from training.encoder import Encoder
from training.features import FeatureStore
from training.rival_batch import CodeFacts
from training.rival_models import RIVALS, RivalConfig, RivalName
from training.rivals import Examples, tuned
from training.stage_data import name_states

HELD_BACK = 0.15
"""Share of the clean EMRs that chooses the epoch and the setting, as in our own preset."""
LEARNING_RATES, QUICK_LEARNING_RATES = (1e-3, 3e-3), (3e-3,)
DROPOUTS, QUICK_DROPOUTS = (0.1, 0.3), (0.2,)
"""Every rival is tried at each pair: the same budget for all."""
EPOCHS, QUICK_EPOCHS = 40, 12


def rival_names() -> dict[str, RivalName]:
    """All of them, as contestants of a table."""
    return {name: name for name in RIVALS}


def rival_probs(
    name: RivalName, data: Ward, encoder: Encoder, cache: Path, *, seed: int, quick: bool
) -> NDArray[np.float32]:
    """What a tuned rival says of the unseen EMRs, shape (N, K).

    It learns from the noisy EMRs, each noisy code by its confidence, and the clean ones together;
    part of the clean ones are held back to choose epoch and setting.
    """
    store = FeatureStore(encoder, cache)
    clean = Examples(store.features(data.clean), targets(data.clean_codings, data.codes))
    order = np.random.default_rng(seed).permutation(len(data.clean))
    n_held = max(1, round(HELD_BACK * len(order)))
    taught = clean.select(order[n_held:])
    train = Examples(
        [*store.features(data.noisy), *taught.features],
        np.concatenate([_given(data.noisy_codings, data.codes), taught.targets_NK]),
        np.concatenate(
            [confidences(data.noisy_codings, data.codes), np.ones(taught.targets_NK.shape)]
        ),
    )
    fitted = tuned(
        train,
        settings(name, seed=seed, quick=quick),
        code_facts(data.codes, data.taxonomy, encoder),
        held_back=clean.select(order[:n_held]),
        device=encoder.device,
    )
    return fitted.predict(store.features(data.unseen))


def settings(name: RivalName, *, seed: int, quick: bool) -> list[RivalConfig]:
    """What is tried; the same number for every rival."""
    rates = QUICK_LEARNING_RATES if quick else LEARNING_RATES
    dropouts = QUICK_DROPOUTS if quick else DROPOUTS
    epochs = QUICK_EPOCHS if quick else EPOCHS
    return [
        RivalConfig(name, lr=lr, dropout=dropout, epochs=epochs, seed=seed)
        for lr, dropout in product(rates, dropouts)
    ]


def code_facts(codes: Sequence[str], taxonomy: Taxonomy, encoder: Encoder) -> CodeFacts:
    """The categories of the codes, and what their names look like to the encoder."""
    above = [taxonomy.category(code) for code in codes]
    _, category_K = np.unique(above, return_inverse=True)
    return CodeFacts(category_K.astype(np.int64), name_states(encoder, taxonomy, codes))


def confidences(codings: Sequence[Coding], codes: Sequence[str]) -> NDArray[np.float64]:
    """What each cell counts, shape (N, K): a noisy code its confidence, everything else 1."""
    column = {code: k for k, code in enumerate(codes)}
    weights_NK = np.ones((len(codings), len(codes)))
    for row, coding in enumerate(codings):
        for code, certain in zip(coding.codes, coding.confidence, strict=False):
            if code in column:
                weights_NK[row, column[code]] = certain
    return weights_NK


def _given(codings: Sequence[Coding], codes: Sequence[str]) -> NDArray[Any]:
    return targets(codings, codes).reshape(len(codings), len(codes))
