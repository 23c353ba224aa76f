import dataclasses

import pytest
import torch

from label_config.errors import ConfigError
from training.extractor import Extractor, ExtractorConfig
from training.graph import build_graph, pack
from training.words import record_features

PAPER = ExtractorConfig(hidden=16, attention=8)
SHAPES = {
    "paper": PAPER,
    "no graph": dataclasses.replace(PAPER, layers=0),
    "residual": dataclasses.replace(PAPER, residual=True, normalise_edges=True),
    "attends words": dataclasses.replace(PAPER, attend="words", static=True, residual=True),
    "attends both": dataclasses.replace(PAPER, attend="both"),
}
TEXTS = [
    "cough and fever with crackles in the chest",
    "fever",
    "...",
    "high glucose on metformin, thirst. The patient was admitted to the ward in a stable state. "
    * 3,
    "患者因糖尿病入院",
]


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def extractor(request, tiny_encoder) -> Extractor:
    torch.manual_seed(0)
    return Extractor(request.param, encoder_dim=tiny_encoder.dim, n_codes=3).eval()


@pytest.fixture(scope="module")
def graphs(tiny_encoder):
    features = record_features(tiny_encoder, [{"text": text} for text in TEXTS])
    return [build_graph(f, window=3) for f in features]


def test_a_record_says_the_same_in_any_minibatch(extractor, graphs):
    with torch.no_grad():
        together = extractor(pack(graphs))
        for row, graph in enumerate(graphs):
            alone = extractor(pack([graph]))
            n_nodes = graph.features.n_nodes
            for mine, theirs in (
                (alone.logits_BK[0], together.logits_BK[row]),
                (alone.z_BH[0], together.z_BH[row]),
                (alone.attention_BKS[0], together.attention_BKS[row, :, :n_nodes]),
            ):
                torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_attention_is_a_distribution_over_the_records_own_nodes(extractor, graphs):
    batch = pack(graphs)
    attention = extractor(batch).attention_BKS
    torch.testing.assert_close(attention.sum(-1), torch.ones(len(graphs), 3))
    for row, graph in enumerate(graphs):
        assert not attention[row, :, graph.features.n_nodes :].any()


def test_the_readout_is_a_unit_vector_and_every_weight_gets_a_gradient(extractor, graphs):
    said = extractor(pack(graphs[:2]))
    torch.testing.assert_close(said.z_BH.norm(dim=1), torch.ones(2))
    (said.logits_BK.sum() + said.z_BH.sum() + said.summary_BH.sum()).backward()
    without = [n for n, p in extractor.named_parameters() if p.grad is None]
    assert not without


@pytest.mark.parametrize("attend", ["graph", "words", "both"])
def test_who_asks_for_no_codes_has_the_same_readout_without_them(tiny_encoder, graphs, attend):
    torch.manual_seed(0)
    config = ExtractorConfig(hidden=8, attention=8, attend=attend, residual=attend != "graph")
    extractor = Extractor(config, encoder_dim=tiny_encoder.dim, n_codes=5)
    every, some = extractor(pack(graphs)), extractor(pack(graphs), codes=False)
    torch.testing.assert_close(some.z_BH, every.z_BH)
    torch.testing.assert_close(some.summary_BH, every.summary_BH)
    assert some.logits_BK.shape == (len(graphs), 0)
    assert some.attention_BKS.shape[::2] == every.attention_BKS.shape[::2]
    some.z_BH.sum().backward()
    assert extractor.attend.query_KA.grad is None and extractor.gate.weight.grad is not None


def test_queries_that_start_from_names_look_at_the_words_of_the_name(tiny_encoder):
    torch.manual_seed(0)
    config = ExtractorConfig(hidden=16, attention=256, attend="words", static=True)
    names = record_features(tiny_encoder, [{"n": "pneumonia"}, {"n": "appendicitis"}])
    states = torch.stack([torch.tensor(f.states_VD).float().mean(0) for f in names])
    extractor = Extractor(config, encoder_dim=tiny_encoder.dim, n_codes=2).eval()
    extractor.start_from_names(states)
    (features,) = record_features(tiny_encoder, [{"t": "stable ward pneumonia vomiting"}])
    attention = extractor(pack([build_graph(features, window=3)])).attention_BKS[0]
    assert attention[0].argmax() == 2
    assert attention[0, 2] > attention[1, 2]


def test_names_cannot_steer_attention_over_the_graph_alone(tiny_encoder):
    extractor = Extractor(PAPER, encoder_dim=tiny_encoder.dim, n_codes=2)
    with pytest.raises(ConfigError, match="attend"):
        extractor.start_from_names(torch.zeros(2, tiny_encoder.feature_dim))


@pytest.mark.parametrize(
    "wrong", [{"hidden": 0}, {"layers": -1}, {"window": 1}, {"dropout": 1.0}, {"attention": 0}]
)
def test_a_shape_that_no_run_can_use_is_refused(wrong):
    with pytest.raises(ConfigError, match="got"):
        ExtractorConfig(**wrong)
