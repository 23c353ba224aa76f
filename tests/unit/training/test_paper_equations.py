"""The network against the paper's equations, each written out plainly and slowly in loops.

Everything below is float64 Python and lists of numbers; the network is float32. They agree within
1e-5 wherever the printed formula is defined. CLINICOCO_EXAMPLES sets how many cases are drawn.
"""

import dataclasses
import math
import os

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from label_config.record import EMR, Coding
from training.datastore import Datastore
from training.extractor import Extracted, Extractor, ExtractorConfig
from training.graph import build_graph, pack
from training.losses import code_loss, info_nce, label_contrastive, overlap_weights
from training.network import KnnConfig, mixed
from training.objectives import clean_objective, noisy_objective, raw_objective
from training.stage_config import StagesConfig
from training.words import RecordFeatures

EXAMPLES = int(os.environ.get("CLINICOCO_EXAMPLES", "60"))
NEAR = {"abs": 1e-5, "rel": 1e-5}
D, H = 5, 6

# -- the paper ------------------------------------------------------------------------------------


def window_graph(words: list[int], size: int) -> list[list[float]]:
    """Word graph: two different words are linked if a sliding window holds both."""
    n = max(words) + 1
    linked = [[0.0] * n for _ in range(n)]
    for start in range(len(words)):
        for left in words[start : start + size]:
            for right in words[start : start + size]:
                if left != right:
                    linked[left][right] = 1.0
    return linked


def eq_2(h: np.ndarray, linked: list[list[float]], weight: np.ndarray, gru: dict) -> np.ndarray:
    """Eq. 2: one round of message passing, then a gated update of every node."""
    updated = np.zeros_like(h)
    for v in range(len(h)):
        message = np.zeros(h.shape[1])
        for u in range(len(h)):
            message += linked[v][u] * (h[u] @ weight)
        from_message = gru["weight_ih"] @ message + gru["bias_ih"]
        from_node = gru["weight_hh"] @ h[v] + gru["bias_hh"]
        reset_m, update_m, new_m = np.split(from_message, 3)
        reset_n, update_n, new_n = np.split(from_node, 3)
        reset, update = sigmoid(reset_m + reset_n), sigmoid(update_m + update_n)
        updated[v] = (1 - update) * np.tanh(new_m + reset * new_n) + update * h[v]
    return updated


def eq_3(h: np.ndarray, gate: torch.nn.Linear, value: torch.nn.Linear) -> np.ndarray:
    """Eq. 3: sigmoid(f1(h)) * tanh(f2(h)) of every node; their mean plus their maximum."""
    gated = [sigmoid(linear(gate, node)) * np.tanh(linear(value, node)) for node in h]
    return sum(gated) / len(gated) + np.max(gated, axis=0)


def eq_4(readout: np.ndarray, summary: np.ndarray, tau: float) -> float:
    """Eq. 4: -log of the share of the own summary among all summaries of the minibatch."""
    total = 0.0
    for i in range(len(readout)):
        near = [math.exp(cosine(readout[i], other) / tau) for other in summary]
        total -= math.log(near[i] / sum(near))
    return total / len(readout)


def eq_5(targets: np.ndarray, i: int, j: int) -> float:
    """Eq. 5: C_ij, the number of codes that EMRs i and j share."""
    return float(sum(a * b for a, b in zip(targets[i], targets[j], strict=True)))


def eq_6(targets: np.ndarray, i: int, j: int) -> float:
    """Eq. 6: beta_ij, that number's share among all other EMRs of the minibatch."""
    return eq_5(targets, i, j) / sum(eq_5(targets, i, k) for k in others(targets, i))


def eq_7(z: np.ndarray, targets: np.ndarray, i: int, j: int, tau: float) -> float:
    """Eq. 7: the loss of a pair, by their Euclidean distance."""
    near = {k: math.exp(-math.dist(z[i], z[k]) / tau) for k in others(z, i)}
    return -eq_6(targets, i, j) * math.log(near[j] / sum(near.values()))


def eq_8(z: np.ndarray, targets: np.ndarray, tau: float) -> float:
    """Eq. 8: the sum over pairs, the mean over the EMRs for which eq. 6 is defined."""
    defined = [i for i in range(len(z)) if sum(eq_5(targets, i, k) for k in others(z, i))]
    losses = [sum(eq_7(z, targets, i, j, tau) for j in others(z, i)) for i in defined]
    return sum(losses) / len(losses) if losses else 0.0


def eq_9(logits: np.ndarray, targets: np.ndarray) -> float:
    """Eq. 9: binary cross-entropy of every code of every EMR."""
    cells = []
    for logit, target in zip(logits.ravel(), targets.ravel(), strict=True):
        prob = sigmoid(logit)
        cells.append(-target * math.log(prob) - (1 - target) * math.log(1 - prob))
    return sum(cells) / len(cells)


def eq_10(said: dict, targets: np.ndarray, config: StagesConfig) -> float:
    """Eq. 10: theta, gamma and delta weigh the three."""
    clean = config.clean
    return (
        clean.theta * eq_9(said["logits"], targets)
        + clean.gamma * eq_8(said["z"], targets, clean.tau)
        + clean.delta * eq_4(said["z"], said["summary"], config.raw.tau)
    )


def eq_11(z: np.ndarray, stored: np.ndarray, k: int, tau: float) -> dict[int, float]:
    """Eq. 11: the weight of each of the k nearest clean EMRs."""
    distance = [math.dist(z, other) for other in stored]
    nearest = sorted(range(len(stored)), key=distance.__getitem__)[:k]
    near = {m: math.exp(-distance[m] / tau) for m in nearest}
    return {m: near[m] / sum(near.values()) for m in nearest}


def eq_12(z: np.ndarray, stored: np.ndarray, targets: np.ndarray, k: int, tau: float) -> np.ndarray:
    """Eq. 12: the nearest EMRs' codes, weighed."""
    return sum(weight * targets[m] for m, weight in eq_11(z, stored, k, tau).items())


def eq_13(votes: np.ndarray, probs: np.ndarray, share: float) -> np.ndarray:
    """Eq. 13: lambda of the votes, the rest of the network."""
    return share * votes + (1 - share) * probs


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / math.hypot(*a) / math.hypot(*b)


def others(rows: np.ndarray, i: int) -> list[int]:
    return [k for k in range(len(rows)) if k != i]


def linear(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    return plain(layer.weight) @ x + plain(layer.bias)


# -- the network ----------------------------------------------------------------------------------


def plain(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def record(words: list[int], rng: np.random.Generator) -> RecordFeatures:
    """A record of one section; word i of `words` is node words[i]."""
    n, spans = max(words) + 1, [[3 * i, 3 * i + 2] for i in range(len(words))]
    return RecordFeatures(
        states_VD=rng.normal(size=(n, D)).astype(np.float16),
        nodes_W=np.array(words, np.int32),
        sections_W=np.zeros(len(words), np.int32),
        spans_W2=np.array(spans, np.int32),
        sections=("text",),
        cls_D=rng.normal(size=D).astype(np.float32),
        mean_D=np.zeros(D, np.float32),
    )


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


seeds = st.integers(0, 2**31)
texts = st.lists(st.integers(0, 7), min_size=1, max_size=20)
"""A record as the node of each of its words."""


@st.composite
def minibatches(draw, *, smallest: int = 2) -> tuple[Extracted, np.ndarray]:
    """What a network might say of a minibatch, and its codes: some EMRs have none, some all."""
    rng = np.random.default_rng(draw(seeds))
    n, share = draw(st.integers(smallest, 9)), draw(st.sampled_from([0.1, 0.4, 1.0]))
    said = (rng.normal(size=(n, width)).astype(np.float32) for width in (4, D, D))
    logits, z, summary = map(torch.from_numpy, said)
    z = torch.nn.functional.normalize(z)
    targets = (rng.random((n, 4)) < share).astype(np.float32)
    return Extracted(logits, z, summary, torch.zeros(n, 4, 0)), targets


taus = st.sampled_from([0.1, 0.3, 1.0, 5.0])


@settings(deadline=None, max_examples=EXAMPLES)
@given(records=st.lists(texts, min_size=1, max_size=4), layers=st.integers(1, 3), seed=seeds)
def test_graph_and_readout_equal_equations_2_and_3(records, layers, seed):
    torch.manual_seed(seed % 1_000)
    extractor = Extractor(ExtractorConfig(hidden=H, layers=layers), encoder_dim=D, n_codes=2)
    rng = np.random.default_rng(seed)
    features = [record(words, rng) for words in records]
    z_BH = plain(extractor(pack([build_graph(f, window=3) for f in features])).z_BH)
    gru = {n.removesuffix("_l0"): plain(p) for n, p in extractor.graph.rnn.named_parameters()}
    for words, feature, z in zip(records, features, z_BH, strict=True):
        h = np.tanh([linear(extractor.project, state.astype(float)) for state in feature.states_VD])
        for weight in extractor.graph.weight:
            h = eq_2(h, window_graph(words, 3), plain(weight), gru)
        readout = eq_3(h, extractor.gate, extractor.value)
        assume(np.linalg.norm(readout) > 1e-3)  # z is the direction of the readout
        assert z == pytest.approx(unit(readout), **NEAR)


@settings(deadline=None, max_examples=EXAMPLES)
@given(minibatch=minibatches(smallest=1), tau=taus)
def test_the_raw_stage_minimises_equation_4(minibatch, tau):
    said, _ = minibatch
    expected = eq_4(plain(said.z_BH), plain(said.summary_BH), tau)
    assert info_nce(said.z_BH, said.summary_BH, tau=tau).item() == pytest.approx(expected, **NEAR)
    config = dataclasses.replace(StagesConfig.paper().raw, tau=tau)
    assert raw_objective(said, config).item() == pytest.approx(expected, **NEAR)


@settings(deadline=None, max_examples=EXAMPLES)
@given(minibatch=minibatches())
def test_overlap_weights_equal_equations_5_and_6(minibatch):
    _, targets = minibatch
    beta_BB = overlap_weights(torch.from_numpy(targets))
    for i in range(len(targets)):
        defined = sum(eq_5(targets, i, k) for k in others(targets, i)) > 0
        for j in others(targets, i):
            expected = eq_6(targets, i, j) if defined else 0.0
            assert beta_BB[i, j].item() == pytest.approx(expected, **NEAR)


@settings(deadline=None, max_examples=EXAMPLES)
@given(minibatch=minibatches(), tau=taus)
def test_the_noisy_stage_minimises_equations_7_and_8(minibatch, tau):
    said, targets = minibatch
    codes, expected = torch.from_numpy(targets), eq_8(plain(said.z_BH), targets, tau)
    loss = label_contrastive(said.z_BH, codes, tau=tau)
    assert loss.item() == pytest.approx(expected, **NEAR)
    config = dataclasses.replace(StagesConfig.paper().noisy, tau=tau)
    loss = noisy_objective(said, codes, torch.ones_like(codes), config)
    assert loss.item() == pytest.approx(expected, **NEAR)


@settings(deadline=None, max_examples=EXAMPLES)
@given(minibatch=minibatches())
def test_the_code_loss_equals_equation_9(minibatch):
    said, targets = minibatch
    loss = code_loss(said.logits_BK, torch.from_numpy(targets))
    assert loss.item() == pytest.approx(eq_9(plain(said.logits_BK), targets), **NEAR)


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    minibatch=minibatches(),
    tau=taus,
    weights=st.tuples(*[st.sampled_from([0.0, 0.02, 0.5, 1.0])] * 3),
)
def test_the_clean_stage_minimises_equation_10(minibatch, tau, weights):
    said, targets = minibatch
    theta, gamma, delta = weights
    paper = StagesConfig.paper()
    clean = dataclasses.replace(paper.clean, tau=tau, theta=theta, gamma=gamma, delta=delta)
    config = dataclasses.replace(paper, clean=clean)
    numbers = {
        "logits": plain(said.logits_BK),
        "z": plain(said.z_BH),
        "summary": plain(said.summary_BH),
    }
    marked = torch.zeros(0, 3, dtype=torch.long)
    loss = clean_objective(said, torch.from_numpy(targets), marked, config.clean, config.raw)
    assert loss.item() == pytest.approx(eq_10(numbers, targets, config), **NEAR)


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    seed=seeds,
    stored=st.integers(1, 12),
    k=st.integers(1, 5),
    tau=taus,
    share=st.sampled_from([0.0, 0.3, 1.0]),
    spread=st.sampled_from([1e-3, 0.1, 10.0]),
)
def test_votes_and_their_mixture_equal_equations_11_to_13(seed, stored, k, tau, share, spread):
    rng = np.random.default_rng(seed)
    vectors = (1.0 + spread * rng.normal(size=(stored, D))).astype(np.float32)
    query = (1.0 + spread * rng.normal(size=(1, D))).astype(np.float32)
    codes = [f"A{i:02}" for i in range(4)]
    targets = rng.random((stored, 4)) < 0.5
    emrs = [EMR(f"emr-{m}", {"Illness": "stable"}) for m in range(stored)]
    codings = [
        Coding(emr.emr_id, tuple(np.array(codes)[row].tolist()), "clean")
        for emr, row in zip(emrs, targets, strict=True)
    ]
    store = Datastore.build(vectors, emrs, codings, codes)
    votes = store.knn_probs(query, k, tau)
    z, z_stored = unit(query.astype(float))[0], unit(vectors.astype(float))
    gaps = np.sort(np.linalg.norm(z_stored - z, axis=1))
    assume(np.diff(gaps).min(initial=1.0) > 1e-6)  # of equally near EMRs eq. 11 picks none
    expected = eq_12(z, z_stored, targets.astype(float), k, tau)
    assert votes[0] == pytest.approx(expected, **NEAR)
    probs = rng.random((1, 4)).astype(np.float32)
    together = mixed(probs, votes, KnnConfig(k=k, weight=share))
    assert together[0] == pytest.approx(eq_13(expected, probs[0], share), **NEAR)
