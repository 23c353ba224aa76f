"""The sparse model as the network's teacher: probabilities of EMRs whose codes it has not seen.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from label_config.record import EMR, Coding
from training.out_of_fold import draw_folds, targets
from training.sparse import SparseConfig, SparseModel, out_of_fold
from training.stage_data import Taught

FOLDS = 3
"""Parts that the EMRs with codings are cut into."""


def sparse_teacher(
    known: Sequence[EMR],
    codings: Sequence[Coding],
    others: Sequence[EMR],
    *,
    codes: Sequence[str],
    weights_N: npt.NDArray[np.float64] | None = None,
    config: SparseConfig | None = None,
    most: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Taught:
    """What a sparse model says of `known` EMRs and of `others`, never from an EMR's own codings.

    A known EMR is read by a model that has learned from the other folds' codings alone, another one
    by a model of all known. `weights_N` says how much each known EMR counts. Of more than `most`
    EMRs, the known and a random part of the others are spoken of. EMRs without free text are left
    out; nobody is taught where fewer than `FOLDS` known EMRs have some.
    """
    rows = [row for row, emr in enumerate(known) if emr.long_text]
    if len(rows) < FOLDS:
        return Taught([], np.zeros((0, len(codes))))
    texts, others = [known[row].long_text for row in rows], [e for e in others if e.long_text]
    if most is not None:
        others = _drawn(others, max(0, most - len(rows)), seed)
    targets_NK = targets([codings[row] for row in rows], codes)
    weights_N = None if weights_N is None else weights_N[rows]
    folds_N = draw_folds(len(rows), FOLDS, seed=seed)
    probs_NK = out_of_fold(
        texts, targets_NK, folds_N, config, weights_N=weights_N, progress=progress
    )
    if others:
        model = SparseModel.fit(texts, targets_NK, codes, config, weights_N=weights_N)
        probs_NK = np.concatenate([probs_NK, model.predict([emr.long_text for emr in others])])
    return Taught([*(known[row] for row in rows), *others], probs_NK)


def _drawn(emrs: Sequence[EMR], n: int, seed: int) -> list[EMR]:
    """`n` of the EMRs at most, in their order."""
    rows = np.random.default_rng(seed).choice(len(emrs), min(n, len(emrs)), replace=False)
    return [emrs[row] for row in np.sort(rows)]
