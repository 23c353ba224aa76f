"""The encoder's linear layers in 8-bit integers, for a back end that multiplies them natively.

Post-training quantisation: scales come from running the float model over calibration texts. One
scale serves all channels that a layer reads, so channels that reach far are divided first and their
weights multiplied (SmoothQuant, arXiv 2211.10438, eq. 4). The rounding is written into the model
as torch's "fake" quantisation: run by torch it shows what is lost, compiled it becomes integers.

Shapes: B texts, T tokens, I what a layer reads, O what it gives.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from label_config.taxonomy import Taxonomy

CALIBRATION_TEXTS = 8
SMOOTHING = 0.75
"""How much of a channel's reach goes over to its weights."""
MOST_ERROR = 0.05
"""A layer whose output would be off by more, relative to its spread, is left in floats."""

_log = logging.getLogger(__name__)


def in_int8(model: nn.Module, calibration: Sequence[Tensor]) -> nn.Module:
    """Return a copy of the float32 model whose linear layers round to 8 bits what they multiply.

    `calibration`: token ids, each of shape (1, T), that the scales are taken from.
    """
    layers = {n: layer for n, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    reaches = {name: Reach.none(layer.in_features) for name, layer in layers.items()}
    _run(model, layers, calibration, lambda name, x_BTI, _: reaches[name].see(x_BTI))
    seen = {name: layer for name, layer in layers.items() if reaches[name].is_known}
    rounded = {name: Int8Linear(layer, reaches[name]) for name, layer in seen.items()}
    errors = {name: [0.0, 0.0] for name in seen}

    def compare(name: str, x_BTI: Tensor, y_BTO: Tensor) -> None:
        errors[name][0] += float((rounded[name](x_BTI) - y_BTO).square().sum())
        y_NO = y_BTO.reshape(-1, y_BTO.shape[-1])
        errors[name][1] += float((y_NO - y_NO.mean(0)).square().sum())

    _run(model, seen, calibration, compare)
    small = copy.deepcopy(model)
    kept = [name for name, (off, spread) in errors.items() if off <= MOST_ERROR**2 * spread]
    for name in kept:
        small.set_submodule(name, rounded[name])
    _log.info("encoder: %d of %d linear layers in 8 bits", len(kept), len(layers))
    return small


def calibration_ids(tokenizer: Any, length: int) -> list[Tensor]:
    """Token ids of texts made of the titles of ICD-10-CM, each of shape (1, `length` or less).

    No record of a patient is needed, and every start takes the same scales.
    """
    taxonomy = Taxonomy.icd10cm()
    titles = [taxonomy.title(code) for code in taxonomy.leaves()]
    step = max(1, len(titles) // (CALIBRATION_TEXTS * length // 4))
    chosen = titles[::step]  # a title has some ten tokens: more than enough for each text
    texts = [". ".join(chosen[i::CALIBRATION_TEXTS]) for i in range(CALIBRATION_TEXTS)]
    encoded = tokenizer(texts, truncation=True, max_length=length, verbose=False)["input_ids"]
    return [torch.tensor([ids]) for ids in encoded]


@dataclass(slots=True)
class Reach:
    """The least and the greatest value that a layer has read in each channel, shape (I,)."""

    low_I: Tensor
    high_I: Tensor

    @classmethod
    def none(cls, channels: int) -> Reach:
        """Of a layer that has read nothing yet."""
        return cls(torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf))

    @property
    def is_known(self) -> bool:
        """Whether it has read anything."""
        return bool(torch.isfinite(self.low_I).all())

    def see(self, x_BTI: Tensor) -> None:
        """Count in what the layer reads, shape (..., I)."""
        x_NI = x_BTI.reshape(-1, x_BTI.shape[-1])
        self.low_I = torch.minimum(self.low_I, x_NI.amin(0))
        self.high_I = torch.maximum(self.high_I, x_NI.amax(0))


class Int8Linear(nn.Module):
    """A linear layer that rounds what it reads to 8 bits, and each output's weights likewise."""

    shrink_I: Tensor
    weight_OI: Tensor
    scale_O: Tensor
    zero_O: Tensor

    def __init__(self, layer: nn.Linear, reach: Reach) -> None:
        super().__init__()
        weight_OI = layer.weight.detach().float()
        reach_I = torch.maximum(reach.high_I, -reach.low_I).clamp(min=1e-5)
        largest_I = weight_OI.abs().amax(0).clamp(min=1e-5)
        smooth_I = reach_I**SMOOTHING / largest_I ** (1 - SMOOTHING)
        weight_OI = weight_OI * smooth_I
        low = min(0.0, float((reach.low_I / smooth_I).min()))
        high = max(1e-6, float((reach.high_I / smooth_I).max()))
        self.scale = (high - low) / 255
        self.zero = round(-low / self.scale)
        self.bias = layer.bias
        self.register_buffer("shrink_I", 1 / smooth_I)
        self.register_buffer("weight_OI", weight_OI)
        self.register_buffer("scale_O", weight_OI.abs().amax(1).clamp(min=1e-8) / 127)
        self.register_buffer("zero_O", torch.zeros(len(weight_OI), dtype=torch.int32))

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Return what the layer gives, shape (..., O), rounding included."""
        x_BTI = torch.fake_quantize_per_tensor_affine(
            x_BTI * self.shrink_I, self.scale, self.zero, 0, 255
        )
        weight_OI = torch.fake_quantize_per_channel_affine(
            self.weight_OI, self.scale_O, self.zero_O, 0, -127, 127
        )
        return linear(x_BTI, weight_OI, self.bias)


@torch.inference_mode()
def _run(
    model: nn.Module, layers: dict[str, nn.Linear], texts: Sequence[Tensor], look: Any
) -> None:
    """Run the texts, calling `look(name, read, given)` for each of the layers."""

    def hook(name: str) -> Any:
        return lambda _, read, given: look(name, read[0], given)

    hooks = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        for ids_BT in texts:
            model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT))
    finally:
        for handle in hooks:
            handle.remove()
