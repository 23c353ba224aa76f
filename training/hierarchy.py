"""Nearly right counts in part: figures at category and chapter level, and CoPHE (Falis 2021).

Shapes: N EMRs, K codes, A ancestors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from label_config.taxonomy import Taxonomy
from training.evaluate import counts_figures

Bools = npt.NDArray[np.bool_]


def hierarchy_figures(
    ticked_NK: Bools, targets_NK: Bools, codes: Sequence[str], taxonomy: Taxonomy
) -> dict[str, float]:
    """Micro-F1 of categories and of chapters, and CoPHE's precision, recall and F1.

    CoPHE counts how many codes each node above holds, given and true, so that two codes of one
    category are not taken for one; the codes themselves count as the lowest level. A code that the
    taxonomy does not hold stands alone.
    """
    figures = {}
    for level in ("category", "chapter"):
        above = [getattr(taxonomy, level)(c) if c in taxonomy else c for c in codes]
        member_KA = _membership([(a,) for a in above])
        ticked, true = ticked_NK @ member_KA > 0, targets_NK @ member_KA > 0
        figures[f"{level}_micro_f1"] = counts_figures(ticked, true)["micro_f1"]
    lines = [(c, *taxonomy.ancestors(c)) if c in taxonomy else (c,) for c in codes]
    member_KA = _membership(lines)
    given_NA = ticked_NK.astype(int) @ member_KA
    true_NA = targets_NK.astype(int) @ member_KA
    hits = float(np.minimum(given_NA, true_NA).sum())
    given, true_sum = float(given_NA.sum()), float(true_NA.sum())
    figures["cophe_precision"] = hits / given if given else 0.0
    figures["cophe_recall"] = hits / true_sum if true_sum else 0.0
    figures["cophe_f1"] = 2 * hits / (given + true_sum) if given + true_sum else 0.0
    return figures


def _membership(lines: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
    """(K, A): 1 where node a stands on the line of code k."""
    nodes = {node: a for a, node in enumerate(dict.fromkeys(n for line in lines for n in line))}
    member_KA = np.zeros((len(lines), len(nodes)), dtype=np.int64)
    for k, line in enumerate(lines):
        member_KA[k, [nodes[node] for node in line]] = 1
    return member_KA
