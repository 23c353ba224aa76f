"""Benchmark: training against a straightforward implementation of the same network, in one run.

Shapes: R repeats, N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from label_config.files import data_hash
from label_config.measured import Measured, Progress, goal, median_goal
from label_config.record import EMR
from simulator.experiments.network_data import CODES, knowledge
from simulator.experiments.network_epochs import Sample, our_epoch, plain_epoch
from simulator.experiments.network_plain import PLAIN, PlainEncoder, build_plain
from simulator.hospital import Hospital
from training.back_end import BackEnd, back_ends
from training.encoder import Encoder
from training.graph import RecordGraph, pack
from training.network import build_graphs
from training.stage_config import STAGES, StageName, StagesConfig
from training.stage_data import stage_data
from training.windows import windows
from training.words import read_sections, record_features

Seconds = NDArray[np.float64]
Name = TypeVar("Name")
SEED = 0
EPOCHS = 3
"""Of training, timed as one."""
QUICK_EMRS, FULL_EMRS = 64, 512
WHOLE_RUN: dict[StageName, int] = {"raw": 4_000, "noisy": 5_000, "clean": 1_000}
"""The 10,000 EMRs of a three-stage run."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds that ours and the plain way took for the same work, in every repeat."""

    ours_R: Seconds
    plain_R: Seconds

    @property
    def ratios(self) -> Seconds:
        """How many times faster ours was."""
        return self.plain_R / self.ours_R


def run(quick: bool, progress: Progress | None = None) -> Measured:
    """Encode, build graphs, and take training steps, both ways, on the same simulated EMRs.

    Every repeat runs each way once, in turns, so that what else the machine does meets all alike.
    An epoch of each stage is measured on the sample and multiplied by its epochs: the paper's 300
    for the comparison end to end, those of the presets for a run of 10,000 EMRs. The graph step is
    that of stage 3, which has all parts. Loading is not timed.
    """
    encoders = {name: Encoder.load(back_end=name) for name in back_ends()}
    encoder = encoders["torch"]
    hospital = Hospital(knowledge(), profile="hph", codes=CODES, seed=SEED)
    simulated = list(hospital.emrs(QUICK_EMRS if quick else FULL_EMRS))
    emrs, codings = [s.emr for s in simulated], [s.gold for s in simulated]
    repeats = 3 if quick else 5
    tell = _Steps(progress, repeats)

    encodings, features_R, tokens = _encoding(emrs, encoders, repeats, tell)
    presets = {
        "paper": replace(StagesConfig.paper(), precision="auto"),
        "best": StagesConfig.best(),
    }
    paper = presets["paper"]
    building = _building(emrs, encoder, paper, repeats)
    features = record_features(encoder, [read_sections(emr) for emr in emrs])
    graphs = build_graphs(features, paper.extractor)
    sample = Sample(stage_data(graphs, emrs, codings, hospital.codes), encoder.dim)
    epoch_of = {
        (name, stage): partial(epoch, stage)
        for name, epoch in {
            **{name: our_epoch(sample, config) for name, config in presets.items()},
            PLAIN: plain_epoch(sample, paper),
        }.items()
        for stage in STAGES
    }
    seconds = in_turns(repeats, epoch_of, tell, EPOCHS)
    epochs = _epochs(paper)
    every, plain_R = sum(epochs.values()), encodings["torch"].plain_R + building.plain_R
    speeds = Speeds(
        encodings,
        _cosines(emrs, encoders),
        building,
        Timed(seconds["paper", "clean"], seconds[PLAIN, "clean"]),
        Timed(
            features_R + building.ours_R + _all_epochs(epochs, seconds, "paper"),
            every * plain_R + _all_epochs(epochs, seconds, PLAIN),
        ),
        {
            name: _all_epochs(_whole_run(config), seconds, name) / len(emrs) / 60
            for name, config in presets.items()
        },
        _adjacency_bytes(graphs[: paper.batch]),
    )
    samples = {
        "encoder": f"{len(emrs)} EMRs, {tokens} tokens",
        "build graphs": f"{len(emrs)} EMRs",
        "graph step": f"{len(emrs)} EMRs in minibatches of {paper.batch}",
        "end to end": f"{len(emrs)} EMRs, {every} epochs, extrapolated",
        **{
            name: f"{sum(_whole_run(config).values())} EMRs read, from an epoch of {len(emrs)}"
            for name, config in presets.items()
        },
    }
    return Measured(
        list(speeds.rows(samples)), speeds.goals(), seeds=(SEED,), data_hash=data_hash(emrs)
    )


@dataclass(frozen=True, slots=True)
class Speeds:
    """All that is measured."""

    encodings: Mapping[BackEnd, Timed]
    cosines: Mapping[BackEnd, float]
    building: Timed
    steps: Timed
    whole: Timed
    minutes: Mapping[str, Seconds]
    """Of a three-stage run, by preset."""
    memory: Mapping[str, int]
    """Bytes of a minibatch's adjacency, sparse and dense."""

    def rows(self, samples: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """One per part and repeat; `samples` says what each was measured on."""
        for name, timed in self.encodings.items():
            yield from _rows(f"encoder, {name}", timed, samples["encoder"])
        yield from _rows("build graphs", self.building, samples["build graphs"])
        yield from _rows("graph step", self.steps, samples["graph step"])
        yield from _rows("end to end", self.whole, samples["end to end"])
        for preset, minutes_R in self.minutes.items():
            for repeat, minutes in enumerate(minutes_R):
                yield {
                    "part": f"10,000 EMRs, preset {preset}",
                    "sample": samples[preset],
                    "repeat": repeat,
                    "ours_seconds": round(60 * float(minutes), 1),
                }

    def goals(self) -> list[dict[str, Any]]:
        """Medians over the repeats."""
        goals = [
            median_goal("end_to_end", ">= 50", self.whole.ratios),
            median_goal("graph_step", ">= 3", self.steps.ratios),
            goal("graph_memory", ">= 45", self.memory["dense"] / self.memory["sparse"]),
            median_goal("minutes_best", "<= 60", self.minutes["best"]),
        ]
        for name, timed in self.encodings.items():
            about, target = ("", ">= 2.9") if name == "torch" else (f"_{name}", ">= 5")
            goals += [
                median_goal(f"encoder{about}", target, timed.ratios),
                goal(f"encoder{about}_cosine", ">= 0.995", self.cosines[name]),
            ]
        return goals


class _Steps:
    """Tells how many repeats are done, of the encoders and of the epochs."""

    def __init__(self, progress: Progress | None, repeats: int) -> None:
        self._progress, self._done, self._total = progress, 0, 2 * repeats

    def __call__(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def in_turns(
    repeats: int,
    works: Mapping[Name, Callable[[], Any]],
    tell: Callable[[], None] = lambda: None,
    times: int = 1,
) -> dict[Name, Seconds]:
    """Seconds (R,) that each work took: in every repeat each runs, one after the other.

    Each is run once before, to be warm. `times` runs in a row count as one, by their mean.
    """
    for work in works.values():
        work()
    seconds: dict[Name, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = perf_counter()
            for _ in range(times):
                work()
            seconds[name].append((perf_counter() - started) / times)
        tell()
    return {name: np.array(took) for name, took in seconds.items()}


def _encoding(
    emrs: list[EMR], encoders: Mapping[BackEnd, Encoder], repeats: int, tell: Callable[[], None]
) -> tuple[dict[BackEnd, Timed], Seconds, int]:
    """Each back end and the plain encoder on whole records; torch with words merged; all tokens.

    Ours overlaps its windows, the plain one reads each token once.
    """
    texts, plain = [emr.long_text for emr in emrs], PlainEncoder(encoders["torch"])
    works: dict[str, Callable[[], Any]] = {
        name: partial(encoder.token_states, texts) for name, encoder in encoders.items()
    }
    works["features"] = partial(
        record_features, encoders["torch"], [read_sections(emr) for emr in emrs]
    )
    seconds = in_turns(repeats, {**works, "plain": lambda: [*map(plain.states, texts)]}, tell)
    timed = {name: Timed(seconds[name], seconds["plain"]) for name in encoders}
    return timed, seconds["features"], sum(len(plain.ids(text)) for text in texts)


def _cosines(emrs: list[EMR], encoders: Mapping[BackEnd, Encoder]) -> dict[BackEnd, float]:
    """How like each back end's states are to the plain ones, by their mean cosine.

    They are compared on windows that are the same for both: the first of each record.
    """
    texts, plain = [emr.long_text for emr in emrs], PlainEncoder(encoders["torch"])
    cut = {text: windows(len(plain.ids(text)), plain.window)[0] for text in texts}
    theirs = [plain.window_states(plain.ids(text)[: cut[text].end]) for text in texts]
    found: dict[BackEnd, float] = {}
    for name, encoder in encoders.items():
        alike = []
        for text, mine, other in zip(texts, encoder.token_states(texts), theirs, strict=True):
            counted = slice(0, cut[text].keep_to)
            states_TD = torch.from_numpy(mine.states_TD[counted])
            alike.append(torch.cosine_similarity(states_TD, other[counted], dim=1))
        found[name] = float(torch.cat(alike).mean())
    return found


def _building(emrs: list[EMR], encoder: Encoder, config: StagesConfig, repeats: int) -> Timed:
    """Graphs, scaled up from some of the EMRs: ours of words, the plain way from tokens."""
    sample = emrs[:16]
    states = encoder.token_states([emr.long_text for emr in sample])
    features = record_features(encoder, [read_sections(emr) for emr in sample])

    def plainly() -> None:
        for emr, state in zip(sample, states, strict=True):
            build_plain(emr, torch.from_numpy(state.states_TD), state.spans_T2.tolist())

    ours = partial(build_graphs, features, config.extractor)
    seconds = in_turns(repeats, {"ours": ours, "plain": plainly})
    share = len(emrs) / len(sample)
    return Timed(share * seconds["ours"], share * seconds["plain"])


def _adjacency_bytes(graphs: list[RecordGraph]) -> dict[str, int]:
    """Of a minibatch's adjacency: ours as stored, and padded to (B, S, S) float32."""
    batch = pack(graphs)
    longest = int(batch.sizes_B.max())
    return {
        "sparse": batch.neighbours().n_bytes,
        "dense": 4 * len(graphs) * longest**2,
    }


def _epochs(config: StagesConfig) -> dict[StageName, int]:
    return {"raw": config.raw.epochs, "noisy": config.noisy.epochs, "clean": config.clean.epochs}


def _all_epochs(
    times: Mapping[StageName, int], seconds: Mapping[tuple[str, StageName], Seconds], name: str
) -> Seconds:
    """Of one way, each stage so many times."""
    total: Seconds = sum((n * seconds[name, s] for s, n in times.items()), np.zeros(1))
    return total


def _whole_run(config: StagesConfig) -> dict[StageName, int]:
    """EMRs that each stage reads in all its epochs; early stopping would only lower it."""
    return {stage: WHOLE_RUN[stage] * epochs for stage, epochs in _epochs(config).items()}


def _rows(part: str, timed: Timed, sample: str) -> Iterator[dict[str, Any]]:
    for repeat, (ours, plain) in enumerate(zip(timed.ours_R, timed.plain_R, strict=True)):
        yield {
            "part": part,
            "sample": sample,
            "repeat": repeat,
            "ours_seconds": round(float(ours), 3),
            "plain_seconds": round(float(plain), 3),
            "ratio": round(float(plain / ours), 2),
        }
