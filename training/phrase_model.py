"""Which places of coders' phrases speak for a code, judged by counts, rivals and surroundings.

A logistic regression shared by all codes reads what is known of a phrase at its place, so that
rare codes profit from frequent ones; codes with enough places also read the words around
(`surroundings`). An EMR's score for a code joins its phrases:

    score(n, k) = 1 - prod over phrases of (1 - best p of the phrase's places)

Shapes: N EMRs, K codes, R rows (a place with one of its codes), F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from label_config.errors import CheckpointError, ConfigError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import Taxonomy
from training.checkpoint import open_checkpoint, save_checkpoint
from training.phrase_features import FEATURES, Rows, make_rows
from training.phrases import PhraseTable, Reading, read
from training.surroundings import CodeSurroundings, Features, fit_surroundings

Floats = npt.NDArray[np.float64]
KIND = "phrases"
_UNTRAINED = {"logit share of wording": 1.0}
"""Weights while there is nothing to learn them from: the wording's own share is the answer."""
_SUREST = 0.9999
_CONSTANT = 1e-6
"""A feature that spreads less is the same everywhere, but for rounding."""
_SIGNS: dict[str, tuple[float | None, float | None]] = {
    "logit share": (0, None),
    "logit share of wording": (0, None),
}
"""Bounds of the weights whose direction is known."""


@dataclass(frozen=True, slots=True)
class PhraseConfig:
    """How the phrase model learns."""

    folds: int = 5
    """Parts of the EMRs, each counted without itself to learn from."""
    least_places: int = 8
    """Places that stand for a code before it reads the words around them."""
    C: float = 1.0
    """Inverse weight of the penalties."""
    shown: float = 0.2
    """Places less sure than this are no evidence."""

    def __post_init__(self) -> None:
        if self.folds < 2 or self.least_places < 1 or self.C <= 0 or not 0 <= self.shown <= 1:
            raise ConfigError(
                "the phrase model needed folds >= 2, least_places >= 1, C > 0, shown in 0 to 1, "
                f"got {self.folds}, {self.least_places}, {self.C} and {self.shown}"
            )


@dataclass(frozen=True, slots=True)
class _Shared:
    """A linear model over FEATURES."""

    weights_F: Floats
    bias: float

    def logits(self, rows: Rows) -> Floats:
        return np.asarray(rows.x_RF @ self.weights_F + self.bias)


class PhraseModel:
    """Use `fit` or `load`. `learn` changes the counts at once, and with them the next scores."""

    def __init__(
        self,
        table: PhraseTable,
        shared: _Shared,
        own: Mapping[int, CodeSurroundings],
        config: PhraseConfig,
    ) -> None:
        self.codes, self.table, self.config = table.codes, table, config
        self._shared, self._own = shared, dict(own)
        self._last: Reading | None = None

    @classmethod
    def fit(
        cls,
        emrs: Sequence[EMR] | Sequence[Reading],
        codings: Sequence[Coding],
        taxonomy: Taxonomy,
        codes: Sequence[str],
        *,
        config: PhraseConfig | None = None,
        synonyms: Mapping[str, Iterable[str]] | None = None,
        seed: int = 0,
    ) -> PhraseModel:
        """Learn from clean codings, which belong to `emrs` in order."""
        config, readings = config or PhraseConfig(), _read(emrs)
        if len(readings) != len(codings):
            raise ConfigError(
                f"the phrase model needed one coding per EMR, got {len(codings)} "
                f"for {len(readings)}"
            )
        table = PhraseTable.fit(readings, codings, taxonomy, codes, synonyms=synonyms)
        folds_N = np.random.default_rng(seed).permutation(len(readings)) % config.folds
        rows = make_rows(readings, table, codings=codings, folds_N=folds_N)
        shared = _fit_shared(rows, config)
        own = fit_surroundings(
            rows,
            shared.logits(rows),
            Features(rows, readings, table),
            least=config.least_places,
            C=config.C,
        )
        return cls(table, shared, own, config)

    def scores(self, emrs: Sequence[EMR] | Sequence[Reading]) -> Floats:
        """How surely some phrase stands for each code, shape (N, K), 0 where none was found."""
        readings = self._readings(emrs)
        rows, probs_R = self._judge(readings)
        E, K = max(1, len(self.table.code)), len(self.codes)
        keys, at = np.unique(rows.emr_R * E + rows.entry_R, return_inverse=True)
        best = np.zeros(len(keys))
        np.maximum.at(best, at, np.minimum(probs_R, _SUREST))
        code = np.asarray(self.table.code, dtype=np.int64)[keys % E]
        silent_NK = np.zeros((len(readings), K))
        np.add.at(silent_NK, (keys // E, code), np.log1p(-best))
        return np.asarray(1.0 - np.exp(silent_NK))

    def mentions(self, emr: EMR) -> list[EvidenceSpan]:
        """The places that speak for a code; `score` is the probability."""
        (reading,) = self._readings([emr])
        rows, probs_R = self._judge([reading])
        spans = []
        for r in np.flatnonzero(probs_R >= self.config.shown):
            _, at = rows.found[rows.place_R[r]]
            start, end = reading.texts[at.section].span(at.first, at.last)
            code, section = self.codes[rows.code_R[r]], reading.names[at.section]
            spans.append(EvidenceSpan(code, section, start, end, float(probs_R[r])))
        return spans

    def learn(self, emr: EMR, coding: Coding) -> None:
        """Count an EMR that a coder has finished; a second time replaces the first."""
        (reading,) = _read([emr])
        self.table.learn(reading, coding)

    def save(self, folder: Path) -> None:
        """Write the phrases as Parquet, the weights as JSON."""
        config = {
            "codes": list(self.codes),
            "config": asdict(self.config),
            "features": list(FEATURES),
            "weights": self._shared.weights_F.tolist(),
            "bias": self._shared.bias,
            "own": {self.codes[k]: asdict(own) for k, own in self._own.items()},
        }
        save_checkpoint(folder, kind=KIND, config=config, write=self.table.save)

    @classmethod
    def load(cls, folder: Path) -> PhraseModel:
        """Read what `save` wrote. Raises CheckpointError for a missing or foreign folder."""
        settings = open_checkpoint(folder, kind=KIND)
        try:
            if settings["features"] != list(FEATURES):
                raise CheckpointError(f"{folder} was written by another version: train again")
            table = PhraseTable.load(folder, settings["codes"])
            shared = _Shared(np.array(settings["weights"]), settings["bias"])
            column = {code: k for k, code in enumerate(table.codes)}
            own = {column[c]: CodeSurroundings(**values) for c, values in settings["own"].items()}
            return cls(table, shared, own, PhraseConfig(**settings["config"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder} does not fit this version: {error}") from None

    def _readings(self, emrs: Sequence[EMR] | Sequence[Reading]) -> list[Reading]:
        """As `_read`; who asks for an EMR's scores asks for its mentions next: it is read once."""
        last = self._last
        if len(emrs) == 1 and last is not None and last.emr is emrs[0]:
            return [last]
        readings = _read(emrs)
        self._last = readings[-1] if len(readings) == 1 else None
        return readings

    def _judge(self, readings: Sequence[Reading]) -> tuple[Rows, Floats]:
        rows = make_rows(readings, self.table)
        shared_R = self._shared.logits(rows)
        logits_R, features = shared_R.copy(), Features(rows, readings, self.table)
        for code, own in self._own.items():
            at = np.flatnonzero(rows.code_R == code)
            if len(at):
                logits_R[at] = own.logits(shared_R[at], features.of(at))
        return rows, np.asarray(1 / (1 + np.exp(-np.clip(logits_R, -30, 30))))


def _read(emrs: Sequence[EMR] | Sequence[Reading]) -> list[Reading]:
    """Readings stay; EMRs are read."""
    unread = [emr for emr in emrs if isinstance(emr, EMR)]
    return read(unread) if unread else [r for r in emrs if isinstance(r, Reading)]


def _fit_shared(rows: Rows, config: PhraseConfig) -> _Shared:
    """Logistic regression on standardised features, written back as weights of the plain ones.

    A higher share never counts against a code: on few entries the counts without a fold would
    otherwise tell its answers backwards.
    """
    untrained_F = np.array([_UNTRAINED.get(name, 0.0) for name in FEATURES])
    if not rows.true_R.any() or rows.true_R.all():
        return _Shared(untrained_F, 0.0)
    mean_F, spread_F = rows.x_RF.mean(axis=0), rows.x_RF.std(axis=0)
    spread_F = np.where(spread_F > _CONSTANT, spread_F, 1.0)
    x_RF, true_R = (rows.x_RF - mean_F) / spread_F, rows.true_R

    def loss(theta: Floats) -> tuple[float, Floats]:
        weights, bias = theta[:-1], theta[-1]
        logits = x_RF @ weights + bias
        error = 1 / (1 + np.exp(-np.clip(logits, -30, 30))) - true_R
        value = (np.logaddexp(0, logits) - true_R * logits).sum()
        value += weights @ weights / (2 * config.C)
        return float(value), np.append(x_RF.T @ error + weights / config.C, error.sum())

    start = np.append(untrained_F * spread_F, 0.0)
    bounds = [_SIGNS.get(name, (None, None)) for name in FEATURES]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)])
    weights_F = found.x[:-1] / spread_F
    return _Shared(weights_F, float(found.x[-1] - mean_F @ weights_F))
