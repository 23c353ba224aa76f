"""Benchmark: one long EMR with suggestions, evidence and similar cases, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from label_config.measured import Measured, Progress, goal
from label_config.record import EMR
from simulator.experiments.network_data import Ward, ward
from training.back_end import back_ends
from training.datastore import Datastore
from training.encoder import Encoder
from training.extractor import CodeAttention, Extractor
from training.features import FeatureStore
from training.lexicon import Lexicon
from training.members import Members
from training.network import Network
from training.similarity import NameMapper
from training.sparse import SparseModel
from training.stages import StagesConfig
from training.suggest import Suggester
from training.suggester_config import SuggesterConfig

TOKENS = 2_000
STORED = 50_000
SIMILAR = 5
WARM_UP = 3
"""EMRs served before those that are timed."""
LIMIT_MS = 300.0
SEED = 0
PARTS: tuple[tuple[str, type, str], ...] = (
    ("encoder", FeatureStore, "features"),
    ("graph", Extractor, "forward"),
    ("labels", CodeAttention, "forward"),
    ("kNN votes", Datastore, "knn_probs"),
    ("similar cases", Datastore, "similar"),
    ("evidence of the network", Network, "evidence"),
    ("evidence of the others", Members, "evidence"),
    ("names", NameMapper, "scores"),
    ("lexicon", Lexicon, "scores"),
    ("sparse model", SparseModel, "predict"),
)
"""Which method is which part. Of nested parts each counts what the inner ones leave."""


def run(quick: bool, progress: Progress | None = None) -> Measured:
    """Train a suggester with a network, fill its datastore to 50,000 EMRs, time new EMRs.

    The same suggester is served from every encoder back end that is installed. How good the
    network is does not change its speed: it is trained for an epoch per stage. The stored EMRs are
    a few hundred simulated ones under many ids, each with an embedding of its own.
    """
    repeats, written = (30, 300) if quick else (150, 2_000)
    encoder = Encoder.load()
    data = ward((0, 60, 60, written), encoder, seed=SEED)
    emrs = list(_long_emrs(data, encoder, repeats + WARM_UP))
    rows: list[dict[str, Any]] = []
    goals = []
    with TemporaryDirectory(prefix="clinicoco-") as folder:
        model = Path(folder) / "model"
        _trained(data, encoder).save(model)
        for number, back_end in enumerate(back_ends()):
            suggester = Suggester.load(model, Encoder.load(back_end=back_end))
            _fill(suggester, data, STORED)
            times: dict[str, list[float]] = {}
            for done, emr in enumerate(emrs, start=1):
                for part, seconds in _timed(suggester, emr).items():
                    times.setdefault(part, []).append(1_000 * seconds)
                if progress is not None:
                    progress(number * len(emrs) + done, len(back_ends()) * len(emrs))
            rows += [_row(back_end, part, ms[WARM_UP:]) for part, ms in times.items()]
            p95 = float(np.quantile(times["all"][WARM_UP:], 0.95))
            name = "p95_ms" if back_end == "torch" else f"p95_ms_{back_end}"
            goals.append(goal(name, f"<= {LIMIT_MS:g}", p95))
    return Measured(rows, goals, seeds=(SEED,), data_hash=data.hash())


def _row(back_end: str, part: str, times_ms: Sequence[float]) -> dict[str, Any]:
    p50, p95 = np.quantile(times_ms, (0.5, 0.95))
    return {
        "encoder": back_end,
        "part": part,
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
    }


def _trained(data: Ward, encoder: Encoder) -> Suggester:
    best = StagesConfig.best(seed=SEED)
    network = replace(
        best,
        raw=replace(best.raw, epochs=1),
        noisy=replace(best.noisy, epochs=1),
        clean=replace(best.clean, epochs=1),
    )
    return Suggester.train(
        [*data.noisy, *data.clean],
        data.noisy_codings,
        data.clean_codings,
        codes=data.codes,
        taxonomy=data.taxonomy,
        encoder=encoder,
        config=SuggesterConfig(network=network, similar=SIMILAR),
    )


def _fill(suggester: Suggester, data: Ward, stored: int) -> None:
    network = suggester.members.network
    if network is None:
        raise RuntimeError("the suggester was trained without a network")
    rng = np.random.default_rng(SEED)
    z_NH = rng.normal(size=(stored, network.extractor.config.hidden)).astype(np.float32)
    rows = np.arange(stored) % len(data.unseen)
    emrs = [replace(data.unseen[row], emr_id=f"stored-{i}") for i, row in enumerate(rows)]
    codings = [
        replace(data.unseen_codings[row], emr_id=f"stored-{i}", source="clean")
        for i, row in enumerate(rows)
    ]
    network.datastore.add(z_NH, emrs, codings)


def _long_emrs(data: Ward, encoder: Encoder, n: int) -> Iterator[EMR]:
    """EMRs of TOKENS tokens, each joined from the sections of several."""
    for number in range(n):
        sections: dict[str, str] = {}
        left, row = TOKENS, number
        while left > 0:
            for name, text in data.unseen[row % len(data.unseen)].sections.items():
                spans = encoder.tokenizer(text, return_offsets_mapping=True, verbose=False)
                ends = [end for _, end in spans["offset_mapping"] if end][:left]
                if ends:
                    sections[f"{name} {row}"] = text[: ends[-1]]
                    left -= len(ends)
            row += 1
        first = data.unseen[number % len(data.unseen)]
        yield replace(first, emr_id=f"long-{number}", sections=sections)


def _timed(suggester: Suggester, emr: EMR) -> dict[str, float]:
    """Seconds per part, "other", and "all", of one EMR's suggestions."""
    watch = Stopwatch()
    with ExitStack() as stack:
        for part, owner, method in PARTS:
            stack.enter_context(watch.watching(part, owner, method))
        started = perf_counter()
        suggester.suggest([emr])
        seconds = perf_counter() - started
    parts = {part: watch.seconds.get(part, 0.0) for part, _, _ in PARTS}
    return {"all": seconds, **parts, "other": seconds - sum(parts.values())}


class Stopwatch:
    """Seconds spent in methods, without those spent in others that it watches."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    @contextmanager
    def watching(self, part: str, owner: type, method: str) -> Iterator[None]:
        """Time every call of `owner.method` as `part` while the block runs."""
        plain = getattr(owner, method)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = perf_counter()
            try:
                return plain(*args, **kwargs)
            finally:
                took = perf_counter() - started
                own = took - self._inner.pop()
                self._inner[-1] += took
                self.seconds[part] = self.seconds.get(part, 0.0) + own

        setattr(owner, method, watched)
        try:
            yield
        finally:
            setattr(owner, method, plain)
