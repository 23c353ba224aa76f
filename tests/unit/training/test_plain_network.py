"""The straightforward implementation that the benchmark measures against does the same work."""

import dataclasses

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from simulator.experiments.network_plain import (
    PlainEncoder,
    PlainNetwork,
    as_data,
    build_plain,
)
from simulator.experiments.network_predict import Stopwatch
from simulator.experiments.network_speed import _adjacency_bytes
from training.extractor import Extractor, ExtractorConfig
from training.graph import build_graph, pack
from training.losses import unit
from training.stage_config import StagesConfig
from training.words import read_sections, record_features

CONFIG = dataclasses.replace(StagesConfig.paper(), extractor=ExtractorConfig(hidden=8, attention=6))


@pytest.fixture(scope="module")
def graphs(tiny_encoder, ward):
    features = record_features(tiny_encoder, [read_sections(emr) for emr in ward[0][:4]])
    return [build_graph(f, window=3) for f in features]


def test_the_plain_network_says_the_same_from_the_same_weights(tiny_encoder, graphs):
    ours = Extractor(CONFIG.extractor, encoder_dim=tiny_encoder.dim, n_codes=3)
    plain = PlainNetwork(tiny_encoder.dim, CONFIG, 3)
    weights = {
        name.replace("attend.value", "values")
        .replace("attend.key", "key")
        .replace("attend.query_KA", "queries")
        .replace("attend.weight_KA", "weights")
        .replace("attend.bias_K", "bias"): tensor
        for name, tensor in ours.state_dict().items()
    }
    plain.load_state_dict(weights)
    with torch.no_grad():
        said = ours(pack(graphs))
        batch = Batch.from_data_list([as_data(g, tiny_encoder.dim) for g in graphs])
        summary = torch.from_numpy(np.stack([g.features.cls_D for g in graphs]))
        logits, readout, summary = plain(batch, summary)
    torch.testing.assert_close(said.logits_BK, logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said.z_BH, unit(readout), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said.summary_BH, summary, atol=1e-4, rtol=1e-4)


def test_the_plain_encoder_and_graph_are_ours(tiny_encoder, ward, graphs):
    emr = ward[0][0]
    (ours,) = tiny_encoder.token_states([emr.long_text])
    window = slice(0, tiny_encoder.window // 2)
    states = PlainEncoder(tiny_encoder).states(emr.long_text)
    np.testing.assert_allclose(states[window], ours.states_TD[window], atol=1e-4)
    data = build_plain(emr, torch.from_numpy(ours.states_TD), ours.spans_T2.tolist())
    nodes = graphs[0].features.states_VD[:, : tiny_encoder.dim]
    np.testing.assert_allclose(data.x, nodes, atol=2e-3)
    inside = graphs[0].edges_2E.shape[1]
    assert inside <= data.edge_index.shape[1] <= inside + 6  # it links across sections, too


def test_sparse_adjacency_is_smaller_than_padded(graphs):
    sizes = _adjacency_bytes(graphs)
    longest = max(graph.features.n_nodes for graph in graphs)
    assert sizes["dense"] == 4 * 4 * longest**2
    assert sizes["sparse"] < sizes["dense"]


def test_a_stopwatch_counts_what_inner_parts_leave():
    class Work:
        def outer(self) -> str:
            return self.inner()

        def inner(self) -> str:
            return "".join(str(i) for i in range(200_000))[:3]

    plain, watch = Work.outer, Stopwatch()
    with watch.watching("outer", Work, "outer"), watch.watching("inner", Work, "inner"):
        assert Work().outer() == "012"
    assert watch.seconds["inner"] > watch.seconds["outer"] >= 0
    assert Work.outer is plain
