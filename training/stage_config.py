"""Settings of the three stages: the paper's, our best, and a quick one for demos.

Where the paper gives no number (every tau) or no formula for one (delta), the field says so.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from label_config.errors import ConfigError
from training.adapt import AdaptConfig
from training.encoder import Precision
from training.extractor import ExtractorConfig
from training.losses import CodesLoss, Overlap
from training.network import KnnConfig

StageName = Literal["raw", "noisy", "clean"]
STAGES: tuple[StageName, ...] = ("raw", "noisy", "clean")


@dataclass(frozen=True, slots=True)
class RawConfig:
    """Stage 1, eq. 4: raw EMRs without codes."""

    epochs: int = 100
    tau: float = 0.1
    """Temperature of the cosine similarity; the paper gives none."""


@dataclass(frozen=True, slots=True)
class NoisyConfig:
    """Stage 2, eq. 5-8: EMRs with noisy codes."""

    epochs: int = 100
    tau: float = 0.3
    """Scale of a distance between unit vectors (0 to 2); the paper gives none."""
    contrastive: float = 1.0
    codes: float = 0.0
    """Weight of binary cross-entropy on the noisy codes; the paper has none."""
    codes_loss: CodesLoss = "bce"
    """"asymmetric" and "hill" take its place where noisy codings miss codes."""
    taught: float = 0.0
    """Weight of a teacher's probabilities as soft targets, against 1 for a noisy code; needs
    `codes`. The paper has no teacher."""
    most_taught: int = 5_000
    """EMRs that a teacher speaks of; those that it learned from are always among them."""
    overlap: Overlap = "count"


@dataclass(frozen=True, slots=True)
class CleanConfig:
    """Stage 3, eq. 9-10: EMRs with clean codes."""

    epochs: int = 100
    tau: float = 0.3
    theta: float = 1.0
    """Weight of binary cross-entropy."""
    gamma: float = 0.5
    """Weight of the contrastive loss over codes."""
    delta: float = 0.02
    """Weight of stage 1's loss, kept alive on the clean EMRs."""
    evidence: float = 0.0
    """Weight of attention on the words that coders marked; the paper has none."""
    codes_loss: CodesLoss = "bce"
    """For clean codings that miss codes, as in `NoisyConfig`."""
    overlap: Overlap = "count"


@dataclass(frozen=True, slots=True)
class StagesConfig:
    """All settings of a run; the defaults are the paper's."""

    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    raw: RawConfig = field(default_factory=RawConfig)
    noisy: NoisyConfig = field(default_factory=NoisyConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    knn: KnnConfig = field(default_factory=KnnConfig)
    adapt: AdaptConfig | None = None
    """Fine-tune the encoder's top layers on noisy and clean EMRs first (extra `lora`); the paper
    keeps it as it is."""
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-3
    start_from_names: bool = False
    """Start each code's query from its names (needs `extractor.attend` beyond "graph")."""
    hierarchy: float = 0.0
    """Share of the names of the code's category, its other ancestors and its children in that."""
    held_back: float = 0.0
    """Share of the clean EMRs kept from stage 3 to choose the best epoch; 0 trains to the end."""
    precision: Precision = "float32"
    """"bfloat16" halves the time of a step where the processor multiplies it natively; "auto" takes
    it there. Weights, losses and predictions stay in float32."""
    patience: int = 10
    """Epochs without a better held-back score before a stage stops; only with `held_back`."""
    seed: int = 0

    def __post_init__(self) -> None:
        epochs = self.raw.epochs, self.noisy.epochs, self.clean.epochs
        if min(epochs) < 0 or self.batch < 1:
            raise ConfigError(
                f"stages need epochs >= 0 and batch >= 1, got {epochs} and {self.batch}"
            )
        scales = self.lr, self.raw.tau, self.noisy.tau, self.clean.tau
        if min(scales) <= 0:
            raise ConfigError(f"stages need lr and every tau above 0, got {scales}")
        noisy, clean = self.noisy, self.clean
        weights = noisy.contrastive, noisy.codes, clean.theta, clean.gamma, clean.delta
        if min(*weights, clean.evidence, self.weight_decay) < 0:
            raise ConfigError(f"stages need loss weights >= 0, got {weights}, {clean.evidence}")
        if not 0.0 <= self.held_back <= 0.5 or self.patience < 1:
            raise ConfigError(
                "stages need held_back in 0 to 0.5 and patience >= 1, "
                f"got {self.held_back} and {self.patience}"
            )
        if noisy.taught < 0 or (noisy.taught and not noisy.codes) or noisy.most_taught < 1:
            raise ConfigError(
                "a teacher needs noisy.taught >= 0, noisy.codes above 0, noisy.most_taught >= 1, "
                f"got {noisy.taught}, {noisy.codes} and {noisy.most_taught}"
            )
        if not 0.0 <= self.hierarchy <= 1.0 or (self.hierarchy and not self.start_from_names):
            raise ConfigError(
                "hierarchy needs a share in 0 to 1, and start_from_names, "
                f"got {self.hierarchy} and {self.start_from_names}"
            )
        if self.start_from_names and self.extractor.attend == "graph":
            raise ConfigError('start_from_names needs extractor.attend "words" or "both"')

    @classmethod
    def paper(cls, *, seed: int = 0) -> StagesConfig:
        """The paper's settings."""
        return cls(seed=seed)

    @classmethod
    def best(cls, *, seed: int = 0) -> StagesConfig:
        """What works best, and why it differs from the paper.

        Weight decay kept the network from fitting its own training EMRs; static embeddings tell
        words apart that look alike in context; without binary cross-entropy in stage 2 nothing
        learns which code is which. Mixed precision halves the time.
        """
        return cls(
            extractor=ExtractorConfig(
                normalise_edges=True, residual=True, attend="words", static=True
            ),
            raw=RawConfig(epochs=10),
            noisy=NoisyConfig(epochs=40, contrastive=0.1, codes=1.0),
            clean=CleanConfig(epochs=40, gamma=0.1, evidence=0.1),
            lr=3e-3,
            weight_decay=0.0,
            start_from_names=True,
            held_back=0.15,
            precision="auto",
            patience=8,
            batch=32,
            seed=seed,
        )

    @classmethod
    def quick(cls, *, seed: int = 0) -> StagesConfig:
        """`best`, smaller: about a minute for a thousand EMRs of 250 words on one core."""
        best = cls.best(seed=seed)
        return dataclasses.replace(
            best,
            extractor=dataclasses.replace(best.extractor, hidden=64, layers=2, attention=64),
            raw=dataclasses.replace(best.raw, epochs=2),
            noisy=dataclasses.replace(best.noisy, epochs=10),
            clean=dataclasses.replace(best.clean, epochs=14),
            patience=6,
        )
