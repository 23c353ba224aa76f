"""No minibatch may break training: whatever is in it, every loss and every gradient is finite.

CLINICOCO_EXAMPLES sets how many minibatches are drawn, 10000 before a release.
"""

import dataclasses
import os

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.extractor import Extractor, ExtractorConfig
from training.graph import build_graph, pack
from training.losses import code_loss, info_nce, label_contrastive
from training.objectives import clean_objective, noisy_objective, raw_objective
from training.stage_config import CleanConfig, NoisyConfig, RawConfig
from training.words import RecordFeatures

EXAMPLES = int(os.environ.get("CLINICOCO_EXAMPLES", "300"))
D, K = 4, 5
PAPER = ExtractorConfig(hidden=6, attention=4)
EXTRACTORS = (
    PAPER,
    dataclasses.replace(PAPER, layers=0),
    dataclasses.replace(PAPER, residual=True, normalise_edges=True, attend="words", static=True),
    dataclasses.replace(PAPER, attend="both", prototypes=True),
)
SIZES = st.sampled_from([1, 1, 2, 2, 3, 8, 17])
SCALES = st.sampled_from([0.0, 1e-7, 1e-3, 1.0, 1e4])
"""Of the encoder's states, which are kept in float16."""
LABELS = st.sampled_from(["none", "one everywhere", "all", "one each", "some", "some without"])
TAUS = st.sampled_from([0.01, 0.3, 10.0])


def targets_of(kind: str, n: int, rng: np.random.Generator) -> torch.Tensor:
    targets = np.zeros((n, K), np.float32)
    if kind == "one everywhere":
        targets[:, 0] = 1.0
    elif kind == "all":
        targets[:] = 1.0
    elif kind == "one each":
        targets[np.arange(n), np.arange(n) % K] = 1.0
    elif kind.startswith("some"):
        targets[:] = rng.random((n, K)) < 0.3
        if kind == "some without":
            targets[::2] = 0.0
    return torch.from_numpy(targets)


@st.composite
def minibatches_of_records(draw) -> tuple[list[RecordFeatures], torch.Tensor, torch.Tensor]:
    """Records (some the same, some of one word), their codes, the words that a coder marked."""
    n, rng = draw(SIZES), np.random.default_rng(draw(st.integers(0, 2**31)))
    scale, longest = draw(SCALES), draw(st.sampled_from([1, 2, 12]))
    records = []
    for _ in range(n):
        words = rng.integers(0, longest, rng.integers(1, 2 * longest + 1))
        _, nodes = np.unique(words, return_inverse=True)
        size = int(nodes.max()) + 1
        starts = 3 * np.arange(len(nodes))
        records.append(
            RecordFeatures(
                states_VD=(scale * rng.normal(size=(size, 2 * D))).astype(np.float16),
                nodes_W=nodes.astype(np.int32),
                sections_W=np.zeros(len(nodes), np.int32),
                spans_W2=np.stack([starts, starts + 2], axis=1).astype(np.int32),
                sections=("text",),
                cls_D=(scale * rng.normal(size=D)).astype(np.float32),
                mean_D=np.zeros(D, np.float32),
            )
        )
    if draw(st.booleans()):
        records = [records[i // 2] for i in range(n)]
    marked = [
        (row, int(rng.integers(K)), int(rng.integers(r.n_nodes))) for row, r in enumerate(records)
    ]
    if draw(st.booleans()):
        marked = []
    targets = targets_of(draw(LABELS), n, rng)
    return records, targets, torch.tensor(marked, dtype=torch.long).reshape(-1, 3)


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    minibatch=minibatches_of_records(),
    shape=st.sampled_from(EXTRACTORS),
    tau=TAUS,
    weights=st.sampled_from([1e-3, 1.0, 30.0]),
    overlap=st.sampled_from(["count", "jaccard"]),
    mixed=st.booleans(),
    kind=st.sampled_from(["bce", "asymmetric", "hill"]),
)
def test_every_stage_has_finite_gradients_on_any_minibatch(
    minibatch, shape, tau, weights, overlap, mixed, kind
):
    records, targets_BK, marked_P3 = minibatch
    torch.manual_seed(len(records))
    extractor = Extractor(shape, encoder_dim=D, n_codes=K)
    with torch.no_grad():
        for parameter in extractor.parameters():
            parameter.mul_(weights)
    batch = pack([build_graph(r, window=3, normalise=shape.normalise_edges) for r in records])
    raw = RawConfig(tau=tau)
    noisy = NoisyConfig(tau=tau, codes=1.0, overlap=overlap, codes_loss=kind)
    clean = CleanConfig(tau=tau, evidence=0.5, overlap=overlap, codes_loss=kind)
    for objective in (
        lambda said: raw_objective(said, raw),
        lambda said: noisy_objective(said, targets_BK, targets_BK / 2, noisy),
        lambda said: clean_objective(said, targets_BK, marked_P3, clean, raw),
    ):
        extractor.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            said = extractor(batch)
        loss = objective(said)
        loss.backward()
        assert torch.isfinite(loss)
        for name, parameter in extractor.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 2**31),
    n=SIZES,
    kind=st.sampled_from(["apart", "all equal", "pairs equal", "zeros", "nearly equal"]),
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]),
    labels=LABELS,
    tau=TAUS,
)
def test_every_loss_has_finite_gradients_at_any_distance(seed, n, kind, scale, labels, tau):
    rng = np.random.default_rng(seed)
    z, other = torch.from_numpy(rng.normal(size=(2, n, D)).astype(np.float32))
    if kind == "all equal":
        z = z[:1].repeat(n, 1)
    elif kind == "pairs equal":
        z = z[torch.arange(n) // 2]
    elif kind == "zeros":
        z = z * 0.0
    elif kind == "nearly equal":
        z = z[:1] + 1e-7 * z
    z = (z * scale).requires_grad_()
    targets = targets_of(labels, n, rng)
    for loss in (
        label_contrastive(z, targets, tau=tau),
        label_contrastive(z, targets, tau=tau, overlap="jaccard"),
        info_nce(z, other, tau=tau),
        info_nce(other, z, tau=tau),
        code_loss(z.repeat(1, 2)[:, :K], targets),
    ):
        (gradient,) = torch.autograd.grad(loss, z)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
