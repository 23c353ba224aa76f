"""Which code a name means, or none: a conditional logit over the candidate codes.

    p(code | name) = exp(w . f(name, code)) / (exp(none) + sum_c exp(w . f(name, c)))

Learned on names whose code is known; the weights are pulled towards a prior that was measured on
phrases of the ICD-10-CM alphabetic index, so that few names are enough.

Shapes: N names, C candidate codes per name, F features, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
PRIOR = {
    "encoder": 7.0,
    "characters": 5.0,
    "all names": 5.0,
    "upper levels": 3.0,
    "same text": 1.0,
    "unspecified": 0.0,
    "other": 0.0,
    "parent": 0.0,
    "pool": 0.5,
}
"""Feature to weight; see `training.name_features` for what each means."""
NONE = 8.0
"""What a code must outbid to be taken for the meaning."""
_ROUNDS = 10
_UNSEEN = 0.5
"""How often each code is taken to stand in the pool before it is read."""


@dataclass(frozen=True, slots=True)
class Ranker:
    """The weights, in the order of PRIOR, and the logit of "no code"."""

    weights: tuple[float, ...] = tuple(PRIOR.values())
    none: float = NONE

    @classmethod
    def fit(cls, features_NCF: Floats, right_NC: Bools, *, pull: float = 1.0) -> Ranker:
        """Learn from candidates of which some are right; a row without one means "no code".

        `pull` is the penalty on the distance to the prior.
        """
        prior = np.array([*PRIOR.values(), NONE])
        none_N1 = ~right_NC.any(axis=1, keepdims=True)
        allowed = np.concatenate([right_NC, none_N1], axis=1)

        def loss(theta: Floats) -> tuple[float, Floats]:
            logits = _logits(features_NCF, theta[:-1], theta[-1])
            whole_N = logsumexp(logits, axis=1)
            among = np.where(allowed, logits, -np.inf)
            good_N = logsumexp(among, axis=1)
            error = softmax(logits, axis=1) - softmax(among, axis=1)
            slope = np.append(
                np.einsum("nc,ncf->f", error[:, :-1], features_NCF), error[:, -1].sum()
            )
            away = theta - prior
            value = float((whole_N - good_N).sum() + pull * away @ away)
            return value, slope + 2 * pull * away

        if not len(features_NCF):
            return cls()
        found = minimize(loss, prior, jac=True, method="L-BFGS-B").x
        return cls(tuple(float(w) for w in found[:-1]), float(found[-1]))

    def probs(self, features_NCF: Floats) -> Floats:
        """The chance of each candidate and, last, of "no code", shape (N, C + 1)."""
        return np.asarray(softmax(_logits(features_NCF, np.array(self.weights), self.none), axis=1))

    def code_prior(self, features_NCF: Floats, codes_NC: npt.NDArray[np.int64], K: int) -> Floats:
        """Log of how common each code is among names of unknown code, 0 for an average one, (K,).

        Expectation-maximisation: what the sure names mean is likelier for the unsure ones too.
        """
        log_K = np.zeros(K)
        features = features_NCF.copy()
        for _ in range(_ROUNDS if len(features) else 0):
            features[..., -1] = log_K[codes_NC]
            sums_K = np.bincount(codes_NC.ravel(), self.probs(features)[:, :-1].ravel(), K)
            share_K = (sums_K + _UNSEEN) / (sums_K.sum() + _UNSEEN * K)
            log_K = np.log(share_K * K)
        return log_K

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"weights": list(self.weights), "none": self.none}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ranker:
        """Read what `to_dict` gave."""
        return cls(tuple(values["weights"]), values["none"])


def _logits(features_NCF: Floats, weights_F: Floats, none: float) -> Floats:
    scores_NC = features_NCF @ weights_F
    return np.concatenate([scores_NC, np.full((len(scores_NC), 1), none)], axis=1)
