import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses import (
    code_loss,
    evidence_loss,
    info_nce,
    label_contrastive,
    overlap_weights,
    unit,
)


def plain_label_contrastive(z, targets, tau, jaccard=False):
    """Eq. 5-8 written out with loops, in double precision; None where a denominator is 0."""
    z = [row / row.norm() for row in z.double()]
    per_anchor = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        overlap = {}
        for j in others:
            shared = float((targets[i] * targets[j]).sum())
            union = float(((targets[i] + targets[j]) > 0).sum())
            overlap[j] = shared / union if jaccard and union else shared
        total = sum(overlap.values())
        if total == 0:
            continue
        near = {j: math.exp(-float((z[i] - z[j]).norm()) / tau) for j in others}
        per_anchor.append(
            -sum(overlap[j] / total * math.log(near[j] / sum(near.values())) for j in others)
        )
    return sum(per_anchor) / len(per_anchor) if per_anchor else None


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 9),
    tau=st.sampled_from([0.1, 0.3, 1.0, 5.0]),
    jaccard=st.booleans(),
)
def test_the_label_loss_equals_the_papers_formula_where_that_is_defined(seed, n, tau, jaccard):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 5, generator=generator)
    targets = (torch.rand(n, 4, generator=generator) < 0.4).float()
    expected = plain_label_contrastive(z, targets, tau, jaccard)
    kind = "jaccard" if jaccard else "count"
    loss = label_contrastive(z, targets, tau=tau, overlap=kind).item()
    assert loss == pytest.approx(expected or 0.0, abs=1e-5, rel=1e-5)


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 9), tau=st.sampled_from([0.05, 0.1, 1.0]))
def test_info_nce_equals_the_papers_formula(seed, n, tau):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, n, 5, generator=generator).double()
    total = 0.0
    for i in range(n):
        near = [math.exp(float(torch.cosine_similarity(a[i], b[j], 0)) / tau) for j in range(n)]
        total -= math.log(near[i] / sum(near))
    loss = info_nce(a.float(), b.float(), tau=tau).item()
    assert loss == pytest.approx(total / n, abs=1e-5, rel=1e-5)


KINDS = ("random", "all equal", "pairs equal", "zeros", "nearly equal")


@settings(deadline=None, max_examples=1_200)
@given(
    seed=st.integers(0, 1_000_000),
    n=st.sampled_from([1, 2, 3, 8, 17]),
    kind=st.sampled_from(KINDS),
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]),
    labels=st.sampled_from(["none", "same", "one each", "random", "all"]),
    tau=st.sampled_from([0.01, 0.3, 10.0]),
)
def test_losses_and_gradients_stay_finite_on_any_minibatch(seed, n, kind, scale, labels, tau):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 4, generator=generator)
    if kind == "all equal":
        z = z[:1].repeat(n, 1)
    elif kind == "pairs equal":
        z = z[torch.arange(n) // 2]
    elif kind == "zeros":
        z = z * 0.0
    elif kind == "nearly equal":
        z = z[:1] + 1e-7 * z
    z = (z * scale).requires_grad_()
    other = torch.randn(n, 4, generator=generator)
    targets = torch.zeros(n, 6)
    if labels == "same":
        targets[:, 0] = 1.0
    elif labels == "one each":
        targets[torch.arange(n), torch.arange(n) % 6] = 1.0
    elif labels == "random":
        targets = (torch.rand(n, 6, generator=generator) < 0.3).float()
    elif labels == "all":
        targets += 1.0
    for loss in (
        label_contrastive(z, targets, tau=tau),
        label_contrastive(z, targets, tau=tau, overlap="jaccard"),
        info_nce(z, other, tau=max(tau, 0.05)),
        info_nce(other, z, tau=max(tau, 0.05)),
        code_loss(z.repeat(1, 2)[:, :6], targets),
    ):
        (gradient,) = torch.autograd.grad(loss, z)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_an_emr_that_shares_no_code_is_left_out_of_the_mean():
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    expected = plain_label_contrastive(z, targets, 0.3)
    assert label_contrastive(z, targets, tau=0.3).item() == pytest.approx(expected, abs=1e-5)
    assert overlap_weights(targets).sum(1).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_drawing_an_emr_to_one_with_the_same_code_lowers_the_loss():
    targets = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    apart = torch.tensor([[1.0, 0.0], [-1.0, 0.2], [0.9, 0.1]])
    together = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2]])
    assert label_contrastive(together, targets, tau=0.3) < label_contrastive(
        apart, targets, tau=0.3
    )


def test_a_minibatch_of_one_costs_nothing():
    z, targets = torch.randn(1, 3), torch.ones(1, 2)
    assert label_contrastive(z, targets, tau=0.3).item() == 0.0
    assert info_nce(z, torch.randn(1, 3), tau=0.1).item() == 0.0


def test_jaccard_weighs_a_full_match_above_a_partial_one():
    targets = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 1, 1]])
    assert overlap_weights(targets)[0].tolist() == [0.0, 0.5, 0.5]
    assert overlap_weights(targets, kind="jaccard")[0].tolist() == pytest.approx([0, 0.75, 0.25])


def test_a_doubtful_code_counts_less():
    logits, targets = torch.zeros(1, 2), torch.ones(1, 2)
    sure = code_loss(logits, targets, torch.ones(1, 2))
    doubtful = code_loss(logits, targets, torch.tensor([[1.0, 0.2]]))
    assert doubtful.item() == pytest.approx(0.6 * sure.item())


def test_the_evidence_loss_is_the_log_of_the_attention_on_marked_words():
    attention = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], [[0.25, 0.25, 0.5]] * 2])
    marked = torch.tensor([[0, 0, 0], [0, 0, 2], [1, 1, 1]])
    expected = -(math.log(0.7) + math.log(0.25)) / 2
    assert evidence_loss(attention, marked).item() == pytest.approx(expected, abs=1e-6)
    assert evidence_loss(attention, torch.zeros(0, 3, dtype=torch.long)).item() == 0.0


def test_unit_rows_have_length_one_at_any_scale():
    for scale in (1e-5, 1.0, 1e30):
        rows = unit(scale * torch.tensor([[3.0, 4.0]]))
        torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8]]))
    assert unit(torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]
