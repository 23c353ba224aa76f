"""Distillation: what the sparse model reads in raw EMRs, as noisy codes that the network learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from label_config.record import Coding
from simulator.experiments.network_data import Ward, targets
from training.sparse import SparseConfig, SparseModel

NOISY_WEIGHT = 0.3
"""What a noisy EMR counts beside a clean one, as in the suggester."""
SURE = 0.5
"""A code that is less probable is not taught."""


def with_sparse_codes(data: Ward) -> Ward:
    """The ward with its raw EMRs among the noisy ones, coded by a sparse model.

    It has learned from the ward's noisy and clean EMRs; a taught code weighs its probability.
    Without raw EMRs the ward stays as it is.
    """
    if not data.raw:
        return data
    known, codings = [*data.clean, *data.noisy], [*data.clean_codings, *data.noisy_codings]
    weights_N = np.repeat([1.0, NOISY_WEIGHT], [len(data.clean), len(data.noisy)])
    model = SparseModel.fit(
        [emr.long_text for emr in known],
        targets(codings, data.codes),
        data.codes,
        SparseConfig(),
        weights_N=weights_N,
    )
    taught = []
    probs_NK = model.predict([emr.long_text for emr in data.raw])
    for emr, probs_K in zip(data.raw, probs_NK, strict=True):
        sure = np.flatnonzero(probs_K >= SURE)
        codes = tuple(data.codes[k] for k in sure)
        taught.append(Coding(emr.emr_id, codes, "noisy", tuple(map(float, probs_K[sure]))))
    return replace(
        data,
        raw=[],
        noisy=[*data.noisy, *data.raw],
        noisy_codings=[*data.noisy_codings, *taught],
    )
