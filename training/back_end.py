"""Where the encoder runs: torch, or OpenVINO (extra `openvino`), faster on processors.

All give the same states from the same weights up to rounding, which is coarser in 8 bits, yet not
the same bytes: caches of one are not read with another (`Encoder.fingerprint`).

Shapes: B texts, T tokens, D the encoder's width.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from label_config.errors import ConfigError
from training.window_attention import read_by_window

BackEnd = Literal["torch", "openvino", "openvino-int8"]
"""The last one multiplies 8-bit integers (`training.int8`)."""

LENGTH_STEP = 16
"""OpenVINO prepares itself for each length anew: texts are padded to multiples of this."""


def back_ends() -> list[BackEnd]:
    """Those installed, the default first."""
    return ["torch"] if find_spec("openvino") is None else ["torch", "openvino", "openvino-int8"]


class Runs(Protocol):
    """What a back end does."""

    by_window: bool
    """Whether its attention goes window by window, which rounds otherwise."""

    def __call__(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the last hidden states, shape (B, T, D), of padded token ids."""


class TorchRuns:
    """The Hugging Face model; on a processor its attention goes window by window."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        on_processor = next(model.parameters()).device.type == "cpu"
        self.by_window = on_processor and read_by_window(model)

    @torch.inference_mode()
    def __call__(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the last hidden states in the model's own precision."""
        states: Tensor = self._model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return states


class OpenVinoRuns:
    """The model compiled by OpenVINO for this processor; callers wait for each other."""

    by_window = False

    def __init__(self, model: nn.Module, *, longest: int, bfloat16: bool) -> None:
        """Convert a float32 model that reads at most `longest` tokens; nothing is downloaded.

        Takes as many threads as torch has now. Raises ConfigError without the extra.
        """
        if "openvino" not in back_ends():
            raise ConfigError(
                "back ends of openvino need the extra: pip install 'clinicoco[openvino]'"
            )
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = _openvino().Core().compile_model(_converted(model), "CPU", settings)
        self._request, self._lock = compiled.create_infer_request(), Lock()
        self._longest = longest

    def __call__(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the last hidden states in float32."""
        n_tokens = ids_BT.shape[1]
        missing = min(-n_tokens % LENGTH_STEP, self._longest - n_tokens)
        inputs = [pad(x_BT, (0, missing)).numpy() for x_BT in (ids_BT, mask_BT)]
        with self._lock:
            states_BTD = self._request.infer(inputs)[0].copy()
        return torch.from_numpy(states_BTD)[:, :n_tokens]


class _LastStates(nn.Module):
    """The model as a function of two tensors, which is what a conversion needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return states


def _converted(model: nn.Module) -> Any:
    """OpenVINO's graph of the model, for any number of texts of any length."""
    # one text shorter than the other: the mask must stay part of the graph
    mask_BT = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the tracing, about shapes that it leaves open
        return _openvino().convert_model(
            _LastStates(model), example_input=(torch.ones_like(mask_BT), mask_BT)
        )


def _openvino() -> Any:
    """The library, kept from reporting to its makers over the internet that it is used."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    return import_module("openvino")
