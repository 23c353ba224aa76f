"""Groups: near-duplicate EMRs by their embeddings, for `CoverageSampler(group=...)`.

Shapes: N EMRs, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from label_config.errors import ConfigError

ROWS_AT_ONCE = 2_048


def near_duplicates(embeddings_ND: NDArray[Any], *, least: float = 0.98) -> NDArray[np.int64]:
    """Number the EMRs so that near-duplicates share a number, directly or through one another.

    Compares every pair, in blocks: N^2 x D multiplications, about a minute for 50,000 EMRs.

    Args:
        embeddings_ND: One vector per EMR, of any length; zero vectors are like nothing.
        least: Cosine similarity from which two EMRs are near-duplicates, above 0 and at most 1.

    Returns:
        (N,) group numbers, 0 upwards.
    """
    if not 0 < least <= 1:
        raise ConfigError(f"least must be above 0 and at most 1, got {least:g}")
    vectors = np.asarray(embeddings_ND, np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(length, 1e-12)
    one: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    other = list(one)
    for start in range(0, len(unit), ROWS_AT_ONCE):
        # Float32 products of equal vectors may fall a hair short of 1.
        alike = unit[start : start + ROWS_AT_ONCE] @ unit[start:].T >= least - 1e-6
        left, right = np.nonzero(alike)
        one.append(left + start)
        other.append(right + start)
    places = (np.concatenate(one), np.concatenate(other))
    ones = np.ones(places[0].size, np.bool_)
    graph = sp.csr_matrix((ones, places), shape=(len(unit),) * 2)
    group: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return group
