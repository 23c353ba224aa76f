import pytest
import torch
from torch_geometric.nn import GatedGraphConv

from training import in_parts
from training.graph import GraphBatch, build_graph, pack
from training.word_graph import GatedUpdate, Neighbours, NeighbourSum, WordGraph
from training.words import record_features

TEXTS = ["cough and fever with crackles in the chest, no fever now", "fever", "..."]


@pytest.fixture(scope="module")
def batch(tiny_encoder) -> GraphBatch:
    features = record_features(tiny_encoder, [{"text": text} for text in TEXTS])
    return pack([build_graph(f, window=3, normalise=True) for f in features])


def dense(batch: GraphBatch) -> torch.Tensor:
    matrix = torch.zeros(len(batch.nodes_VD), len(batch.nodes_VD))
    matrix[tuple(batch.edges_2E)] = batch.weights_E
    return matrix


def test_the_word_graph_and_its_gradients_are_those_of_torch_geometric(batch):
    torch.manual_seed(0)
    h = torch.randn(len(batch.nodes_VD), 16, requires_grad=True)
    ours, theirs = WordGraph(16, 3), GatedGraphConv(16, 3)
    theirs.load_state_dict(ours.state_dict())
    made = []
    for said in (
        ours(h, batch.neighbours()),
        theirs(h, batch.edges_2E.flip(0), batch.weights_E),
    ):
        parameters = [h, *(ours if not made else theirs).parameters()]
        made.append([said, *torch.autograd.grad(said.square().sum(), parameters)])
    for mine, other in zip(*made, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_the_gradients_of_an_update_are_those_of_finite_differences(at_once, monkeypatch):
    monkeypatch.setattr(in_parts, "NODES_AT_ONCE", at_once)
    torch.manual_seed(0)
    shapes = ((4, 3), (4, 3), (9, 3), (9, 3), (9,), (9,))
    values = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(GatedUpdate.apply, values)


def test_an_update_in_half_precision_stays_near_the_full_one():
    torch.manual_seed(0)
    h, around = torch.randn(50, 16), torch.randn(50, 16)
    weights = [torch.randn(s) / 4 for s in ((48, 16), (48, 16), (48,), (48,))]
    full = GatedUpdate.apply(around, h, *weights)
    half = GatedUpdate.apply(*(t.bfloat16() for t in (around, h, *weights)))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.1, rtol=0.05)


def test_a_neighbour_sum_and_its_gradient_are_those_of_a_dense_product(batch):
    torch.manual_seed(0)
    h = torch.randn(len(batch.nodes_VD), 4, requires_grad=True)
    weights = torch.randn(len(batch.nodes_VD), 4)
    sums = NeighbourSum.apply(h, batch.neighbours()), dense(batch) @ h
    ours, theirs = (torch.autograd.grad((weights * s).sum(), h)[0] for s in sums)
    torch.testing.assert_close(sums[0], sums[1])
    torch.testing.assert_close(ours, theirs)


def test_a_word_with_very_many_neighbours_is_summed_in_full_precision():
    n = 4_000
    to_E = torch.arange(n, dtype=torch.int32)
    neighbours = Neighbours(torch.tensor([0, n], dtype=torch.int32), to_E, torch.ones(n))
    assert neighbours.sum(torch.ones(n, 2, dtype=torch.bfloat16)).tolist() == [[4_000.0] * 2]


def test_nodes_without_neighbours_sum_to_zero():
    nothing = torch.zeros(0, dtype=torch.int32)
    neighbours = Neighbours(torch.zeros(4, dtype=torch.int32), nothing, torch.zeros(0))
    assert neighbours.sum(torch.ones(3, 2)).tolist() == [[0.0, 0.0]] * 3
