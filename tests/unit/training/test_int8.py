import pytest
import torch
from torch import nn

from training.encoder_files import read_model
from training.int8 import Int8Linear, Reach, calibration_ids, in_int8


@pytest.fixture(scope="module")
def plain(encoder_folder):
    model, tokenizer, _ = read_model(str(encoder_folder))
    return model.eval().requires_grad_(False), calibration_ids(tokenizer, 62)


def layer_with(weight_OI) -> nn.Linear:
    layer = nn.Linear(weight_OI.shape[1], weight_OI.shape[0]).requires_grad_(False)
    layer.weight.copy_(weight_OI)
    return layer


def reach_of(x_NI) -> Reach:
    reach = Reach.none(x_NI.shape[1])
    reach.see(x_NI)
    return reach


def relative_error(layer, x_NI) -> float:
    exact_NO, rounded_NO = layer(x_NI), Int8Linear(layer, reach_of(x_NI))(x_NI)
    return float((rounded_NO - exact_NO).norm() / (exact_NO - exact_NO.mean(0)).norm())


def test_a_rounded_model_says_nearly_what_the_plain_one_says(plain):
    model, texts = plain
    small = in_int8(model, texts)
    with torch.inference_mode():
        for ids in texts:
            mask = torch.ones_like(ids)
            exact = model(input_ids=ids, attention_mask=mask).last_hidden_state
            states = small(input_ids=ids, attention_mask=mask).last_hidden_state
            assert not torch.equal(states, exact)
            assert torch.cosine_similarity(states, exact, dim=-1).mean() >= 0.995


def test_the_plain_model_stays_as_it_was(plain):
    model, texts = plain
    before = {name: value.clone() for name, value in model.state_dict().items()}
    in_int8(model, texts)
    assert not any(isinstance(module, Int8Linear) for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_multiplied_has_at_most_256_levels_read_and_255_of_weights():
    torch.manual_seed(0)
    layer, x_NI = layer_with(torch.randn(3, 40)), torch.randn(500, 40)
    rounded = Int8Linear(layer, reach_of(x_NI))
    read = torch.fake_quantize_per_tensor_affine(
        x_NI * rounded.shrink_I, rounded.scale, rounded.zero, 0, 255
    )
    assert 0 <= rounded.zero <= 255
    assert len(read.unique()) <= 256
    assert float((rounded.weight_OI.abs().amax(1) / rounded.scale_O).max()) == pytest.approx(127)


def test_channels_that_reach_far_do_not_drown_the_others():
    torch.manual_seed(0)
    x_NI = torch.randn(500, 40)
    x_NI[:, 0] *= 300  # one scale for all would leave the others four levels
    weight_OI = torch.randn(8, 40)
    weight_OI[:, 0] /= 300
    assert relative_error(layer_with(weight_OI), x_NI) < 0.05


class OneSpike(nn.Module):
    """Its second layer reads one token a thousand times larger than the others, and ignores it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.smooth, self.rough = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, input_ids, attention_mask):
        states = self.smooth(self.table(input_ids))
        states[:, 0] = 1000
        return self.rough(states)


def test_a_layer_that_rounding_would_spoil_stays_in_floats():
    torch.manual_seed(0)
    model = OneSpike().requires_grad_(False)
    model.rough.weight -= model.rough.weight.mean(1, keepdim=True)
    small = in_int8(model, [torch.arange(50)[None]])
    assert isinstance(small.smooth, Int8Linear)
    assert type(small.rough) is nn.Linear


def test_calibration_texts_are_the_same_every_time_and_fill_the_window(plain, encoder_folder):
    _, tokenizer, _ = read_model(str(encoder_folder))
    again = calibration_ids(tokenizer, 62)
    assert [ids.shape for ids in again] == [(1, 62)] * 8
    assert all(torch.equal(a, b) for a, b in zip(again, plain[1], strict=True))
