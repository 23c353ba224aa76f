"""The three stages: raw EMRs teach the reading, noisy codes the codes, clean codes the truth.

Shapes: N EMRs, B of them in a minibatch, K codes, D encoder width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from label_config.errors import ConfigError, DataError
from label_config.files import data_hash
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.adapt import adapt_encoder
from training.adapter import own_random
from training.datastore import Datastore
from training.encoder import Encoder
from training.extractor import Extractor
from training.features import FeatureStore
from training.network import Network, build_graphs, run_graphs
from training.parallel import Workers
from training.resume import RunFolder
from training.stage_config import CleanConfig, NoisyConfig, RawConfig, StagesConfig
from training.stage_data import (
    StageData,
    Taught,
    held_back_rows,
    name_states,
    stage_data,
    with_teacher,
)
from training.stage_loop import Progress, train_stages
from training.words import has_words

__all__ = [
    "CleanConfig",
    "Network",
    "NoisyConfig",
    "RawConfig",
    "StagesConfig",
    "Taught",
    "train_network",
    "train_stages",
]


def train_network(
    emrs_raw: Sequence[EMR],
    emrs_noisy: Sequence[EMR],
    codings_noisy: Sequence[Coding],
    emrs_clean: Sequence[EMR],
    codings_clean: Sequence[Coding],
    *,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    encoder: Encoder,
    config: StagesConfig | None = None,
    cache: Path | None = None,
    run_folder: Path | None = None,
    taught: Taught | None = None,
    progress: Progress | None = None,
) -> Network:
    """Encode, train the three stages, fill the datastore; a stage without EMRs is left out.

    Under torchrun every process trains on its own minibatches and returns the same network.

    `cache` is the folder of the feature cache (None keeps features in memory). In `run_folder` the
    run keeps its state and writes its losses; called again after a kill, it goes on from there.
    With `config.noisy.taught` stage 2 also learns what a teacher says, `taught`, of its own EMRs
    and others. Codes outside `codes` are ignored. Raises DataError if EMRs and codings do not
    belong together, CheckpointError if `run_folder` holds a damaged state or that of another run.
    """
    config = config or StagesConfig.best()
    if not codes:
        raise ConfigError("training needs at least one code, got none")
    if config.noisy.taught and taught is None:
        raise ConfigError("noisy.taught needs what a teacher says, got none")
    taught = taught if config.noisy.taught else None
    if taught is not None:  # those that judge an epoch are in no stage
        rng = np.random.default_rng(config.seed)
        held_back = held_back_rows(len(emrs_clean), config.held_back, rng)[1]
        taught = taught.without({emrs_clean[row].emr_id for row in held_back})
    emrs = [*emrs_raw, *emrs_noisy, *emrs_clean]
    emrs += [] if taught is None else _others(taught.emrs, emrs)
    if not emrs:
        raise DataError("training needs at least one EMR, got none")
    workers = Workers.of_environment()
    if config.adapt is not None:
        plain, adapt = encoder, config.adapt
        encoder = workers.first_alone(
            lambda: adapt_encoder(
                plain,
                emrs_clean,
                codings_clean,
                codes=codes,
                config=adapt,
                also=(emrs_noisy, codings_noisy),
                held_back=config.held_back,
                seed=config.seed,
                keep=run_folder and run_folder / "adapter",
                progress=_named(progress, "fine-tune the encoder"),
            )
        )
    features = workers.first_alone(
        lambda: FeatureStore(encoder, cache).features(emrs, progress=_named(progress, "encode"))
    )
    graphs = build_graphs(features, config.extractor)
    first_clean = len(emrs_raw) + len(emrs_noisy)
    raw = StageData(graphs[: len(emrs_raw)])
    noisy = stage_data(graphs[len(emrs_raw) : first_clean], emrs_noisy, codings_noisy, codes)
    last_clean = first_clean + len(emrs_clean)
    clean = stage_data(graphs[first_clean:last_clean], emrs_clean, codings_clean, codes)
    if taught is not None:
        graph_of = {emr.emr_id: graph for emr, graph in zip(emrs, graphs, strict=True)}
        noisy = with_teacher(noisy, emrs_noisy, taught, graph_of, weight=config.noisy.taught)

    provenance: dict[str, Any] = {
        "settings": dataclasses.asdict(config),
        "data": {
            "raw": data_hash(emrs_raw),
            "noisy": [data_hash(emrs_noisy), data_hash(codings_noisy)],
            "clean": [data_hash(emrs_clean), data_hash(codings_clean)],
            "taught": taught.hash() if taught else None,
        },
    }
    run = {
        **provenance,
        "codes": list(codes),
        "encoder": encoder.fingerprint,
        "processes": workers.count,
    }
    with own_random(encoder.device):
        torch.manual_seed(config.seed)
        extractor = Extractor(config.extractor, encoder_dim=encoder.dim, n_codes=len(codes))
        if config.start_from_names:
            states_KD = name_states(encoder, taxonomy, codes, hierarchy=config.hierarchy)
            extractor.start_from_names(torch.from_numpy(states_KD))
        provenance["history"] = train_stages(
            extractor.to(encoder.device),
            raw,
            noisy,
            clean,
            config,
            progress,
            keep=RunFolder(run_folder, run),
        )
    _, z_NH = run_graphs(extractor, clean.graphs)
    read = [row for row, emr in enumerate(emrs_clean) if has_words(emr)]
    cases = [emrs_clean[row] for row in read], [codings_clean[row] for row in read]
    return Network(
        extractor,
        codes=codes,
        encoder=encoder,
        datastore=Datastore.build(z_NH[read], *cases, codes),
        knn=config.knn,
        provenance=provenance,
    )


def _others(emrs: Sequence[EMR], known: Sequence[EMR]) -> list[EMR]:
    ids = {emr.emr_id for emr in known}
    return [emr for emr in emrs if emr.emr_id not in ids]


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(what, done, total)
