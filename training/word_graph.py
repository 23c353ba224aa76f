"""Eq. 2, the gated graph network, with its own gradients: half the passes over memory.

Shapes: V nodes of the minibatch, E directed edges, H graph width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch_geometric.nn import GatedGraphConv

from training.in_parts import parts, summed_like


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A symmetric adjacency by rows: node v has neighbours `to_E[starts[v]:starts[v + 1]]`."""

    starts: Tensor
    """Shape (V + 1,)."""
    to_E: Tensor
    weights_E: Tensor

    @property
    def n_bytes(self) -> int:
        """What it needs in memory."""
        return sum(t.numel() * t.element_size() for t in (self.starts, self.to_E, self.weights_E))

    def sum(self, values_VH: Tensor) -> Tensor:
        """The weighted sum over each node's neighbours, shape (V, H).

        A bag of embeddings per node: 3 to 12 times as fast as a sparse product on a processor. It
        adds up in float32 also where values are bfloat16.
        """
        summed_VH: Tensor = embedding_bag(
            self.to_E,
            values_VH,
            self.starts,
            mode="sum",
            per_sample_weights=self.weights_E.to(values_VH.dtype),
            include_last_offset=True,
        )
        return summed_VH


class NeighbourSum(torch.autograd.Function):
    """`Neighbours.sum`; the adjacency is symmetric, so its gradient is the same sum."""

    @staticmethod
    def forward(ctx: Any, values_VH: Tensor, neighbours: Neighbours) -> Tensor:
        """Sum over the neighbours, shape (V, H)."""
        ctx.neighbours = neighbours
        return neighbours.sum(values_VH)

    @staticmethod
    def backward(ctx: Any, gradient_VH: Tensor) -> tuple[Tensor, None]:
        """Give every neighbour its share."""
        return ctx.neighbours.sum(gradient_VH), None


class GatedUpdate(torch.autograd.Function):
    """The gated recurrent unit of eq. 2: what a node keeps, and what it takes from around it.

    r, z = sigmoid(around W_rz + x U_rz + b_rz), n = tanh(around W_n + b_n + r (x U_n + c_n)), and
    the node becomes (1 - z) n + z x. Weights as torch has them: rows for r, z, n in this order.
    """

    @staticmethod
    def forward(
        ctx: Any, around: Tensor, x: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        """Return the new nodes (V, H) from messages and nodes (V, H); w and u are (3 H, H)."""
        hidden = x.shape[1]
        both = 2 * hidden
        of_gates = (b + c)[:both]
        gates = x.new_empty(len(x), both)
        told, n, after = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
        for some in parts(x):
            torch.addmm(of_gates, around[some], w[:both].T, out=gates[some])
            gates[some].addmm_(x[some], u[:both].T).sigmoid_()
            torch.addmm(c[both:], x[some], u[both:].T, out=told[some])
            torch.addmm(b[both:], around[some], w[both:].T, out=n[some])
            n[some].addcmul_(gates[some, :hidden], told[some]).tanh_()
            torch.lerp(n[some], x[some], gates[some, hidden:], out=after[some])
        ctx.save_for_backward(around, x, w, u, gates, told, n)
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradients in the order of `forward`'s arguments."""
        around, x, w, u, gates, told, n = ctx.saved_tensors
        hidden = x.shape[1]
        both = 2 * hidden
        d_around, d_x = torch.empty_like(x), torch.empty_like(x)
        d_w, d_u, d_b, d_c = (summed_like(t) for t in (w, u, w[:, 0], w[:, 0]))
        for some in parts(x):
            kept = torch.mul(gradient[some], gates[some, hidden:], out=d_x[some])
            d_n = torch.ops.aten.tanh_backward(gradient[some] - kept, n[some])
            d_told = d_n * gates[some, :hidden]
            d_z = (x[some] - n[some]).mul_(gradient[some])
            d_gates = torch.cat([d_n * told[some], d_z], 1)
            d_gates = torch.ops.aten.sigmoid_backward(d_gates, gates[some])
            torch.mm(d_gates, w[:both], out=d_around[some])
            d_around[some].addmm_(d_n, w[both:])
            d_x[some].addmm_(d_gates, u[:both]).addmm_(d_told, u[both:])
            d_w[:both] += d_gates.T @ around[some]
            d_w[both:] += d_n.T @ around[some]
            d_u[:both] += d_gates.T @ x[some]
            d_u[both:] += d_told.T @ x[some]
            d_b[:both] += d_gates.sum(0)
            d_b[both:] += d_n.sum(0)
            d_c[both:] += d_told.sum(0)
        d_c[:both] = d_b[:both]
        return d_around, d_x, *(d.to(x.dtype) for d in (d_w, d_u, d_b, d_c))


class WordGraph(GatedGraphConv):  # type: ignore[misc]
    """Eq. 2 on links that go both ways."""

    def forward(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        """Pass messages between neighbours, shape (V, H), in the precision of `x`."""
        rnn = self.rnn
        u, b, c = (p.to(x.dtype) for p in (rnn.weight_hh, rnn.bias_ih, rnn.bias_hh))
        for weight_HH in self.weight:
            # A (x W) U = (A x) (W U): the two small matrices first, one large product less
            w = (rnn.weight_ih @ weight_HH.T).to(x.dtype)
            around_VH = NeighbourSum.apply(x, neighbours)  # type: ignore[no-untyped-call]
            x = GatedUpdate.apply(around_VH, x, w, u, b, c)  # type: ignore[no-untyped-call]
        return x
