"""Benchmark: training against a straightforward implementation of the same network, in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch

from label_config.files import data_hash
from label_config.measured import Measured, Progress, goal
from label_config.record import EMR, Coding
from simulator.experiments.network_data import CODES, knowledge
from simulator.experiments.network_plain import (
    PlainEncoder,
    PlainNetwork,
    as_data,
    build_plain,
    plain_step,
)
from simulator.hospital import Hospital
from training.back_end import BackEnd, back_ends
from training.encoder import Encoder, has_bfloat16
from training.extractor import Extractor
from training.graph import RecordGraph, pack
from training.network import build_graphs
from training.objectives import clean_objective
from training.stage_config import StagesConfig
from training.stage_data import stage_data
from training.windows import windows
from training.words import read_sections, record_features

SEED = 0
QUICK_EMRS, FULL_EMRS = 64, 512
WHOLE_RUN = {"raw": 4_000, "noisy": 5_000, "clean": 1_000}
"""The 10,000 EMRs of a three-stage run."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds that ours and the plain way took for the same work."""

    ours: float
    plain: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.plain / self.ours


def run(quick: bool, progress: Progress | None = None) -> Measured:
    """Encode, build graphs, and take training steps, both ways, on the same simulated EMRs.

    An epoch is measured on the sample and multiplied by the epochs: the paper's 300 for the
    comparison end to end, those of the presets for a run of 10,000 EMRs. Loading is not timed.
    """
    encoders = {name: Encoder.load(back_end=name) for name in back_ends()}
    encoder = encoders["torch"]
    hospital = Hospital(knowledge(), profile="hph", codes=CODES, seed=SEED)
    simulated = list(hospital.emrs(QUICK_EMRS if quick else FULL_EMRS))
    emrs, codings = [s.emr for s in simulated], [s.gold for s in simulated]
    rounds = 2 if quick else 5

    encodings, cosines, tokens = _encoding(emrs, encoders)
    encoding, cosine = encodings["torch"], cosines["torch"]
    _tell(progress, 1)
    paper = replace(StagesConfig.paper(), precision="auto")
    features = record_features(encoder, [read_sections(emr) for emr in emrs])
    graphs = build_graphs(features, paper.extractor)
    steps = _steps(graphs, emrs, codings, hospital.codes, encoder, paper, rounds)
    building = _building(emrs, encoder, paper)
    _tell(progress, 2)
    epochs = paper.raw.epochs + paper.noisy.epochs + paper.clean.epochs
    whole = Timed(
        ours=encoding.ours + building.ours + epochs * steps.ours,
        plain=epochs * (encoding.plain + building.plain + steps.plain),
    )
    memory = _adjacency_bytes(graphs[: paper.batch])
    rows: list[dict[str, Any]] = [
        *(
            _row(f"encoder, {name}", timed, f"{len(emrs)} EMRs, {tokens} tokens")
            for name, timed in encodings.items()
        ),
        _row("build graphs", building, f"{len(emrs)} EMRs"),
        _row("graph step", steps, f"{len(emrs)} EMRs in minibatches of {paper.batch}"),
        _row("end to end", whole, f"{len(emrs)} EMRs, {epochs} epochs, extrapolated"),
    ]
    for name, config in (("paper", paper), ("best", StagesConfig.best())):
        seconds = _epoch_seconds(features, emrs, codings, hospital.codes, encoder, config, rounds)
        minutes = _whole_run(config) * seconds / len(emrs) / 60
        rows.append(
            {
                "part": f"10,000 EMRs, preset {name}",
                "ours_seconds": round(60 * minutes, 1),
                "sample": f"{_whole_run(config)} EMRs read, from an epoch of {len(emrs)}",
            }
        )
        _tell(progress, 3 if name == "paper" else 4)
    goals = [
        goal("end_to_end", ">= 50", whole.ratio),
        goal("graph_step", ">= 3", steps.ratio),
        goal("graph_memory", ">= 45", memory["dense"] / memory["sparse"]),
        goal("encoder", ">= 2.9", encoding.ratio),
        goal("encoder_cosine", ">= 0.995", cosine),
        goal("minutes_best", "<= 60", rows[-1]["ours_seconds"] / 60),
    ]
    for name in list(encodings)[1:]:
        goals += [
            goal(f"encoder_{name}", ">= 5", encodings[name].ratio),
            goal(f"encoder_{name}_cosine", ">= 0.995", cosines[name]),
        ]
    return Measured(rows, goals, seeds=(SEED,), data_hash=data_hash(emrs))


def _encoding(
    emrs: list[EMR], encoders: Mapping[BackEnd, Encoder]
) -> tuple[dict[BackEnd, Timed], dict[BackEnd, float], int]:
    """Each back end and the plain encoder on whole records; how like their states are; tokens.

    Ours overlaps its windows, the plain one reads each token once. They are compared on windows
    that are the same for both: the first of each record.
    """
    texts, plain = [emr.long_text for emr in emrs], PlainEncoder(encoders["torch"])
    plain.states(texts[0])
    started = perf_counter()
    n_tokens = sum(len(plain.states(text)) for text in texts)
    plain_seconds = perf_counter() - started
    cut = {text: windows(len(plain.ids(text)), plain.window)[0] for text in texts}
    theirs = [plain.window_states(plain.ids(text)[: cut[text].end]) for text in texts]
    timed: dict[BackEnd, Timed] = {}
    cosines: dict[BackEnd, float] = {}
    for name, encoder in encoders.items():
        encoder.token_states(texts[:2])
        started = perf_counter()
        ours = encoder.token_states(texts)
        timed[name] = Timed(perf_counter() - started, plain_seconds)
        alike = []
        for text, mine, other in zip(texts, ours, theirs, strict=True):
            counted = slice(0, cut[text].keep_to)
            states_TD = torch.from_numpy(mine.states_TD[counted])
            alike.append(torch.cosine_similarity(states_TD, other[counted], dim=1))
        cosines[name] = float(torch.cat(alike).mean())
    return timed, cosines, n_tokens


def _building(emrs: list[EMR], encoder: Encoder, config: StagesConfig) -> Timed:
    """From token states to graphs; ours includes what `record_features` adds to the encoder."""
    sample = emrs[:16]
    texts = [emr.long_text for emr in sample]
    states = encoder.token_states(texts)
    features = record_features(encoder, [read_sections(emr) for emr in sample])
    share = len(emrs) / len(sample)
    ours = _seconds(lambda: build_graphs(features, config.extractor))
    plain = _seconds(
        lambda: [
            build_plain(emr, torch.from_numpy(s.states_TD), s.spans_T2.tolist())
            for emr, s in zip(sample, states, strict=True)
        ]
    )
    return Timed(share * ours, share * plain)


def _steps(
    graphs: list[RecordGraph],
    emrs: list[EMR],
    codings: list[Coding],
    codes: tuple[str, ...],
    encoder: Encoder,
    config: StagesConfig,
    rounds: int,
) -> Timed:
    """An epoch of steps on eq. 10, both ways, from the same node states."""
    ours = _epoch_seconds(
        [graph.features for graph in graphs], emrs, codings, codes, encoder, config, rounds
    )
    targets_NK = stage_data(graphs, emrs, codings, codes).targets_NK
    documents = [as_data(graph, encoder.dim) for graph in graphs]
    summary_ND = torch.from_numpy(np.stack([graph.features.cls_D for graph in graphs]))
    network = PlainNetwork(encoder.dim, config, len(codes))
    optimiser = torch.optim.Adam(network.parameters(), lr=config.lr)

    def epoch() -> None:
        for start in range(0, len(documents), config.batch):
            rows = slice(start, start + config.batch)
            plain_step(
                network, optimiser, documents[rows], summary_ND[rows], targets_NK[rows], config
            )

    epoch()
    return Timed(ours, min(_seconds(epoch) for _ in range(rounds)))


def _epoch_seconds(
    features: list[Any],
    emrs: list[EMR],
    codings: list[Coding],
    codes: tuple[str, ...],
    encoder: Encoder,
    config: StagesConfig,
    rounds: int,
) -> float:
    """The fastest of some epochs of our stage 3."""
    data = stage_data(build_graphs(features, config.extractor), emrs, codings, codes)
    extractor = Extractor(config.extractor, encoder_dim=encoder.dim, n_codes=len(codes))
    optimiser = torch.optim.Adam(extractor.parameters(), lr=config.lr)
    mixed = config.precision == "auto" and has_bfloat16(extractor.device)

    def epoch() -> None:
        for start in range(0, len(data.graphs), config.batch):
            rows = np.arange(start, min(start + config.batch, len(data.graphs)))
            dtype = torch.bfloat16 if mixed else torch.float32
            batch = pack([data.graphs[row] for row in rows], dtype=dtype)
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                said = extractor(batch)
            loss = clean_objective(
                said, data.targets_NK[rows], data.marked_in(rows), config.clean, config.raw
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    epoch()
    return min(_seconds(epoch) for _ in range(rounds))


def _adjacency_bytes(graphs: list[RecordGraph]) -> dict[str, int]:
    """Of a minibatch's adjacency: ours as stored, and padded to (B, S, S) float32."""
    batch = pack(graphs)
    longest = int(batch.sizes_B.max())
    return {
        "sparse": batch.neighbours().n_bytes,
        "dense": 4 * len(graphs) * longest**2,
    }


def _whole_run(config: StagesConfig) -> int:
    """EMRs read in all epochs of all stages; early stopping would only lower it."""
    return sum(n * getattr(config, stage).epochs for stage, n in WHOLE_RUN.items())


def _row(part: str, timed: Timed, sample: str) -> dict[str, Any]:
    return {
        "part": part,
        "ours_seconds": round(timed.ours, 3),
        "plain_seconds": round(timed.plain, 3),
        "ratio": round(timed.ratio, 2),
        "sample": sample,
    }


def _seconds(work: Callable[[], Any]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _tell(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress(done, 4)
