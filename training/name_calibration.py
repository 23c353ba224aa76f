"""Names held out from their own code: what the name mapper is tuned on before a coder has spoken.

Shapes: Q held-out queries, M candidate names, C candidates per query, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from label_config.taxonomy import Taxonomy
from training.fold import fold_name
from training.names import abbreviations, corrupt, variants

Floats = npt.NDArray[np.float32]
_MAX_QUERIES = 1500
_FOREIGN_SHARE = 0.15
"""Share of queries that belong to no code of the project, as in a real diagnosis list."""
_HIDDEN = -1.0


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Queries whose right code is known, and the candidate names each of them may not see."""

    queries: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    """(Q,) index of the right code, -1 for "no code"."""
    hidden: tuple[npt.NDArray[np.int64], ...]
    reworded: npt.NDArray[np.bool_]
    """(Q,) True for another name of the code, not a misspelling: the blend rests on these."""
    query_folds: npt.NDArray[np.int64]
    code_folds: npt.NDArray[np.int64]
    """0 or 1 per query and per code: which half is tested while the other half trains."""

    def right(self, codes_QC: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which candidates are the right code."""
        return np.asarray(codes_QC == self.targets[:, None])

    def best(self, similarities: Mapping[float, Floats], owners_M: npt.NDArray[np.int64]) -> float:
        """The choice whose similarities (Q, M) find the right code most often."""
        rows = self.reworded if self.reworded.sum() >= 30 else self.targets >= 0
        accuracy = {}
        for choice, similarity_QM in similarities.items():
            masked = similarity_QM.copy()
            for q, columns in enumerate(self.hidden):
                masked[q, columns] = _HIDDEN
            nearest = owners_M[masked.argmax(axis=1)]
            accuracy[choice] = float((nearest == self.targets)[rows].sum())
        return max(accuracy, key=lambda choice: accuracy[choice])


def hold_out(
    names: Sequence[str],
    owners_M: npt.NDArray[np.int64],
    taxonomy: Taxonomy,
    codes: Sequence[str],
    *,
    seed: int = 0,
) -> HeldOut:
    """Make queries from the codes' own names (`names`, of code `owners_M`).

    Every name of a code with several becomes a query that cannot see itself; every name a
    misspelt one that can; names of codes outside the project ask for "no code".
    """
    rng = np.random.default_rng(seed)
    spellings = [{fold_name(v) for v in (*variants(name), *abbreviations(name))} for name in names]
    by_code: dict[int, list[int]] = {}
    for m, owner in enumerate(owners_M.tolist()):
        by_code.setdefault(owner, []).append(m)
    made: list[tuple[str, int, npt.NDArray[np.int64], bool]] = []
    nothing = np.zeros(0, dtype=np.int64)
    for m, owner in enumerate(owners_M.tolist()):
        same = np.array([j for j in by_code[owner] if spellings[j] & spellings[m]], dtype=np.int64)
        if len(same) < len(by_code[owner]):
            made.append((names[m], owner, same, True))
        made.append((corrupt(names[m], rng), owner, nothing, False))
    if len(made) > _MAX_QUERIES:
        made = [made[i] for i in sorted(rng.choice(len(made), _MAX_QUERIES, replace=False))]
    inside, own = set(codes), {fold_name(name) for name in names}
    outside = [e.title for e in taxonomy if e.code not in inside and fold_name(e.title) not in own]
    count = min(int(len(made) * _FOREIGN_SHARE), len(outside))
    if count:
        chosen = sorted(rng.choice(len(outside), count, replace=False))
        made += [(outside[i], -1, nothing, False) for i in chosen]
    fold_K = rng.permutation(len(codes)) % 2
    target_Q = np.array([target for _, target, _, _ in made], dtype=np.int64)
    return HeldOut(
        queries=tuple(query for query, _, _, _ in made),
        targets=target_Q,
        hidden=tuple(hidden for _, _, hidden, _ in made),
        reworded=np.array([reworded for _, _, _, reworded in made], dtype=bool),
        query_folds=np.where(target_Q >= 0, fold_K[target_Q], np.arange(len(made)) % 2),
        code_folds=fold_K,
    )
