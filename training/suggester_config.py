"""Settings of a suggester: its members, how they are tuned, and what a coder gets to see."""

from __future__ import annotations

from dataclasses import dataclass, field

from label_config.errors import ConfigError
from training.fusion import FusionConfig
from training.lexicon import LexiconConfig
from training.phrase_model import PhraseConfig
from training.similarity import SimilarityConfig
from training.sparse import SparseConfig
from training.stage_config import StagesConfig


@dataclass(frozen=True, slots=True)
class SuggesterConfig:
    """Which members there are and what a coder gets to see."""

    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    lexicon: LexiconConfig = field(default_factory=LexiconConfig)
    phrases: PhraseConfig = field(default_factory=PhraseConfig)
    sparse: SparseConfig = field(default_factory=SparseConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    network: StagesConfig | None = None
    """Settings of the three stages; None leaves the network out."""
    max_suggestions: int = 12
    """Codes per EMR."""
    floor: float = 0.05
    """Codes less probable than this are not shown."""
    similar: int = 3
    """Similar clean cases per EMR."""
    folds: int = 5
    """Parts that the clean EMRs are cut into to tune fusion and threshold."""
    miss: float | None = None
    """Tick so many codes that at most this share of the true ones is missed, on average; None ticks
    where F1 is highest."""
    min_clean: int = 20
    """Clean EMRs needed to tune them; with fewer, members count the same."""
    noisy_rows: int = 1_000
    """Noisy EMRs that the sparse model also reads; each clean EMR takes the place of one."""
    noisy_weight: float = 0.3
    """What a noisy EMR counts there, against 1 for a clean one."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_suggestions < 1 or self.folds < 2 or self.min_clean < 2:
            raise ConfigError(
                "the suggester needed max_suggestions >= 1, folds >= 2 and min_clean >= 2, "
                f"got {self.max_suggestions}, {self.folds} and {self.min_clean}"
            )
        if not 0 <= self.floor < 1 or not 0 < self.noisy_weight <= 1:
            raise ConfigError(
                "the suggester needed floor in 0 to 1 and noisy_weight above 0 up to 1, "
                f"got {self.floor} and {self.noisy_weight}"
            )
        if self.miss is not None and not 0 < self.miss < 1:
            raise ConfigError(f"the promised share miss needed to lie in 0 to 1, got {self.miss}")
        if self.similar < 0 or self.noisy_rows < 0:
            raise ConfigError(
                "the suggester needed similar and noisy_rows of 0 or more, "
                f"got {self.similar} and {self.noisy_rows}"
            )
