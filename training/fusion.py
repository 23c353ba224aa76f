"""Members' scores to one calibrated probability per code.

    logit p(n, k) = sum_m w_m * s_m(n, k) + w_any * any(n, k) + b + b_k,    all w >= 0
    any(n, k)     = 1 - prod_m (1 - s_m(n, k))

The `any` term lets one sure member suffice. The weights are shared over codes and pulled towards
equal ones, the bias of a code towards 0, so that few clean EMRs are enough. One set of weights is
learned per subset of members, because any of them may be missing for an EMR. Before any clean EMR
exists, members count the same: p = 1 - prod_m (1 - UNPROVEN * s_m). Late members (`training.late`)
come on top of what the others say together.

Shapes: N EMRs, K codes, M members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from label_config.errors import ConfigError
from training.late import Late

Floats = npt.NDArray[np.float64]
UNPROVEN = 0.7
"""Trust in each member before any clean EMR has shown what it is worth."""
_EQUAL, _ANY, _BIAS = 2.0, 5.0, -4.0
"""Where the weights start and are pulled to: of each member, of `any`, and the bias."""


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """How strongly the fused model is pulled towards its prior."""

    pull_weights: float = 1.0
    """Penalty on the distance of a member's weight from an equal share."""
    pull_bias: float = 3.0
    """Penalty on a code's own bias; high means that all codes share one."""
    max_cells: int = 400_000
    """EMR-code pairs to learn from; beyond it negatives are drawn and weighted up."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pull_weights < 0 or self.pull_bias < 0 or self.max_cells < 1:
            raise ConfigError(
                "fusion needed pull_weights, pull_bias >= 0 and max_cells >= 1, "
                f"got {self.pull_weights}, {self.pull_bias} and {self.max_cells}"
            )


@dataclass(frozen=True, slots=True)
class _Fit:
    weights: Floats
    """One per member of the subset, then that of `any`."""
    bias: float
    bias_per_code: Floats


class Fusion:
    """Combines the members named in `members`, and those that are `late`."""

    def __init__(
        self,
        members: Sequence[str],
        *,
        late: Sequence[str] = (),
        config: FusionConfig | None = None,
    ) -> None:
        """Start with equal weights, and deaf to late members."""
        self.members = tuple(members)
        self.late = Late(tuple(late))
        self.config = config or FusionConfig()
        self._fits: dict[tuple[str, ...], _Fit] = {}

    @property
    def fitted(self) -> bool:
        """False while every member counts the same."""
        return bool(self._fits)

    def fit(self, scores: Mapping[str, Floats], targets_NK: npt.NDArray[np.bool_]) -> Fusion:
        """Learn from out-of-fold `scores` (N, K) per member; a NaN row is a silent member.

        Late members are left out, see `fit_late`. Stays at equal weights when there is no positive
        or no negative to learn from.
        """
        target = np.asarray(targets_NK, dtype=bool)
        if not target.any() or target.all():
            return self
        rows, columns, weight = self._cells(target)
        cells = {name: scores[name][rows, columns] for name in self.members}
        for size in range(1, len(self.members) + 1):
            for subset in combinations(self.members, size):
                x = _features([cells[name] for name in subset])
                spoke = np.isfinite(x).all(axis=1)
                y = target[rows, columns]
                if y[spoke].any() and not y[spoke].all():
                    self._fits[subset] = _solve(
                        x[spoke],
                        y[spoke],
                        columns[spoke],
                        weight[spoke],
                        target.shape[1],
                        self.config,
                    )
        return self

    def fit_late(
        self,
        scores: Mapping[str, Floats],
        fused_NK: Floats,
        targets_NK: npt.NDArray[np.bool_],
    ) -> Fusion:
        """Learn what late members add to `fused_NK`, what the others say of these unseen EMRs."""
        pull = self.config.pull_weights
        self.late = Late.fit(self.late.members, scores, fused_NK, targets_NK, pull=pull)
        return self

    def combine(self, scores: Mapping[str, Floats]) -> Floats:
        """Return probabilities (N, K) from the members in `scores`; NaN rows are left out.

        0 where no member spoke at all. Raises ConfigError for a member the fusion does not know.
        """
        unknown = set(scores) - {*self.members, *self.late.members}
        present = [name for name in self.members if name in scores]
        if unknown or not present:
            raise ConfigError(f"fusion needed some of {self.members}, got {sorted(scores)}")
        spoke_NM = np.stack([np.isfinite(scores[name]).all(axis=1) for name in present], axis=1)
        fused_NK = np.zeros(scores[present[0]].shape)
        for pattern in np.unique(spoke_NM, axis=0):
            subset = tuple(n for n, spoke in zip(present, pattern, strict=True) if spoke)
            rows = np.flatnonzero((spoke_NM == pattern).all(axis=1))
            if subset:
                fused_NK[rows] = self._combine({n: scores[n][rows] for n in subset}, subset)
        return self.late.join(fused_NK, scores)

    def weights(self) -> dict[str, float]:
        """What each member moves when it alone is sure: shares that sum to 1."""
        fit = self._fits.get(self.members)
        own = np.ones(len(self.members)) if fit is None else fit.weights[:-1] + fit.weights[-1]
        late = self.late.weights or (0.0,) * len(self.late.members)
        own = np.append(own, late)
        return dict(
            zip((*self.members, *self.late.members), (own / own.sum()).tolist(), strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        fits = [
            {
                "members": list(subset),
                "weights": fit.weights.tolist(),
                "bias": fit.bias,
                "bias_per_code": fit.bias_per_code.tolist(),
            }
            for subset, fit in self._fits.items()
        ]
        return {"members": list(self.members), "fits": fits, "late": self.late.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, config: FusionConfig | None = None) -> Fusion:
        """Read what `to_dict` gave."""
        fusion = cls(values["members"], config=config)
        if "late" in values:
            fusion.late = Late.from_dict(values["late"])
        for fit in values["fits"]:
            fusion._fits[tuple(fit["members"])] = _Fit(
                np.array(fit["weights"]), fit["bias"], np.array(fit["bias_per_code"])
            )
        return fusion

    def _combine(self, scores: Mapping[str, Floats], subset: tuple[str, ...]) -> Floats:
        fit = self._fits.get(subset)
        if fit is None:
            return _any([UNPROVEN * scores[name] for name in subset])
        x = _features([scores[name] for name in subset])
        return _sigmoid(x @ fit.weights + fit.bias + fit.bias_per_code)

    def _cells(
        self, target: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
        """Rows, columns and weights of the EMR-code pairs to learn from: every positive stays."""
        positive, negative = np.flatnonzero(target), np.flatnonzero(~target)
        rate = 1.0
        room = max(self.config.max_cells - len(positive), len(positive))
        if len(negative) > room:
            rng = np.random.default_rng(self.config.seed)
            rate = room / len(negative)
            negative = np.sort(rng.choice(negative, room, replace=False))
        cells = np.concatenate([positive, negative])
        weight = np.concatenate([np.ones(len(positive)), np.full(len(negative), 1 / rate)])
        rows, columns = np.divmod(cells, target.shape[1])
        return rows, columns, weight


def _any(scores: Sequence[Floats]) -> Floats:
    return np.asarray(1.0 - np.prod([1.0 - s for s in scores], axis=0))


def _features(scores: Sequence[Floats]) -> Floats:
    """M arrays (...) to (..., M + 1): the scores and `any`; of one member only the score twice."""
    return np.stack([*scores, _any(scores)], axis=-1)


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


def _solve(
    x: Floats,
    y: npt.NDArray[np.bool_],
    code: npt.NDArray[np.int64],
    weight: Floats,
    n_codes: int,
    config: FusionConfig,
) -> _Fit:
    """Penalised logistic regression; member weights are never negative."""
    F = x.shape[1]
    prior = np.array([_EQUAL] * (F - 1) + [_ANY])

    def loss(theta: Floats) -> tuple[float, Floats]:
        w, bias, own = theta[:F], theta[F], theta[F + 1 :]
        logits = x @ w + bias + own[code]
        error = weight * (_sigmoid(logits) - y)
        value = weight @ (np.logaddexp(0, logits) - y * logits)
        value += config.pull_weights * ((w - prior) ** 2).sum() + config.pull_bias * own @ own
        slope_w = x.T @ error + 2 * config.pull_weights * (w - prior)
        slope_own = np.bincount(code, error, minlength=n_codes) + 2 * config.pull_bias * own
        return float(value), np.concatenate([slope_w, [error.sum()], slope_own])

    start = np.concatenate([prior, [_BIAS], np.zeros(n_codes)])
    bounds = [(0, None)] * F + [(None, None)] * (1 + n_codes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return _Fit(found.x[:F], float(found.x[F]), found.x[F + 1 :])
