"""Several processes training one network: each takes its own minibatches, gradients are averaged.

`torchrun --nproc-per-node 2 ...` sets the environment that is read here; without it there is one
process and nothing is exchanged. All processes hold the same weights after every step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workers:
    """One process among those of a run."""

    rank: int = 0
    """0 writes files."""
    count: int = 1

    @classmethod
    def of_environment(cls) -> Workers:
        """Join the group that torchrun describes, if there is one: NCCL on GPUs, else Gloo."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), count)

    def share(self, minibatches: Sequence[T]) -> list[T]:
        """Its own minibatches; the last round is filled up from the first ones."""
        missing = -len(minibatches) % self.count
        filled = [*minibatches, *(minibatches[i % len(minibatches)] for i in range(missing))]
        return filled[self.rank :: self.count]

    def average_gradients(self, model: nn.Module) -> None:
        """Give every process the mean of all gradients, in one exchange."""
        if self.count == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def mean(self, value: float, device: torch.device) -> float:
        """The mean of a number over all processes, the same in each."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        return float(total) / self.count

    def first_alone(self, work: Callable[[], Any]) -> Any:
        """Let the first process work, then the others: they find what it wrote."""
        if self.count == 1:
            return work()
        done = work() if self.rank == 0 else None
        distributed.barrier()
        return done if self.rank == 0 else work()
