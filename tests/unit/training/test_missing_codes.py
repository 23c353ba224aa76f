"""The losses for codings that miss codes, against their formulas in double precision."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.losses import asymmetric, code_loss, hill

LOGITS = st.floats(-1e6, 1e6, width=32)
MODERATE = st.floats(-12, 12, width=32)
KINDS = ("bce", "asymmetric", "hill")


def plain_asymmetric(x: float, gamma_given: float, gamma_absent: float, m: float):
    p = 1 / (1 + math.exp(-x))
    q = max(p - m, 0.0)
    given = -((1 - p) ** gamma_given) * math.log(p)
    return given, -(q**gamma_absent) * math.log(1 - q)


def plain_hill(x: float):
    p, lowered = 1 / (1 + math.exp(-x)), 1 / (1 + math.exp(-(x - 1.0)))
    return -((1 - lowered) ** 2) * math.log(lowered), (1.5 - p) * p**2


@given(MODERATE, st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from([1.0, 2.0, 4.0]))
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.2])
def test_asymmetric_loss_is_its_formula(margin, x, gamma_given, gamma_absent):
    costs = asymmetric(
        torch.tensor([x]), gamma_given=gamma_given, gamma_absent=gamma_absent, margin=margin
    )
    wanted = plain_asymmetric(x, gamma_given, gamma_absent, margin)
    assert [cost.item() for cost in costs] == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@given(MODERATE)
def test_hill_loss_is_its_formula(x):
    costs = hill(torch.tensor([x]))
    assert [c.item() for c in costs] == pytest.approx(plain_hill(x), rel=1e-3, abs=1e-6)


@given(st.lists(LOGITS, min_size=1, max_size=6), st.floats(0, 1, width=32))
@pytest.mark.parametrize("kind", KINDS)
def test_any_logit_and_target_gives_a_finite_loss_and_gradient(kind, logits, target):
    logits = torch.tensor([logits], requires_grad=True)
    loss = code_loss(logits, torch.full_like(logits, target), kind=kind)
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0
    assert torch.isfinite(logits.grad).all()


@given(LOGITS, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 4.0]))
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_asymmetric_loss_is_finite_with_any_setting(margin, x, gamma_given, gamma_absent):
    logit = torch.tensor([x], requires_grad=True)
    settings = {"gamma_given": gamma_given, "gamma_absent": gamma_absent, "margin": margin}
    sum(asymmetric(logit, **settings)).backward()
    assert torch.isfinite(logit.grad).all()


def slope(kind: str, logit: float) -> float:
    logits = torch.tensor([[logit]], requires_grad=True)
    code_loss(logits, torch.zeros(1, 1), kind=kind).backward()
    return logits.grad.item()


def test_hill_loss_forgives_a_code_that_is_absent_against_all_evidence():
    slopes = [slope("hill", logit) for logit in (0.0, 2.0, 5.0, 12.0)]
    assert slopes[0] > slopes[1] > slopes[2] > slopes[3] >= 0
    assert slopes[3] < 1e-6 < slope("bce", 12.0) == pytest.approx(1.0, abs=1e-4)


def test_asymmetric_loss_does_not_care_for_absent_codes_below_its_margin():
    assert slope("asymmetric", -4.0) == 0.0 < slope("asymmetric", 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_counts_by_its_weight_and_a_soft_target_by_its_share(kind):
    logits = torch.tensor([[0.3, -1.2]])
    given, absent = (code_loss(logits, torch.full((1, 2), t), kind=kind) for t in (1.0, 0.0))
    soft = code_loss(logits, torch.full((1, 2), 0.25), kind=kind)
    torch.testing.assert_close(soft, 0.25 * given + 0.75 * absent)
    weights = torch.tensor([[2.0, 0.0]])
    first = code_loss(logits[:, :1], torch.ones(1, 1), kind=kind)
    torch.testing.assert_close(code_loss(logits, torch.ones(1, 2), weights, kind=kind), first)
