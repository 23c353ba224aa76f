"""Benchmark: time and memory of the next batch as the pool grows, and of a run to the end."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp

from label_config.measured import Measured, Progress, goal
from sampler.coverage import CoverageSampler
from sampler.large_pool import LargePool
from sampler.long_run import Run, run_to_the_end
from sampler.synthetic import PoolConfig

BATCH = 1_000
QUOTA = 35
REPEATS = 3
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Size:
    """One pool."""

    emrs: int
    codes: int


QUICK = (Size(12_500, 2_000), Size(25_000, 2_000), Size(50_000, 2_000), Size(100_000, 2_000))
FULL = (
    Size(125_000, 20_000),
    Size(250_000, 20_000),
    Size(500_000, 20_000),
    Size(1_000_000, 20_000),
)
QUICK_RUN = Run(emrs=50_000, codes=2_000, quota=5, first_batch=100)
FULL_RUN = Run(emrs=5_000_000, codes=70_000, quota=5, first_batch=1_000)


def run(
    quick: bool,
    progress: Progress | None = None,
    *,
    sizes: Sequence[Size] | None = None,
    long_run: Run | None = None,
) -> Measured:
    """Measure the next batch of 1,000 on four sizes, then play one pool to its end.

    Seconds depend on the machine; `passes` is the same time in sparse products over the pool
    (noisy codes times a vector), which a machine's speed and load leave about as they are.
    """
    sizes = sizes or (QUICK if quick else FULL)
    long_run = long_run or (QUICK_RUN if quick else FULL_RUN)
    rows = []
    for done, size in enumerate(sizes, start=1):
        rows.append(measure(size))
        if progress is not None:
            progress(done, len(sizes) + 1)
    first, last = rows[0], rows[-1]
    grown = last["entries"] / first["entries"]
    growth = float(np.log(last["seconds"] / first["seconds"]) / np.log(grown))
    ended = run_to_the_end(long_run)
    if progress is not None:
        progress(len(sizes) + 1, len(sizes) + 1)
    goals = [
        goal("batch_seconds", "<= 1", last["seconds"]),
        goal("peak_mebibytes", "<= 1024", last["peak_mebibytes"]),
        goal("growth_exponent", "<= 1.1", growth),
        goal("run_slowest_batch_seconds", "<= 5", ended["seconds"]),
        goal("run_peak_mebibytes", "<= 24576", ended["peak_mebibytes"]),
        goal("run_open_codes", "<= 0", ended["open_codes"]),
    ]
    return Measured([*rows, ended], goals, seeds=(0,), data_hash="synthetic")


def measure(size: Size, seed: int = 0) -> dict[str, Any]:
    """Annotate one batch, then time and weigh: learn from it and choose the next."""
    config = PoolConfig(n_emrs=size.emrs, n_codes=size.codes, codes_per_emr=6.0)
    with tempfile.TemporaryDirectory(prefix="clinicoco-bench-") as folder:
        pool = LargePool.make(config, seed, Path(folder))
        seconds = min(_next_batch(pool, seed) for _ in range(REPEATS))
        tracemalloc.start()
        try:
            _next_batch(pool, seed, weigh=True)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        pass_seconds = _pass_seconds(pool.noisy)
        noisy = pool.noisy
        return {
            "what": "next batch",
            "emrs": size.emrs,
            "codes": size.codes,
            "entries": int(noisy.nnz),
            "batch": BATCH,
            "seconds": round(seconds, 4),
            "pass_seconds": round(pass_seconds, 6),
            "passes": round(seconds / pass_seconds, 1),
            "peak_mebibytes": round(peak / MEBIBYTE, 1),
            "pool_mebibytes": round((noisy.data.nbytes + noisy.indices.nbytes) / MEBIBYTE, 1),
        }


def _next_batch(pool: LargePool, seed: int, *, weigh: bool = False) -> float:
    """Seconds from reporting a batch to holding the next; `weigh` counts memory from there on."""
    sampler = CoverageSampler(pool.noisy, QUOTA, category=pool.category, seed=seed)
    rows = sampler.query(BATCH).rows
    labels = pool.clean[rows]
    if weigh:
        tracemalloc.reset_peak()  # what loading took does not count, what it left does
    started = perf_counter()
    sampler.update(rows, labels)
    sampler.query(BATCH)
    return perf_counter() - started


def _pass_seconds(noisy: sp.csr_matrix) -> float:
    vector, times = np.ones(noisy.shape[1], np.float32), []
    for _ in range(5):
        started = perf_counter()
        noisy @ vector
        times.append(perf_counter() - started)
    return min(times)
