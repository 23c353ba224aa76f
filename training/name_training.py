"""Trains how names are compared: the SimCSE layer, its strength, the ranker and the codes' prior.

Shapes: N names of the pool, Q held-out queries, M candidate names, C candidates, K codes, D.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from training.candidate_names import SHORTLIST, CandidateNames
from training.fold import fold_name
from training.name_calibration import HeldOut
from training.name_features import shortlist
from training.name_ranker import Ranker
from training.simcse import SimCSEConfig, apply_layer, train_layer

Floats = npt.NDArray[np.float32]
_STRENGTHS = (0.0, 0.5, 1.0)
_CONFIRMED_PULL = 0.1
_MOST_SYNONYMS = 8
"""Names of one code that each of its names is drawn to."""


def train_names(
    candidates: CandidateNames,
    pool: Sequence[str],
    held_out: HeldOut,
    *,
    simcse: SimCSEConfig,
    seed: int,
) -> Ranker:
    """Choose the layer's strength and fit the ranker by two-fold crossing over codes; then train
    the layer on all. `pool` are folded names.
    """
    pool_ND = candidates.encoder.embed(pool) if pool else candidates.raw_MD[:0]
    queries = [fold_name(q) for q in held_out.queries]
    queries_ND = candidates.encoder.embed(queries)
    characters_QM = candidates.characters.similarity(queries)
    layers = [
        _layer(candidates, pool_ND, held_out.code_folds != fold, simcse, seed) for fold in (0, 1)
    ]
    encoded = {}
    for strength in _STRENGTHS:
        encoded[strength] = np.empty_like(characters_QM)
        for fold, layer_DD in enumerate(layers):
            rows = held_out.query_folds == fold
            moved_ND = apply_layer(queries_ND[rows], layer_DD, strength)
            own_MD = apply_layer(candidates.raw_MD, layer_DD, strength)
            encoded[strength][rows] = moved_ND @ own_MD.T
    both = {s: encoded_QM + characters_QM for s, encoded_QM in encoded.items()}
    strength = held_out.best(both, candidates.owners_M)
    found = shortlist(
        queries_ND @ candidates.raw_MD.T,
        encoded[strength],
        characters_QM,
        candidates.upper_cosines(queries_ND),
        candidates.owners_M,
        candidates.traits,
        candidates.log_prior_K,
        size=SHORTLIST,
        hidden=held_out.hidden,
    )
    right_QC = held_out.right(found.codes_NC)
    usable = right_QC.any(axis=1) | (held_out.targets < 0)
    all_K = np.ones(len(held_out.code_folds), dtype=bool)
    candidates.tune(_layer(candidates, pool_ND, all_K, simcse, seed), strength)
    return Ranker.fit(found.features_NCF[usable], right_QC[usable])


def learn_prior(candidates: CandidateNames, ranker: Ranker, pool: Sequence[str]) -> None:
    """How common each code is, from the pool's folded names; unchanged where there are none."""
    if pool:
        found = candidates.shortlist(pool)
        candidates.log_prior_K = ranker.code_prior(
            found.features_NCF, found.codes_NC, len(candidates.log_prior_K)
        )


def fit_ranker(
    candidates: CandidateNames,
    codes: Sequence[str],
    keys: Sequence[str],
    right: Sequence[Collection[str]],
) -> Ranker:
    """Learn from names whose codes are known, as far as they are on the short list."""
    found = candidates.shortlist(keys)
    right_NC = np.array(
        [
            [codes[k] in answer for k in row]
            for answer, row in zip(right, found.codes_NC, strict=True)
        ]
    )
    known = set(codes)
    outside = np.array([known.isdisjoint(answer) for answer in right])
    usable = right_NC.any(axis=1) | outside
    return Ranker.fit(found.features_NCF[usable], right_NC[usable], pull=_CONFIRMED_PULL)


def drawn(names: list[str], most: int, seed: int) -> list[str]:
    """At most so many of the names, in their order."""
    if len(names) <= most:
        return names
    chosen = np.random.default_rng(seed).choice(len(names), most, replace=False)
    return [names[i] for i in sorted(chosen)]


def _layer(
    candidates: CandidateNames,
    pool_ND: Floats,
    trained_K: npt.NDArray[np.bool_],
    simcse: SimCSEConfig,
    seed: int,
) -> Floats:
    """SimCSE over the pool's names and the names of the codes in `trained_K`."""
    own = np.flatnonzero(trained_K[candidates.owners_M])
    owners = candidates.owners_M[own].tolist()
    embeddings = np.concatenate([candidates.raw_MD[own], pool_ND])
    groups = [*owners, *([-1] * len(pool_ND))]
    by_code: dict[int, list[int]] = {}
    for row, owner in enumerate(owners):
        by_code.setdefault(owner, []).append(row)
    pairs = [(i, i) for i in range(len(embeddings))]
    pairs += [
        (i, j) for rows in by_code.values() for i in rows for j in rows[:_MOST_SYNONYMS] if i != j
    ]
    return train_layer(embeddings, pairs, groups, config=simcse, seed=seed)
