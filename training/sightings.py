"""How far a string is believed: EMRs where it stood and the coder gave the code, against the rest.

    precision(string, code) = (accepted + m * prior) / (accepted + rejected + m)

A context (denied, family, past, uncertain, in the diagnosis list) is counted apart, with
precision * factor as its prior, if its factor is far from 1. The factor starts as a rule ("denied"
leaves a tenth) and is learned, because coders differ: some code what the record denies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from training.context import CONTEXTS, Context

DOUBT: dict[Context, float] = {
    "affirmed": 1.0,
    "listed": 1.0,
    "uncertain": 0.6,
    "history": 0.5,
    "family": 0.1,
    "negated": 0.1,
}
"""What a context leaves of a string's precision, as a rule."""
_RULE_WEIGHT = 10.0
"""How many sightings the rule is worth against what coders did."""
_POOLED = (0.75, 1.33)
"""Contexts with a factor between these are counted together with plain mentions."""


class Sighting(NamedTuple):
    """One EMR's vote on a string: seen in `context`, and the code given or not."""

    pattern: str
    code: str
    context: Context
    accepted: float
    rejected: float


class Sightings:
    """What EMRs with codings say of strings; an EMR's later vote replaces its earlier one."""

    def __init__(self, *, prior_weight: float) -> None:
        """Start empty. `prior_weight` is m, how many EMRs a prior is worth."""
        self.priors: dict[str, dict[str, float]] = {}
        """String -> code -> belief before any EMR has voted, 0 to 1."""
        self.factors = dict(DOUBT)
        """What each context leaves of a string's precision."""
        self.votes: dict[str, tuple[Sighting, ...]] = {}
        """By emr_id."""
        self._prior_weight = prior_weight
        self._counts: dict[tuple[str, str, Context], list[float]] = {}

    def precision(self, pattern: str, code: str, context: Context) -> float:
        """How often the code is right where the string stands in this context, 0 to 1."""
        m = self._prior_weight
        believed = self.priors.get(pattern, {}).get(code, 0.0)
        accepted, rejected = self._counts.get((pattern, code, "affirmed"), (0.0, 0.0))
        plain = (accepted + m * believed) / (accepted + rejected + m)
        if self._kept_with(context) == "affirmed":
            return plain
        accepted, rejected = self._counts.get((pattern, code, context), (0.0, 0.0))
        prior = min(1.0, plain * self.factors[context])
        return (accepted + m * prior) / (accepted + rejected + m)

    def believe(self, pattern: str, code: str, prior: float) -> None:
        """Note a string for a code; the highest prior stays."""
        by_code = self.priors.setdefault(pattern, {})
        by_code[code] = max(by_code.get(code, 0.0), prior)

    def vote(self, emr_id: str, sightings: Iterable[Sighting]) -> None:
        """Count one EMR's sightings in the place of those it had before."""
        for old in self.votes.pop(emr_id, ()):
            self._add(old, -1.0)
        self.votes[emr_id] = tuple(sightings)
        for new in self.votes[emr_id]:
            self._add(new, 1.0)

    def learn_factors(self) -> None:
        """Compare how often each context was accepted with plain mentions of the same strings."""
        plain: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        votes = [vote for own in self.votes.values() for vote in own]
        for vote in votes:
            if vote.context == "affirmed":
                plain[vote.pattern, vote.code][0] += vote.accepted
                plain[vote.pattern, vote.code][1] += vote.rejected
        seen, expected = dict.fromkeys(CONTEXTS, 0.0), dict.fromkeys(CONTEXTS, 0.0)
        for vote in votes:
            accepted, rejected = plain.get((vote.pattern, vote.code), (0.0, 0.0))
            if accepted + rejected > 0:
                share = accepted / (accepted + rejected)
                seen[vote.context] += vote.accepted
                expected[vote.context] += (vote.accepted + vote.rejected) * share
        for context, doubt in DOUBT.items():
            if context != "affirmed":
                self.factors[context] = (seen[context] + _RULE_WEIGHT * doubt) / (
                    expected[context] + _RULE_WEIGHT
                )
        self._counts.clear()
        for vote in votes:
            self._add(vote, 1.0)

    def _add(self, vote: Sighting, sign: float) -> None:
        key = vote.pattern, vote.code, self._kept_with(vote.context)
        count = self._counts.setdefault(key, [0.0, 0.0])
        count[0] += sign * vote.accepted
        count[1] += sign * vote.rejected

    def _kept_with(self, context: Context) -> Context:
        low, high = _POOLED
        return "affirmed" if low <= self.factors[context] <= high else context


assert set(DOUBT) == set(CONTEXTS)  # noqa: S101  # a context without a doubt could not be scored
