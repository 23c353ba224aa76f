import numpy as np
import pytest
import torch

from label_config.record import EMR, Coding
from label_config.taxonomy import CodeEntry, Taxonomy
from training.extractor import ExtractorConfig
from training.features import FeatureStore
from training.losses import code_loss
from training.network import build_graphs
from training.stage_data import StageData, Taught, name_states, stage_data, with_teacher


@pytest.fixture(scope="module")
def tree() -> Taxonomy:
    rows = [
        ("X", "Circulation", None, "chapter"),
        ("I10", "Essential hypertension", "X", "category"),
        ("I10.1", "raised blood pressure", "I10", "code"),
        ("J18", "Pneumonia", None, "category"),
    ]
    return Taxonomy("tree", [CodeEntry(*row) for row in rows])


@pytest.fixture(scope="module")
def noisy(ward, tiny_encoder) -> tuple[StageData, list[EMR], dict]:
    """Three EMRs with noisy codes, and the graphs of five."""
    emrs = ward[0][:5]
    graphs = build_graphs(FeatureStore(tiny_encoder).features(emrs), ExtractorConfig())
    codings = [Coding(emr.emr_id, ("I10",), "noisy", (0.5,)) for emr in emrs[:3]]
    data = stage_data(graphs[:3], emrs[:3], codings, ["I10", "J18.9"])
    return data, emrs, dict(zip([emr.emr_id for emr in emrs], graphs, strict=True))


def test_a_teacher_is_one_more_loss_over_codes(noisy):
    data, emrs, graph_of = noisy
    said = np.array([[0.9, 0.2], [0.4, 0.6]])
    both = with_teacher(data, emrs[:3], Taught(emrs[1:3], said), graph_of, weight=2.0)
    logits = torch.tensor([[0.1, 2.0], [-3.0, 0.4], [1.0, -1.0]])
    soft = torch.from_numpy(said).float()
    for kind in ("bce", "asymmetric", "hill"):
        own = code_loss(logits, data.targets_NK, data.weights_NK, kind=kind)
        taught = code_loss(logits[1:], soft, torch.full((2, 2), 2.0), kind=kind) * 2 / 3
        together = code_loss(logits, both.targets_NK, both.weights_NK, kind=kind)
        torch.testing.assert_close(together, own + taught)


def test_an_emr_that_only_the_teacher_speaks_of_is_added(noisy):
    data, emrs, graph_of = noisy
    said = np.array([[0.9, 0.2], [0.4, 0.6]])
    both = with_teacher(data, emrs[:3], Taught([emrs[4], emrs[0]], said), graph_of, weight=0.5)
    assert both.graphs == [*data.graphs, graph_of[emrs[4].emr_id]]
    torch.testing.assert_close(both.targets_NK[3], torch.tensor([0.9, 0.2]))
    assert both.weights_NK[3].tolist() == [0.5, 0.5]
    assert both.weights_NK[0].tolist() == [1.0, 1.5] and both.weights_NK[1].tolist() == [0.5, 1.0]
    assert both.marked_in(np.arange(4)).shape[1] == 3


def test_a_query_takes_its_share_from_the_names_above_and_below(tree, tiny_encoder):
    codes = ["I10", "J18"]
    own = name_states(tiny_encoder, tree, codes)
    around = name_states(tiny_encoder, tree, ["X", "I10.1"]).mean(0)
    for share in (0.0, 0.25, 1.0):
        mixed = name_states(tiny_encoder, tree, codes, hierarchy=share)
        np.testing.assert_allclose(mixed[0], (1 - share) * own[0] + share * around, atol=1e-3)
        np.testing.assert_allclose(mixed[1], own[1], atol=1e-3)
        assert mixed.dtype == np.float32
