"""Codes that few or no training EMRs have: how many of them are found by name and by evidence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from label_config.taxonomy import Taxonomy
from simulator.experiments.cells import Cell, hash_of
from simulator.experiments.noise_data import TRAINED, Corpus
from training.encoder import Encoder
from training.lexicon import Lexicon
from training.out_of_fold import targets
from training.zero_shot import ZeroShot

RARE_EMRS = 100
"""EMRs on which rare codes are looked for."""
ZERO_SHOT_SHARE = 0.5
"""How much zero-shot scores count beside others."""
BANDS = ((0, 0), (1, 4), (5, 19), (20, 10_000))
"""Training EMRs per code."""


def rare_cells(corpus: Corpus, seeds: Sequence[int]) -> list[Cell]:
    """The rare codes of every seed."""
    encoder = Encoder.load()
    about = {"data": f"{corpus.name}, all codes", "hash": hash_of(corpus.hash, encoder.fingerprint)}
    return [
        Cell(about | {"seed": seed}, partial(_rare_cell, corpus, encoder, seed)) for seed in seeds
    ]


def _rare_cell(corpus: Corpus, encoder: Encoder, seed: int) -> tuple[str, list[dict[str, Any]]]:
    return corpus.hash, rare_rows(corpus, Taxonomy.icd10cm(), encoder, seed)


def rare_rows(
    corpus: Corpus, taxonomy: Taxonomy, encoder: Encoder, seed: int
) -> list[dict[str, Any]]:
    """Recall@15 over all codes by how many training EMRs a code has: names and evidence alone,
    then with the codes' names read by sentence.
    """
    order = np.random.default_rng(seed).permutation(len(corpus.emrs)).tolist()
    cut = int(TRAINED * len(order))
    emrs, codings = corpus.part(order[:cut])
    test_emrs, test_codings = corpus.part(order[cut : cut + RARE_EMRS])
    lexicon_NK = Lexicon.fit(emrs, codings, taxonomy, corpus.codes).scores(test_emrs)
    zero_shot_NK = ZeroShot(corpus.codes, taxonomy, encoder).scores(test_emrs)
    true_NK = targets(test_codings, corpus.codes)
    counts_K = targets(codings, corpus.codes).sum(axis=0)
    rows = []
    for method, scores_NK in (
        ("lexicon", lexicon_NK),
        ("zero-shot", zero_shot_NK),
        ("lexicon + zero-shot", lexicon_NK + ZERO_SHOT_SHARE * zero_shot_NK),
    ):
        top = np.argsort(-scores_NK, axis=1, kind="stable")[:, :15]
        found_NK = np.zeros_like(true_NK)
        np.put_along_axis(found_NK, top, True, axis=1)
        row = {"data": f"{corpus.name}, all codes", "noise": 0.0, "seed": seed, "method": method}
        for low, high in BANDS:
            own = (counts_K >= low) & (counts_K <= high)
            share = (found_NK & true_NK)[:, own].sum() / max(1, true_NK[:, own].sum())
            row[f"recall15_{low}_{high}"] = round(float(share), 4)
        rows.append(row)
    return rows
