import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.graph import build_graph, cooccurrence, pack
from training.word_graph import WordGraph
from training.words import RecordFeatures


def record(nodes: list[int], sections: list[int] | None = None, dim: int = 6) -> RecordFeatures:
    n_nodes = max(nodes, default=0) + 1
    rng = np.random.default_rng(len(nodes))
    sections = sections or [0] * len(nodes)
    spans = np.array([[3 * i, 3 * i + 2] for i in range(len(nodes))], np.int32).reshape(-1, 2)
    return RecordFeatures(
        states_VD=rng.normal(size=(n_nodes, dim)).astype(np.float16),
        nodes_W=np.array(nodes, np.int32),
        sections_W=np.array(sections, np.int32),
        spans_W2=spans,
        sections=("a", "b"),
        cls_D=np.zeros(3, np.float32),
        mean_D=np.zeros(3, np.float32),
    )


def dense_adjacency(nodes: list[int], sections: list[int], window: int) -> np.ndarray:
    """Plain and slow: slide the window, link every pair in it."""
    n = max(nodes, default=0) + 1
    adjacency = np.zeros((n, n))
    for section in set(sections):
        words = [node for node, s in zip(nodes, sections, strict=True) if s == section]
        for start in range(len(words)):
            inside = words[start : start + window]
            for left in inside:
                for right in inside:
                    if left != right:
                        adjacency[left, right] = 1.0
    return adjacency


@given(
    nodes=st.lists(st.integers(0, 8), max_size=40),
    split=st.integers(0, 40),
    window=st.integers(2, 6),
)
def test_edges_are_those_of_a_sliding_window_over_each_section(nodes, split, window):
    sections = [0 if i < split else 1 for i in range(len(nodes))]
    edges = cooccurrence(
        np.array(nodes, np.int32), np.array(sections, np.int32), max(nodes, default=0) + 1, window
    )
    expected = np.argwhere(dense_adjacency(nodes, sections, window)).T.reshape(2, -1)
    np.testing.assert_array_equal(edges, expected)


@settings(deadline=None, max_examples=30)
@given(
    records=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=25), min_size=1, max_size=4),
    normalise=st.booleans(),
)
def test_message_passing_equals_a_dense_adjacency(records, normalise):
    torch.manual_seed(0)
    conv = WordGraph(6, 3)
    graphs = [build_graph(record(nodes), window=3, normalise=normalise) for nodes in records]
    batch = pack(graphs)
    with torch.no_grad():
        packed = conv(batch.nodes_VD, batch.neighbours())
        start = 0
        for nodes, graph in zip(records, graphs, strict=True):
            adjacency = torch.tensor(dense_adjacency(nodes, [0] * len(nodes), 3)).float()
            if normalise:
                degree = adjacency.sum(1).clamp_min(1)
                adjacency = adjacency / (degree[:, None] * degree[None]).sqrt()
            h = torch.tensor(graph.features.states_VD).float()
            for layer in range(3):
                h = conv.rnn(adjacency @ (h @ conv.weight[layer]), h)
            mine = packed[start : start + len(h)]
            torch.testing.assert_close(mine, h, atol=1e-5, rtol=1e-5)
            start += len(h)


def test_padding_returns_every_node_to_its_record():
    graphs = [build_graph(record(nodes), window=3) for nodes in ([0, 1, 2], [0], [0, 1])]
    batch = pack(graphs)
    padded, mask = batch.padded(batch.nodes_VD)
    assert mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    torch.testing.assert_close(padded[mask], batch.nodes_VD)
    assert not padded[~mask].any()


def test_a_word_beside_itself_links_to_nothing():
    assert build_graph(record([0, 0, 0]), window=3).edges_2E.shape == (2, 0)


def test_a_minibatch_can_leave_out_what_an_extractor_does_not_read():
    graphs = [build_graph(record(nodes), window=3) for nodes in ([0, 1, 2], [0])]
    every, some = pack(graphs), pack(graphs, width=2)
    assert some.nodes_VD.shape[1] == 2 < every.nodes_VD.shape[1]
    torch.testing.assert_close(some.nodes_VD, every.nodes_VD[:, :2])


def test_a_packed_minibatch_has_no_edges_between_records():
    batch = pack([build_graph(record([0, 1, 2]), window=3) for _ in range(3)])
    to, source = batch.edges_2E
    assert (batch.record_V[to] == batch.record_V[source]).all()
    assert batch.record_V.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert batch.slot_V.tolist() == [0, 1, 2] * 3
