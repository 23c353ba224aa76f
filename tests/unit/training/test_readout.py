import pytest
import torch

from training import in_parts
from training.readout import GatedWords, Readout


@pytest.fixture(params=[1, 3, 100])
def at_once(request, monkeypatch):
    monkeypatch.setattr(in_parts, "NODES_AT_ONCE", request.param)


def test_words_are_gated_as_in_equation_3_and_so_are_their_gradients(at_once):
    torch.manual_seed(0)
    x, w, b = (
        torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((7, 3), (6, 3), (6,))
    )
    gated = torch.sigmoid(x @ w[:3].T + b[:3]) * torch.tanh(x @ w[3:].T + b[3:])
    torch.testing.assert_close(GatedWords.apply(x, w, b), gated)
    assert torch.autograd.gradcheck(GatedWords.apply, (x, w, b))


def test_words_gated_in_half_precision_stay_near_the_full_one(at_once):
    torch.manual_seed(0)
    x, w, b = torch.randn(50, 16), torch.randn(32, 16) / 4, torch.randn(32) / 4
    half = GatedWords.apply(*(t.bfloat16() for t in (x, w, b)))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), GatedWords.apply(x, w, b), atol=0.05, rtol=0.05)


def test_the_readout_is_the_mean_plus_the_maximum_of_equation_3():
    h = torch.tensor([[1.0, -2.0], [3.0, -4.0], [5.0, -6.0]])
    read = Readout.apply(h, torch.tensor([0, 0, 1]), torch.tensor([2, 1]))
    assert read.tolist() == [[2.0 + 3.0, -3.0 - 2.0], [10.0, -12.0]]


def test_the_gradient_of_the_readout_is_that_of_finite_differences():
    torch.manual_seed(0)
    h = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    about = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([3, 1, 2])
    assert torch.autograd.gradcheck(lambda nodes: Readout.apply(nodes, *about), (h,))


def test_the_readout_of_half_precision_is_in_float32_and_its_gradient_is_not():
    h = torch.ones(300, 2, dtype=torch.bfloat16, requires_grad=True)
    read = Readout.apply(h, torch.zeros(300, dtype=torch.int64), torch.tensor([300]))
    assert read.dtype == torch.float32 and read.tolist() == [[2.0, 2.0]]
    read.sum().backward()
    assert h.grad is not None and h.grad.dtype == torch.bfloat16
