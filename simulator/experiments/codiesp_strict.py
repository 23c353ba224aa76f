"""All codes of real cases, those that training has not seen counted too, with and without the part
that knows them by name.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.described import fit_described, join
from training.evaluate import bands, evaluate
from training.out_of_fold import targets
from training.thresholds import best_threshold

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
AT = 15
DESCRIBED = "fusion + described"


def strict_rows(
    learned: tuple[Sequence[EMR], Sequence[Coding]],
    judged: tuple[Sequence[EMR], Sequence[Coding]],
    fused: tuple[Floats, Floats],
    folds_N: NDArray[np.int64],
    *,
    codes: Sequence[str],
    taxonomy: Taxonomy,
) -> list[dict[str, Any]]:
    """One row for the fusion and one with names of new codes. `fused` is what the fusion says of
    the EMRs learned from, unseen, and of those judged, (N, K) each; every true code is in `codes`.
    """
    inside, truth = targets(learned[1], codes), targets(judged[1], codes)
    described, joined_NK = fit_described(
        *learned, folds_N, fused[0], codes=codes, taxonomy=taxonomy
    )
    said = {"fusion": fused}
    if described is not None:
        new, other_NK = [codes.index(code) for code in described.codes], fused[1].copy()
        other_NK[:, new] = join(other_NK[:, new], described.probs(judged[0]))
        said[DESCRIBED] = joined_NK, other_NK
    rows = []
    for member, (unseen_NK, other_NK) in said.items():
        threshold, validation = best_threshold(unseen_NK, inside)
        row = {"member": member, "validation_f1": validation}
        row |= evaluate(other_NK, truth, threshold=threshold)
        rows.append(row | band_recalls(other_NK, truth, inside.sum(axis=0)))
    return rows


def band_recalls(probs_NK: Floats, truth: Bools, counts_K: NDArray[np.int64]) -> dict[str, float]:
    """Recall among each EMR's 15 most probable codes, by how many EMRs a code was learned from."""
    recalls = {f"recall@{AT} 0": _recall(probs_NK, truth, counts_K == 0)}
    for band in bands(probs_NK, truth, counts_K, at=AT):
        recall = band[f"recall@{AT}"] if band["positives"] else np.nan
        recalls[f"recall@{AT} {band['band']}"] = recall
    return recalls


def _recall(probs_NK: Floats, truth: Bools, own_K: Bools) -> float:
    order_NK = np.argsort(-probs_NK, axis=1, kind="stable")[:, :AT]
    found_NK = np.take_along_axis(truth & own_K, order_NK, axis=1)
    true = int(truth[:, own_K].sum())
    return float(found_NK.sum() / true) if true else float("nan")
