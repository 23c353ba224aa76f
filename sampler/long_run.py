"""A long run: a pool played batch after batch until the sampler itself says that it is done."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from label_config.errors import ConfigError
from sampler.coverage import CoverageSampler
from sampler.large_pool import LargePool
from sampler.synthetic import PoolConfig

Tell = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Run:
    """The pool, and how it is annotated: batches grow by `growth` each, up to `largest`."""

    emrs: int
    codes: int
    quota: int
    # Clean EMRs wanted per code.
    first_batch: int = 1_000
    growth: float = 1.2
    largest: int = 5_000
    # EMRs.
    seed: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.first_batch <= self.largest and self.growth >= 1):
            raise ConfigError(
                "a run needs 1 <= first_batch <= largest and growth >= 1, "
                f"got {self.first_batch}, {self.largest} and {self.growth:g}"
            )


def run_to_the_end(run: Run, *, tell: Tell | None = None) -> dict[str, Any]:
    """Annotate until no EMR is worth choosing; one row of a benchmark.

    Every code then has its quota, or is known to be out of the pool's reach. `seconds` is the
    slowest batch: learn from the last one and choose the next.

    Args:
        run: What to play.
        tell: Called after each batch with its number, its EMRs and its seconds.
    """
    config = PoolConfig(n_emrs=run.emrs, n_codes=run.codes, codes_per_emr=6.0)
    with tempfile.TemporaryDirectory(prefix="clinicoco-bench-") as folder:
        pool = LargePool.make(config, run.seed, Path(folder))
        sampler = CoverageSampler(pool.noisy, run.quota, category=pool.category, seed=run.seed)
        size, seconds = float(run.first_batch), [0.0]
        started = perf_counter()
        batch = sampler.query(run.first_batch)
        while len(batch):
            seconds[-1] += perf_counter() - started
            if tell is not None:
                tell(len(seconds), len(batch), seconds[-1])
            labels = pool.clean[batch.rows]
            started = perf_counter()
            sampler.update(batch.rows, labels)
            size = min(size * run.growth, run.largest)
            batch = sampler.query(int(size))
            seconds.append(0.0)
        seconds[-1] += perf_counter() - started
        status = sampler.status()
        return {
            "what": "run to the end",
            "emrs": run.emrs,
            "codes": run.codes,
            "entries": int(pool.noisy.nnz),
            "batch": run.largest,
            "seconds": round(max(seconds), 4),
            "peak_mebibytes": round(_peak_mebibytes(), 1),
            "quota": run.quota,
            "batches": len(seconds) - 1,
            "annotated": int(sampler.clean.rows.size),
            "run_seconds": round(sum(seconds), 1),
            "met_codes": int((status.state == "met").sum()),
            "unreachable_codes": int((status.state == "unreachable").sum()),
            "open_codes": int((status.state == "open").sum()),
        }


def _peak_mebibytes() -> float:
    """The most memory that this process ever held, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
