"""Benchmark: one long EMR with suggestions, evidence and similar cases, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from label_config.measured import Measured, Progress, goal
from label_config.record import EMR
from label_config.suggestion import SuggestionSet
from simulator.experiments.network_data import Ward, ward
from training.back_end import BackEnd, back_ends
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
ALIKE = 0.98
"""Codes ticked with both back ends, of those ticked with either."""
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

    The same suggester is served from every encoder back end that is installed; of the others it is
    also counted how many of the ticked codes are those that torch ticks. How good the network is
    does not change its speed: it is trained for an epoch per stage. The stored EMRs are a few
    hundred simulated ones under many ids, each with an embedding of its own.
    """
    repeats, written = (30, 300) if quick else (150, 2_000)
    encoder = Encoder.load()
    data = ward((0, 60, 60, written), encoder, seed=SEED)
    emrs = list(_long_emrs(data, encoder, repeats + WARM_UP))
    total = len(back_ends()) * len(emrs)
    served: dict[BackEnd, Served] = {}
    with TemporaryDirectory(prefix="clinicoco-") as folder:
        model = Path(folder) / "model"
        _trained(data, encoder).save(model)
        for back_end in back_ends():
            suggester = Suggester.load(model, Encoder.load(back_end=back_end))
            _fill(suggester, data, STORED)
            served[back_end] = Served()
            for emr in emrs:
                served[back_end].suggest(suggester, emr)
                if progress is not None:
                    progress(sum(len(one.times["all"]) for one in served.values()), total)
    rows = [_row(name, part, ms) for name, one in served.items() for part, ms in one.timed()]
    return Measured(rows, goals(served), seeds=(SEED,), data_hash=data.hash())


@dataclass
class Served:
    """What one back end took for each part of each EMR, in ms, and which codes it ticked."""

    times: dict[str, list[float]] = field(default_factory=dict)
    ticked: set[tuple[str, str]] = field(default_factory=set)
    """(emr_id, code)."""

    def suggest(self, suggester: Suggester, emr: EMR) -> None:
        """One more EMR."""
        said, seconds_of = _timed(suggester, emr)
        self.ticked |= {(emr.emr_id, suggestion.code) for suggestion in said.ticked()}
        for part, seconds in seconds_of.items():
            self.times.setdefault(part, []).append(1_000 * seconds)

    def timed(self) -> Iterator[tuple[str, list[float]]]:
        """The times of each part once it was warm."""
        for part, times_ms in self.times.items():
            yield part, times_ms[WARM_UP:]

    def likeness(self, other: Served) -> float:
        """Share of the codes ticked by either that both tick."""
        return len(self.ticked & other.ticked) / max(1, len(self.ticked | other.ticked))


def goals(served: Mapping[BackEnd, Served]) -> list[dict[str, Any]]:
    """How fast each back end is at the worst, and whether it says what torch says."""
    found = []
    for name, one in served.items():
        p95 = float(np.quantile(dict(one.timed())["all"], 0.95))
        about = "" if name == "torch" else f"_{name}"
        found.append(goal(f"p95_ms{about}", f"<= {LIMIT_MS:g}", p95))
        if about:
            likeness = one.likeness(served["torch"])
            found.append(goal(f"ticked_alike{about}", f">= {ALIKE:g}", likeness))
    return found


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


def _timed(suggester: Suggester, emr: EMR) -> tuple[SuggestionSet, dict[str, float]]:
    """One EMR's suggestions, and the seconds that each part, "other", and "all" took."""
    watch = Stopwatch()
    with ExitStack() as stack:
        for part, owner, method in PARTS:
            stack.enter_context(watch.watching(part, owner, method))
        started = perf_counter()
        (said,) = suggester.suggest([emr])
        seconds = perf_counter() - started
    parts = {part: watch.seconds.get(part, 0.0) for part, _, _ in PARTS}
    return said, {"all": seconds, **parts, "other": seconds - sum(parts.values())}


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
