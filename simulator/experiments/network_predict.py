"""Benchmark: one long EMR with suggestions, evidence and similar cases, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from label_config.measured import Measured, Progress, goal, median_goal
from label_config.record import EMR
from label_config.suggestion import SuggestionSet
from simulator.experiments.network_data import Ward, ward
from simulator.experiments.network_plain import PLAIN, PlainEncoder
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

Floats = NDArray[np.floating[Any]]
TOKENS = 2_000
REPEATS = 3
STORED = 50_000
SIMILAR = 5
WARM_UP = 3
"""EMRs served before those that are timed."""
LIMIT_MS = 300.0
ALIKE = 0.98
"""Codes ticked with both back ends, of those ticked with either."""
SURE = 0.5
"""What the network alone ticks."""
EPOCHS = 15
"""Of stages 2 and 3: enough for it to be sure of some codes."""
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

    The same suggester is served from every encoder back end that is installed, in turns and three
    times; of the others it is also counted how many of the codes that it ticks, and that the
    network alone ticks, are those of torch. "plain" is the encoder alone as one would write it
    first, which tells how fast the machine was. The network learns from few EMRs, and is heard
    whatever it would be worth. It explains codes that nobody else can, which are rare: "one code
    explained by the network" is timed beside "all", not in it. The stored EMRs are a few hundred
    simulated ones under many ids, each with an embedding of its own.
    """
    timed, written = (30, 300) if quick else (150, 2_000)
    encoder = Encoder.load()
    data = ward((0, 60, 60, written), encoder, seed=SEED)
    emrs = list(_long_emrs(data, encoder, REPEATS * (WARM_UP + timed)))
    done, total = 0, (1 + len(back_ends())) * len(emrs)
    served: dict[str, Served] = {name: Served() for name in (*back_ends(), PLAIN)}
    with TemporaryDirectory(prefix="clinicoco-") as folder:
        model = Path(folder) / "model"
        _trained(data, encoder).save(model)
        works: dict[str, Callable[[Served, EMR], None]] = {
            back_end: partial(Served.suggest, suggester=_filled(model, back_end, data))
            for back_end in back_ends()
        }
        works[PLAIN] = partial(Served.encode, encoder=PlainEncoder(encoder))
        for repeat, (name, work) in product(range(REPEATS), works.items()):
            served[name].begin()
            for emr in emrs[repeat::REPEATS]:  # an EMR that was read before is answered from memory
                work(served[name], emr)
                done += 1
                if progress is not None:
                    progress(done, total)
    rows = [row for name, one in served.items() for row in one.rows(name)]
    return Measured(rows, goals(served), seeds=(SEED,), data_hash=data.hash())


@dataclass
class Served:
    """What one back end took for each part of each EMR, in ms, and which codes it ticked."""

    times: list[dict[str, list[float]]] = field(default_factory=list)
    """Of each repeat."""
    ticked: set[tuple[str, str]] = field(default_factory=set)
    """(emr_id, code)."""
    by_network: set[tuple[str, str]] = field(default_factory=set)
    """Those of the network alone."""

    def begin(self) -> None:
        """EMRs from now on belong to a new repeat."""
        self.times.append({})

    def suggest(self, emr: EMR, *, suggester: Suggester) -> None:
        """One more EMR."""
        said, seconds_of = _timed(suggester, emr)
        self.ticked |= {(emr.emr_id, suggestion.code) for suggestion in said.ticked()}
        for part, seconds in seconds_of.items():
            self._add(part, seconds)
        network = _network(suggester)
        (probs_K,) = network.predict([emr])
        self.by_network |= {(emr.emr_id, network.codes[k]) for k in np.flatnonzero(probs_K >= SURE)}
        started = perf_counter()
        network.evidence(emr, network.codes[int(probs_K.argmax())])
        self._add("one code explained by the network", perf_counter() - started)

    def encode(self, emr: EMR, *, encoder: PlainEncoder) -> None:
        """One more EMR, by the encoder alone."""
        started = perf_counter()
        encoder.states(emr.long_text)
        self._add("encoder", perf_counter() - started)

    def _add(self, part: str, seconds: float) -> None:
        self.times[-1].setdefault(part, []).append(1_000 * seconds)

    def quantiles(self, part: str, at: float) -> Floats:
        """Of each repeat, once it was warm, in ms."""
        return np.array([np.quantile(times[part][WARM_UP:], at) for times in self.times])

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """One per part and repeat."""
        for part in self.times[0]:
            both = zip(self.quantiles(part, 0.5), self.quantiles(part, 0.95), strict=True)
            for repeat, (p50, p95) in enumerate(both):
                yield {
                    "encoder": name,
                    "part": part,
                    "repeat": repeat,
                    "p50_ms": round(float(p50), 1),
                    "p95_ms": round(float(p95), 1),
                }


def goals(served: Mapping[str, Served]) -> list[dict[str, Any]]:
    """How fast each back end is at the worst, and whether it says what torch says."""
    found = []
    for name, one in served.items():
        if name == PLAIN:
            continue
        about = "" if name == "torch" else f"_{name}"
        p95_R = one.quantiles("all", 0.95)
        found.append(median_goal(f"p95_ms{about}", f"<= {LIMIT_MS:g}", p95_R))
        if about:
            torch = served["torch"]
            alike = {
                "ticked": likeness(one.ticked, torch.ticked),
                "network": likeness(one.by_network, torch.by_network),
            }
            for what, value in alike.items():
                found.append(goal(f"{what}_alike{about}", f">= {ALIKE:g}", value))
    return found


def likeness(one: set[tuple[str, str]], other: set[tuple[str, str]]) -> float:
    """Share of what is in either that is in both."""
    return len(one & other) / max(1, len(one | other))


def _trained(data: Ward, encoder: Encoder) -> Suggester:
    best = StagesConfig.best(seed=SEED)
    network = replace(
        best,
        raw=replace(best.raw, epochs=1),
        noisy=replace(best.noisy, epochs=EPOCHS),
        clean=replace(best.clean, epochs=EPOCHS),
    )
    suggester = Suggester.train(
        [*data.noisy, *data.clean],
        data.noisy_codings,
        data.clean_codings,
        codes=data.codes,
        taxonomy=data.taxonomy,
        encoder=encoder,
        config=SuggesterConfig(network=network, similar=SIMILAR),
    )
    late = suggester.fusion.late
    n = len(late.members)
    suggester.fusion.late = replace(late, weights=(1.0,) * n, means=late.means or (0.0,) * n)
    return suggester


def _filled(model: Path, back_end: BackEnd, data: Ward) -> Suggester:
    """The suggester with a full datastore."""
    suggester = Suggester.load(model, Encoder.load(back_end=back_end))
    _fill(suggester, data, STORED)
    return suggester


def _fill(suggester: Suggester, data: Ward, stored: int) -> None:
    network = _network(suggester)
    rng = np.random.default_rng(SEED)
    z_NH = rng.normal(size=(stored, network.extractor.config.hidden)).astype(np.float32)
    rows = np.arange(stored) % len(data.unseen)
    emrs = [replace(data.unseen[row], emr_id=f"stored-{i}") for i, row in enumerate(rows)]
    codings = [
        replace(data.unseen_codings[row], emr_id=f"stored-{i}", source="clean")
        for i, row in enumerate(rows)
    ]
    network.datastore.add(z_NH, emrs, codings)


def _network(suggester: Suggester) -> Network:
    network = suggester.members.network
    if network is None:
        raise RuntimeError("the suggester was trained without a network")
    return network


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
