"""Goes over the nodes of a minibatch in parts that fit a processor's cache.

Memory, not arithmetic, bounds what a step does to every node alone: the network's own gradient
functions take all their operations on some nodes before they go on to the next.

Shapes: V nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor

NODES_AT_ONCE = 4_096
"""On a processor; a GPU takes all."""


def parts(values_VX: Tensor) -> list[slice]:
    """Rows to take together, in order."""
    n_nodes = len(values_VX)
    step = NODES_AT_ONCE if values_VX.device.type == "cpu" else max(1, n_nodes)
    return [slice(start, start + step) for start in range(0, n_nodes, step)]


def summed_like(weight: Tensor) -> Tensor:
    """Zeros to add a weight's gradient up in, part by part: in float32 at least."""
    return torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
