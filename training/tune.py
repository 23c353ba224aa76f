"""The fused threshold, and how good suggestions are, from EMRs that no part has learned from.

Shapes: N clean EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from training.evaluate import counts_figures
from training.fusion import Fusion
from training.late import Late, heard
from training.thresholds import best_threshold, promised_threshold, steady_threshold

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
PARTS = 4
"""Into which the EMRs are cut on which late members were heard."""


def fuse_unseen(
    fusion: Fusion,
    scores: Mapping[str, Floats],
    targets_NK: Bools,
    folds_N: npt.NDArray[np.int64],
) -> Floats:
    """Fit `fusion` in place; return what fusions that missed an EMR's fold say of it, (N, K).

    What late members add is learned where they were heard, and judged there in parts.
    """
    fused_NK = np.zeros(targets_NK.shape)
    early = {member: scores[member] for member in fusion.members}
    for fold in np.unique(folds_N):
        train, test = folds_N != fold, folds_N == fold
        part = Fusion(fusion.members, config=fusion.config)
        part.fit({m: s[train] for m, s in early.items()}, targets_NK[train])
        fused_NK[test] = part.combine({m: s[test] for m, s in early.items()})
    fusion.fit(early, targets_NK)
    if not fusion.late.members:
        return fused_NK
    fusion.fit_late(scores, fused_NK, targets_NK)
    return _join_unseen(fusion, scores, fused_NK, targets_NK)


def _join_unseen(
    fusion: Fusion, scores: Mapping[str, Floats], fused_NK: Floats, targets_NK: Bools
) -> Floats:
    """`fused_NK` with what late members add to it, each learned without the part it is added to."""
    joined_NK = fused_NK.copy()
    rows = np.flatnonzero(heard(fusion.late.members, scores))
    for part in range(PARTS):
        test = rows[part::PARTS]
        train = np.setdiff1d(rows, test)
        late = Late.fit(
            fusion.late.members,
            {m: scores[m][train] for m in fusion.late.members},
            fused_NK[train],
            targets_NK[train],
            pull=fusion.config.pull_weights,
        )
        said = {m: scores[m][test] for m in fusion.late.members}
        joined_NK[test] = late.join(fused_NK[test], said)
    return joined_NK


def tune(
    fusion: Fusion,
    scores: Mapping[str, Floats],
    fused_NK: Floats,
    targets_NK: Bools,
    *,
    miss: float | None,
) -> tuple[float, dict[str, float]]:
    """A steady threshold of a high F1, or that of a promise to `miss` few codes; and the figures.

    `scores` and `fused_NK` are what the members and all together say of EMRs unseen.
    """
    threshold, promised = steady_threshold(fused_NK, targets_NK), {}
    if miss is not None:
        promise = promised_threshold(fused_NK, targets_NK, miss=miss)
        threshold = promise.threshold
        promised = {"promised_miss": miss, "promise_kept": float(promise.kept)}
        promised["candidates"] = promise.candidates
    ticked_NK = fused_NK >= threshold
    true = float((ticked_NK & targets_NK).sum())
    validation = {
        "micro_f1": counts_figures(ticked_NK, targets_NK)["micro_f1"],
        "precision": true / max(1.0, float(ticked_NK.sum())),
        "recall": true / max(1.0, float(targets_NK.sum())),
        "threshold": threshold,
        **promised,
    }
    for member, said_NK in scores.items():
        heard = np.isfinite(said_NK).all(axis=1)
        validation[f"{member}_f1"] = best_threshold(said_NK[heard], targets_NK[heard])[1]
        validation[f"{member}_weight"] = fusion.weights()[member]
    return threshold, validation
