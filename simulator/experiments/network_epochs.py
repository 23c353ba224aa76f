"""One epoch of every stage, ours and the plain way: what the benchmark of training times.

Shapes: N EMRs, K codes, B of the EMRs in a minibatch, D encoder width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from simulator.experiments.network_plain import PlainNetwork, as_data, plain_step
from training.extractor import Extractor
from training.network import build_graphs
from training.parallel import Workers
from training.stage_config import StageName, StagesConfig
from training.stage_data import StageData
from training.stage_loop import optimiser_of, stages_of, take_step

Epoch = Callable[[StageName], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """The EMRs that an epoch goes over."""

    data: StageData
    encoder_dim: int

    def minibatches(self, config: StagesConfig) -> list[NDArray[np.int64]]:
        """Their rows, in order."""
        rows = np.arange(len(self.data.graphs))
        return [rows[start : start + config.batch] for start in range(0, len(rows), config.batch)]

    @property
    def n_codes(self) -> int:
        """K."""
        return int(self.data.targets_NK.shape[1])


def our_epoch(sample: Sample, config: StagesConfig) -> Epoch:
    """The steps of our stages."""
    features = [graph.features for graph in sample.data.graphs]
    data = replace(sample.data, graphs=build_graphs(features, config.extractor))
    extractor = Extractor(config.extractor, encoder_dim=sample.encoder_dim, n_codes=sample.n_codes)
    optimiser, workers = optimiser_of(extractor, config), Workers()
    stages = {stage.name: stage for stage in stages_of(data, data, data, config)}

    def epoch(stage: StageName) -> None:
        for rows in sample.minibatches(config):
            take_step(extractor, optimiser, stages[stage], rows, config, workers)

    return epoch


def plain_epoch(sample: Sample, config: StagesConfig) -> Epoch:
    """The same steps the plain way, from the same node states."""
    graphs = sample.data.graphs
    documents = [as_data(graph, sample.encoder_dim) for graph in graphs]
    summary_ND = torch.from_numpy(np.stack([graph.features.cls_D for graph in graphs]))
    network = PlainNetwork(sample.encoder_dim, config, sample.n_codes)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.lr)

    def epoch(stage: StageName) -> None:
        for rows in sample.minibatches(config):
            its = [documents[row] for row in rows]
            targets_BK = sample.data.targets_NK[rows]
            plain_step(network, optimiser, its, summary_ND[rows], targets_BK, config, stage)

    return epoch
