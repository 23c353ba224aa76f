"""Distillation: what the sparse model reads in a ward's EMRs, as soft targets for the network."""

from __future__ import annotations

import numpy as np

from simulator.experiments.network_data import Ward
from training.stages import Taught
from training.suggester_config import SuggesterConfig
from training.teacher import sparse_teacher


def taught_by_sparse(data: Ward, *, seed: int = 0) -> Taught:
    """What it says of the ward's clean and noisy EMRs, out of fold, and of its raw ones."""
    noisy_weight = SuggesterConfig().noisy_weight
    weights_N = np.repeat([1.0, noisy_weight], [len(data.clean), len(data.noisy)])
    return sparse_teacher(
        [*data.clean, *data.noisy],
        [*data.clean_codings, *data.noisy_codings],
        data.raw,
        codes=data.codes,
        weights_N=weights_N,
        seed=seed,
    )
