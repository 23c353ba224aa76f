import math

import pytest
import torch

from training.losses import (
    code_loss,
    evidence_loss,
    info_nce,
    label_contrastive,
    overlap_weights,
    unit,
)


def test_an_emr_that_shares_no_code_is_left_out_of_the_mean():
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    distance = torch.cdist(unit(z).double(), unit(z).double())
    first = -math.log(math.exp(-distance[0, 1] / 0.3) / sum(torch.exp(-distance[0, 1:] / 0.3)))
    second = -math.log(
        math.exp(-distance[1, 0] / 0.3) / sum(torch.exp(-distance[1, [0, 2, 3]] / 0.3))
    )
    loss = label_contrastive(z, targets, tau=0.3).item()
    assert loss == pytest.approx((first + second) / 2, abs=1e-5)
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


def test_with_prototypes_an_emr_that_shares_no_code_is_drawn_to_its_codes():
    targets, prototypes = torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    far = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = label_contrastive(far, targets, tau=1.0, prototypes_KD=prototypes)
    loss.backward()
    assert far.grad.abs().sum() > 0
    near = label_contrastive(prototypes, targets, tau=1.0, prototypes_KD=prototypes)
    assert near < loss


def test_a_prototype_counts_as_one_more_emr_with_its_code_alone():
    torch.manual_seed(0)
    z, prototypes, targets = (
        torch.randn(3, 4),
        torch.randn(2, 4),
        torch.tensor([[1, 0], [1, 1], [0, 1]]),
    )
    together = torch.nn.functional.normalize(torch.cat([z, prototypes]), dim=1)
    codes = torch.cat([targets, torch.eye(2)]).float()
    expected = []
    for i in range(3):
        others = [j for j in range(5) if j != i]
        shared = torch.stack([codes[i] @ codes[j] for j in others])
        distance = torch.stack([(together[i] - together[j]).norm() for j in others])
        expected.append(-(shared / shared.sum() * torch.log_softmax(-distance / 0.5, 0)).sum())
    found = label_contrastive(z, targets.float(), tau=0.5, prototypes_KD=prototypes)
    torch.testing.assert_close(found, torch.stack(expected).mean())


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
