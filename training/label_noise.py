"""Codes that are probably not what they should be: found without clean EMRs, and mended.

Every member speaks of EMRs that it has not learned from; fusion, fitted to the given codes, turns
that into p = P(given | text). With the share of true codes that were missed (miss) and of other
codes that were added (add),

    q = P(true | text) = (p - add) / (1 - miss - add)
    P(true | text, not given) = miss q / (miss q + (1 - add) (1 - q))
    P(true | text, given)     = (1 - miss) q / ((1 - miss) q + add (1 - q))

What is then sure to be wrong is mended, and the members learn again.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from label_config.errors import ConfigError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.fusion import Fusion
from training.lexicon import LexiconConfig
from training.out_of_fold import draw_folds, lexicon_scores, sparse_scores, targets
from training.sparse import SparseConfig

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[str, int, int], None]
"""Called with (what is running, done, total)."""
_SUREST = 0.5
"""Share of the given codes' number: as many cells, the most probable, show how many are missed."""
_LEAST_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """How errors are looked for."""

    rounds: int = 3
    """How often the members learn, each time from what the last round has mended; what they say
    from the second round on is averaged."""
    folds: int = 4
    """Parts of the EMRs; members speak of the part that they did not learn from."""
    add_above: float = 0.5
    """A code that was not given is added when it is more probable than this."""
    drop_below: float = 0.2
    """A given code is dropped when it is less probable than this."""
    lexicon: LexiconConfig = field(default_factory=LexiconConfig)
    sparse: SparseConfig = field(default_factory=SparseConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.folds < 2:
            raise ConfigError(
                f"rounds needed 1 or more and folds 2, got {self.rounds} and {self.folds}"
            )
        if not 0 <= self.drop_below < self.add_above <= 1:
            raise ConfigError(
                "needed 0 <= drop_below < add_above <= 1, "
                f"got {self.drop_below} and {self.add_above}"
            )


@dataclass(frozen=True, slots=True)
class FlipRates:
    """How the given codes went wrong."""

    miss: float
    """Share of the true codes that were not given."""
    add: float
    """Share of all other codes that were given."""

    @classmethod
    def estimate(cls, probs_NK: Floats, given_NK: Bools) -> FlipRates:
        """Read both where the text leaves no doubt: what is most probable is true, what is less
        probable than most is not.
        """
        flat, given = probs_NK.ravel(), given_NK.ravel()
        count = max(1, int(_SUREST * given.sum()))
        top = np.argsort(-flat, kind="stable")[:count]
        low = flat <= np.median(flat)
        miss = float(np.clip(1 - given[top].mean(), _LEAST_RATE, 0.9))
        add = float(np.clip(given[low].mean(), _LEAST_RATE, 0.5))
        return cls(miss, min(add, 0.9 * (1 - miss)))

    def true_given_text(self, probs_NK: Floats) -> Floats:
        """P(true | text), the q of the module's docstring, from P(given | text)."""
        return np.clip((probs_NK - self.add) / (1 - self.miss - self.add), 1e-6, 1 - 1e-6)

    def posterior(self, probs_NK: Floats, given_NK: Bools) -> Floats:
        """How probable each code is, now that the text and the given codes are known."""
        q = self.true_given_text(probs_NK)
        missed = self.miss * q / (self.miss * q + (1 - self.add) * (1 - q))
        kept = (1 - self.miss) * q / ((1 - self.miss) * q + self.add * (1 - q))
        return np.where(given_NK, kept, missed)


@dataclass(frozen=True, slots=True)
class Mended:
    """What the given codes look like in the light of the texts."""

    text_NK: Floats
    """P(true | text), 0 to 1, of members that had not seen the EMR."""
    posterior_NK: Floats
    """The same with the given codes known."""
    targets_NK: Bools
    """The given codes with sure errors mended."""
    codings: tuple[Coding, ...]
    """The same as codings; dropped codes lose their evidence."""
    rates: FlipRates


def mend(
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
    *,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    config: NoiseConfig | None = None,
    progress: Progress | None = None,
) -> Mended:
    """Find the errors in `codings`, which belong to `emrs` one by one.

    Raises ConfigError with fewer than two EMRs or without codes.
    """
    config = config or NoiseConfig()
    if len(emrs) < 2 or not codes or len(emrs) != len(codings):
        raise ConfigError(
            "mending needed two EMRs or more with a coding each, and codes; "
            f"got {len(emrs)}, {len(codings)} and {len(codes)}"
        )
    given_NK, texts = targets(codings, codes), [emr.long_text for emr in emrs]
    current_NK, current = given_NK, tuple(codings)
    spoken: list[Floats] = []
    nothing: tuple[list[str], Bools, Floats] = (
        [],
        np.zeros((0, len(codes)), dtype=bool),
        np.zeros(0),
    )
    for number in range(config.rounds):
        if progress is not None:
            progress("looking for errors", number, config.rounds)
        folds_N = draw_folds(len(emrs), config.folds, seed=config.seed + number)
        scores = {
            "lexicon": lexicon_scores(
                emrs, current, folds_N, taxonomy, codes, config=config.lexicon
            ),
            "sparse": sparse_scores(texts, current_NK, folds_N, config=config.sparse, also=nothing),
        }
        spoken = [*spoken[1 if number == 1 else 0 :], _fused(scores, given_NK)]
        probs_NK = np.asarray(np.mean(spoken, axis=0))
        rates = FlipRates.estimate(probs_NK, given_NK)
        posterior_NK = rates.posterior(probs_NK, given_NK)
        current_NK = (given_NK & (posterior_NK >= config.drop_below)) | (
            posterior_NK > config.add_above
        )
        current = tuple(
            _rewritten(coding, row, codes) for coding, row in zip(codings, current_NK, strict=True)
        )
    return Mended(rates.true_given_text(probs_NK), posterior_NK, current_NK, current, rates)


def _fused(scores: dict[str, Floats], given_NK: Bools) -> Floats:
    """P(given | text); the fusion's few weights are learned from all EMRs."""
    return Fusion(tuple(scores)).fit(scores, given_NK).combine(scores)


def _rewritten(coding: Coding, target_K: Bools, codes: Sequence[str]) -> Coding:
    """The coding with the codes of `target_K`; codes outside `codes` stay."""
    now = {code for code, has in zip(codes, target_K, strict=True) if has}
    known = set(codes)
    kept = [code for code in coding.codes if code in now or code not in known]
    added = [code for code in codes if code in now and code not in coding.codes]
    evidence = tuple(span for span in coding.evidence if span.code in kept)
    return replace(coding, codes=(*kept, *added), confidence=(), evidence=evidence)
