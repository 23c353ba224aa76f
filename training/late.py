"""Members heard on few clean EMRs: what they add to the others' fused probability, if anything.

    logit p(n, k) = logit q(n, k) + sum_l w_l * (s_l(n, k) - mean s_l),    all w >= 0

q is what the other members say together of an EMR that they have not seen. The network is trained
anew for such an opinion, so it is heard on one part of the clean EMRs alone: too few to learn the
whole fusion from, enough for one weight each. These are pulled to 0, and there is no bias: a member
that adds nothing changes nothing, nor does it move what the threshold was set on.

Shapes: N EMRs, K codes, L late members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_NEAR = 1e-6
"""Probabilities are kept this far from 0 and 1."""


@dataclass(frozen=True, slots=True)
class Late:
    """The late members and what each moves; without weights they are not listened to."""

    members: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    """Of what each said where it was heard."""

    @classmethod
    def fit(
        cls,
        members: Sequence[str],
        scores: Mapping[str, Floats],
        fused_NK: Floats,
        targets_NK: Bools,
        *,
        pull: float,
    ) -> Late:
        """Learn on the EMRs where all of them spoke; `fused_NK` must be of unseen EMRs."""
        spoke_N = heard(members, scores)
        target = targets_NK[spoke_N].ravel()
        if not target.any() or target.all():
            return cls(tuple(members))
        x = np.stack([scores[name][spoke_N].ravel() for name in members], axis=-1)
        means = x.mean(axis=0)
        x, given = x - means, _logit(fused_NK[spoke_N]).ravel()

        def loss(theta: Floats) -> tuple[float, Floats]:
            logits = given + x @ theta
            value = (np.logaddexp(0, logits) - target * logits).sum() + pull * theta @ theta
            return float(value), x.T @ (expit(logits) - target) + 2 * pull * theta

        start, bounds = np.zeros(len(members)), [(0, None)] * len(members)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
        return cls(tuple(members), tuple(found.x.tolist()), tuple(means.tolist()))

    def join(self, fused_NK: Floats, scores: Mapping[str, Floats]) -> Floats:
        """Add what they say where all of them speak; elsewhere `fused_NK` stays as it is."""
        if not self.weights or not set(self.members) <= set(scores):
            return fused_NK
        joined_NK, spoke_N = fused_NK.copy(), heard(self.members, scores)
        moved = sum(
            weight * (scores[name][spoke_N] - mean)
            for name, weight, mean in zip(self.members, self.weights, self.means, strict=True)
        )
        joined_NK[spoke_N] = expit(_logit(fused_NK[spoke_N]) + moved)
        return joined_NK

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "members": list(self.members),
            "weights": list(self.weights),
            "means": list(self.means),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Late:
        """Read what `to_dict` gave."""
        return cls(tuple(values["members"]), tuple(values["weights"]), tuple(values["means"]))


def heard(members: Sequence[str], scores: Mapping[str, Floats]) -> Bools:
    """The EMRs of which all of these members say something, shape (N,)."""
    spoke = [np.isfinite(scores[name]).all(axis=1) for name in members]
    return np.asarray(np.all(spoke, axis=0))


def _logit(probs_NK: Floats) -> Floats:
    return np.asarray(logit(np.clip(probs_NK, _NEAR, 1 - _NEAR)))
