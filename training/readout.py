"""Eq. 3, the gated readout, with its own gradients, over the nodes in parts that stay in cache.

Shapes: V nodes of the minibatch, B records, H graph width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.in_parts import parts, summed_like

MAXIMUM = 2
"""What `torch.embedding_bag` calls that mode."""


class GatedWords(torch.autograd.Function):
    """Eq. 3, first half: sigmoid(f1(x)) * tanh(f2(x)) of every node."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """Return (V, H) from nodes (V, H); the rows of w (2 H, H) and b (2 H,) are f1, then f2."""
        hidden = len(b) // 2
        made, after = x.new_empty(len(x), len(b)), x.new_empty(len(x), hidden)
        for some in parts(x):
            torch.addmm(b, x[some], w.T, out=made[some])
            gate, value = made[some, :hidden].sigmoid_(), made[some, hidden:].tanh_()
            torch.mul(gate, value, out=after[some])
        ctx.save_for_backward(x, w, made)
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradients in the order of `forward`'s arguments."""
        x, w, made = ctx.saved_tensors
        hidden = made.shape[1] // 2
        d_x = torch.empty_like(x)
        d_w, d_b = summed_like(w), summed_like(w[:, 0])
        for some in parts(x):
            gate, value = made[some, :hidden], made[some, hidden:]
            d_gate = torch.ops.aten.sigmoid_backward(gradient[some] * value, gate)
            d_value = torch.ops.aten.tanh_backward(gradient[some] * gate, value)
            d_made = torch.cat([d_gate, d_value], 1)
            torch.mm(d_made, w, out=d_x[some])
            d_w += d_made.T @ x[some]
            d_b += d_made.sum(0)
        return d_x, d_w.to(w.dtype), d_b.to(w.dtype)


class Readout(torch.autograd.Function):
    """Eq. 3, second half: the mean plus the maximum over each record's nodes, (B, H) in float32."""

    @staticmethod
    def forward(ctx: Any, h_VH: Tensor, record_V: Tensor, sizes_B: Tensor) -> Tensor:
        """`record_V` is the row of each node's record; a record's nodes lie side by side."""
        starts = torch.cat([sizes_B.new_zeros(1), sizes_B.cumsum(0)])
        every_V = torch.arange(len(h_VH), device=h_VH.device)
        full_VH = h_VH.to(torch.promote_types(h_VH.dtype, torch.float32))
        # a record is a bag of its own nodes: no padding
        mean_BH = torch.nn.functional.embedding_bag(
            every_V, full_VH, starts, mode="mean", include_last_offset=True
        )
        max_BH, _, _, largest_BH = torch.embedding_bag(
            full_VH, every_V, starts, False, MAXIMUM, False, None, True
        )
        ctx.save_for_backward(record_V, sizes_B, largest_BH)
        ctx.dtype = h_VH.dtype
        return mean_BH + max_BH

    @staticmethod
    def backward(ctx: Any, gradient_BH: Tensor) -> tuple[Tensor, None, None]:
        """Every node has its share of the mean's, the largest one that of the maximum."""
        record_V, sizes_B, largest_BH = ctx.saved_tensors
        d_VH = (gradient_BH / sizes_B[:, None]).to(ctx.dtype)[record_V]
        return d_VH.scatter_add_(0, largest_BH, gradient_BH.to(ctx.dtype)), None, None
