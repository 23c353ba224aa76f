"""A fine-tuned encoder as what it is: the plain one and a few small matrices beside its weights.

LoRA (Hu et al. 2022, eq. 3), through peft: a linear layer of the top transformer layers becomes
W + (alpha / rank) B A, where only A (rank, in) and B (out, rank) have been trained.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from label_config.errors import CheckpointError, ConfigError
from training.checkpoint import load_tensors, open_checkpoint, save_checkpoint, save_tensors
from training.encoder import Encoder
from training.encoder_files import read_model

KIND = "encoder adapter"
TENSORS = "adapter.safetensors"


@dataclass(frozen=True, slots=True)
class LoraShape:
    """Which layers have adapters, and how large these are."""

    layers: int
    """Transformer layers, counted from the top."""
    rank: int
    alpha: float

    def __post_init__(self) -> None:
        if min(self.layers, self.rank) < 1 or self.alpha <= 0:
            raise ConfigError(
                "LoRA needs layers >= 1, rank >= 1 and alpha above 0, "
                f"got {self.layers}, {self.rank} and {self.alpha}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The trained matrices (peft's names), for the encoder whose checksum is `base`."""

    base: str
    shape: LoraShape
    tensors: Mapping[str, Tensor]
    history: Sequence[Mapping[str, float]] = field(default_factory=tuple)
    """One row per epoch: the loss, and the held-back score where there is one."""

    @property
    def checksum(self) -> str:
        """SHA-256 of all that makes the fine-tuned weights: base, shape and matrices."""
        about = json.dumps([self.base, asdict(self.shape)], sort_keys=True)
        digest = hashlib.sha256(about.encode())
        for name in sorted(self.tensors):
            matrix = self.tensors[name]
            digest.update(f"{name} {tuple(matrix.shape)}".encode())
            digest.update(matrix.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()

    def apply(self, encoder: Encoder) -> Encoder:
        """Return the fine-tuned encoder, the matrices merged into its weights.

        Raises CheckpointError if `encoder` is not the plain one that the adapter was trained on,
        or does not fit the matrices, and ConfigError without the extra.
        """
        if encoder.checksum != self.base:
            raise CheckpointError(
                f"the adapter was trained on an encoder with SHA-256 {self.base[:12]}..., "
                f"got {encoder.name} ({encoder.checksum[:12]}...)"
            )
        with own_random(encoder.device):
            model = with_lora(plain_model(encoder), self.shape)
        load_lora(model, self.tensors)
        return Encoder(
            model.merge_and_unload(safe_merge=True),
            encoder.tokenizer,
            name=encoder.name,
            checksum=self.checksum,
            device=str(encoder.device),
            precision=encoder.precision,
            back_end=encoder.back_end,
            adapter=self,
        )

    def save(self, folder: Path, *, run: str = "") -> None:
        """Write a folder; `run` says what it was trained on (see `load`)."""
        config = {
            "base": self.base,
            "shape": asdict(self.shape),
            "history": [dict(row) for row in self.history],
            "run": run,
        }

        def write(to: Path) -> None:
            save_tensors(to / TENSORS, self.tensors)

        save_checkpoint(folder, kind=KIND, config=config, write=write)

    @classmethod
    def load(cls, folder: Path, *, run: str | None = None) -> Adapter:
        """Read a folder. Raises CheckpointError if it is damaged or of another `run`, if given."""
        config = open_checkpoint(folder, kind=KIND)
        if run is not None and config.get("run") != run:
            raise CheckpointError(
                f"{folder} belongs to a run with other data or settings: "
                "give this run a folder of its own"
            )
        try:
            shape = LoraShape(**config["shape"])
            tensors = load_tensors(folder / TENSORS)
            return cls(str(config["base"]), shape, tensors, tuple(config["history"]))
        except (KeyError, TypeError, ConfigError) as error:
            raise CheckpointError(f"{folder} does not fit this version: {error}") from error


def plain_model(encoder: Encoder) -> Any:
    """Read the float32 model of an encoder anew, whatever precision and back end it runs in.

    Raises CheckpointError if its weights are no longer the same, or were fine-tuned already.
    """
    model, _, checksum = read_model(encoder.name)
    if checksum != encoder.checksum:
        raise CheckpointError(
            f"the weights of {encoder.name} should have SHA-256 {encoder.checksum[:12]}..., "
            f"got {checksum[:12]}...: only a plain encoder can be fine-tuned"
        )
    return model.eval().requires_grad_(False).to(encoder.device)


@contextmanager
def own_random(device: torch.device) -> Iterator[None]:
    """Within it random numbers are drawn without changing those that come after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def layers_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and list of the transformer layers. Raises ConfigError if there is no such list."""
    count = getattr(model.config, "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise ConfigError(f"fine-tuning needs an encoder with a list of its {count} layers, got none")


def with_lora(model: Any, shape: LoraShape, *, dropout: float = 0.0) -> Any:
    """Put adapters, which change nothing yet, on every linear layer of the top layers.

    Raises ConfigError without the extra, or for more layers than there are.
    """
    peft = _peft()
    name, layers = layers_of(model)
    if shape.layers > len(layers):
        raise ConfigError(
            f"fine-tuning needs layers in 1 to {len(layers)}, the encoder's, got {shape.layers}"
        )
    targets = [
        f"{name}.{number}.{inner}"
        for number in range(len(layers) - shape.layers, len(layers))
        for inner, module in layers[number].named_modules()
        if isinstance(module, nn.Linear)
    ]
    config = peft.LoraConfig(
        r=shape.rank, lora_alpha=shape.alpha, lora_dropout=dropout, target_modules=targets
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
        return peft.get_peft_model(model, config)


def lora_tensors(model: Any) -> dict[str, Tensor]:
    """Copies of the adapters' matrices, on the processor."""
    # the embeddings are never fine-tuned: nothing needs to be looked up on the hub
    found = _peft().get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone() for name, tensor in sorted(found.items())}


def load_lora(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Set the adapters' matrices. Raises CheckpointError unless names and shapes fit."""
    wanted = {name: tensor.shape for name, tensor in lora_tensors(model).items()}
    if wanted != {name: tensor.shape for name, tensor in tensors.items()}:
        raise CheckpointError(
            f"the adapter's {len(tensors)} matrices do not fit the encoder, "
            f"which needs {len(wanted)} of other names or shapes"
        )
    with torch.no_grad():
        _peft().set_peft_model_state_dict(model, dict(tensors))


def _peft() -> Any:
    try:
        return import_module("peft")
    except ImportError:
        raise ConfigError(
            "fine-tuning the encoder needs the extra: pip install 'clinicoco[lora]'"
        ) from None
