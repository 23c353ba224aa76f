"""Simulated coder: reads the task as Label Studio gives it, corrects the suggestions, highlights.

The decision (which codes, which evidence, how long) is kept apart from the result's form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from label_config.errors import ConfigError, DataError
from label_config.record import EMR, Coding, EvidenceSpan, Quality
from label_config.task import build_result, candidate_codes, read_emr
from label_config.taxonomy import Taxonomy


@dataclass(frozen=True)
class CoderProfile:
    """How good and how fast one coder is."""

    name: str
    omits: float = 0.0
    """Share of gold codes that the coder does not enter."""
    adds: float = 0.0
    """Codes added that the record does not support, per gold code."""
    confuses: float = 0.0
    """Share of gold codes entered as a sibling."""
    highlights: float = 0.8
    """Share of entered codes for which the coder marks evidence."""
    unsure: float = 0.03
    """Share of EMRs marked as unsure."""
    pace: float = 1.0
    """Seconds relative to the usual coder's."""

    def __post_init__(self) -> None:
        for key in ("omits", "adds", "confuses", "highlights", "unsure"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ConfigError(f"{key} must lie in 0 to 1, got {getattr(self, key)}")
        if self.pace <= 0:
            raise ConfigError(f"pace must be above 0, got {self.pace}")


PROFILES: dict[str, CoderProfile] = {
    "perfect": CoderProfile("perfect", highlights=1.0, unsure=0.0),
    "careful": CoderProfile("careful", omits=0.03, adds=0.02, confuses=0.01, pace=1.2),
    "omits18": CoderProfile("omits18", omits=0.18, adds=0.02, confuses=0.01, pace=0.8),
    "adds15": CoderProfile("adds15", omits=0.04, adds=0.15, confuses=0.01),
}

SECONDS_TO_OPEN = 15.0
WORDS_PER_SECOND = 8.0
"""Skimming: coders do not read every word."""
SECONDS_PER_CANDIDATE = 1.5
SECONDS_PER_REMOVAL = 5.0
SECONDS_PER_ADDITION = 18.0
"""Searching the code tree is what takes longest."""
SECONDS_PER_HIGHLIGHT = 4.0


@dataclass(frozen=True, slots=True)
class CoderDecision:
    """What the coder settles on for one EMR."""

    codes: tuple[str, ...]
    """The principal diagnosis first."""
    evidence: tuple[EvidenceSpan, ...]
    seconds: float
    quality: Quality


class SimulatedCoder:
    """A coder with a fixed error profile; the same EMR always gets the same answer."""

    def __init__(
        self,
        profile: CoderProfile | str = "careful",
        seed: int = 0,
        *,
        taxonomy: Taxonomy | None = None,
    ) -> None:
        """`taxonomy` supplies the siblings that are confused and the paths of added codes.

        Raises ConfigError for an unknown profile.
        """
        if isinstance(profile, str):
            if profile not in PROFILES:
                raise ConfigError(f"profile must be one of {sorted(PROFILES)}, got {profile!r}")
            profile = PROFILES[profile]
        self.profile = profile
        self.seed = seed
        self.taxonomy = taxonomy

    def annotate(
        self, task: Mapping[str, Any], gold: Coding, emr: EMR | None = None
    ) -> dict[str, Any]:
        """The annotation {result, lead_time, was_cancelled} that this coder submits for a task.

        `emr` is read from the task if not given. Raises DataError when gold is of another EMR.
        """
        emr = emr or read_emr(task)
        if gold.emr_id != emr.emr_id:
            raise DataError(f"the task shows EMR {emr.emr_id}, the gold codes are of {gold.emr_id}")
        listed = candidate_codes(task)
        decision = self.decide(ticked_codes(task), gold, emr, listed=listed)
        result = build_result(
            emr,
            decision.codes,
            decision.evidence,
            candidates=listed,
            principal=decision.codes[0] if decision.codes else None,
            quality=decision.quality,
            taxonomy=self.taxonomy,
        )
        return {"result": result, "lead_time": decision.seconds, "was_cancelled": False}

    def decide(
        self,
        suggested: Sequence[str],
        gold: Coding,
        emr: EMR,
        *,
        listed: Sequence[str] = (),
    ) -> CoderDecision:
        """Codes, evidence and time for an EMR with these codes ticked and these listed."""
        rng = Random(f"{self.seed}/{self.profile.name}/{gold.emr_id}")
        codes = self._codes(gold, (*suggested, *listed), rng)
        evidence = tuple(
            _strongest(gold, code)
            for code in codes
            if rng.random() < self.profile.highlights and code in gold.codes and _spans(gold, code)
        )
        quality: Quality = "unsure" if rng.random() < self.profile.unsure else "clean"
        seconds = self._seconds(emr, suggested, listed, codes, len(evidence), rng)
        return CoderDecision(codes, evidence, seconds, quality)

    def _codes(self, gold: Coding, seen: Sequence[str], rng: Random) -> tuple[str, ...]:
        chosen: list[str] = []
        for code in gold.codes:
            drawn = rng.random()
            if drawn < self.profile.omits:
                continue
            if drawn < self.profile.omits + self.profile.confuses and self.taxonomy is not None:
                siblings = [s for s in self.taxonomy.siblings(code) if self.taxonomy.is_leaf(s)]
                code = rng.choice(siblings) if siblings else code
            chosen.append(code)
        wrong = [code for code in dict.fromkeys(seen) if code not in gold.codes]
        for _ in gold.codes:
            if rng.random() < self.profile.adds:
                chosen.append(self._unsupported(wrong, [*chosen, *gold.codes], rng))
        return tuple(dict.fromkeys(code for code in chosen if code))

    def _unsupported(self, wrong: list[str], chosen: list[str], rng: Random) -> str:
        """A code to add without support: a suggestion believed, else one near a right code."""
        left = [code for code in wrong if code not in chosen]
        if left:
            return rng.choice(left)
        if self.taxonomy is None:
            return ""
        for code in chosen:
            for near in (self.taxonomy.category(code), *self.taxonomy.siblings(code)):
                leaves = [c for c in (near, *self.taxonomy.children(near)) if c not in chosen]
                leaves = [c for c in leaves if self.taxonomy.is_leaf(c)]
                if leaves:
                    return rng.choice(leaves)
        return ""

    def _seconds(
        self,
        emr: EMR,
        suggested: Sequence[str],
        listed: Sequence[str],
        codes: Sequence[str],
        highlights: int,
        rng: Random,
    ) -> float:
        words = len(emr.long_text.split())
        removed = len(set(suggested) - set(codes))
        added = len(set(codes) - set(suggested))
        searched = len(set(codes) - set(suggested) - set(listed))
        seconds = (
            SECONDS_TO_OPEN
            + words / WORDS_PER_SECOND
            + SECONDS_PER_CANDIDATE * max(len(listed), len(suggested))
            + SECONDS_PER_REMOVAL * (removed + added - searched)
            + SECONDS_PER_ADDITION * searched
            + SECONDS_PER_HIGHLIGHT * highlights
        )
        return round(seconds * self.profile.pace * rng.lognormvariate(0.0, 0.25), 1)


def ticked_codes(task: Mapping[str, Any]) -> list[str]:
    """The codes that the task's first prediction ticks, in its order."""
    predictions = task.get("predictions") or []
    result = predictions[0].get("result", []) if predictions else []
    codes: list[str] = []
    for item in result:
        value = item.get("value", {})
        if item.get("from_name") == "codes":
            codes += value.get("choices", [])
        elif item.get("from_name") == "other":
            codes += [path[-1] for path in value.get("taxonomy", []) if path]
    return list(dict.fromkeys(codes))


def _spans(gold: Coding, code: str) -> list[EvidenceSpan]:
    return [span for span in gold.evidence if span.code == code]


def _strongest(gold: Coding, code: str) -> EvidenceSpan:
    return max(_spans(gold, code), key=lambda span: span.score)
