"""Wrong, vague, missing and extra codes put into true codings, and which they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from label_config.record import Coding
from label_config.taxonomy import Taxonomy
from training.auditor import Kind

SHARES = {"missing": 0.4, "wrong": 0.3, "vague": 0.3}
"""Of the spoilt codes; as in a national survey of 2020 (12, 9 and 9 of 30 %)."""
EXTRA = 0.15
"""Unrelated codes added, per spoilt code."""


@dataclass(frozen=True, slots=True)
class Spoilt:
    """One error put into a coding."""

    emr_id: str
    kind: Kind
    code: str
    """The code given, for a missing one the code left out."""


def spoil(
    codings: Sequence[Coding],
    codes: Sequence[str],
    taxonomy: Taxonomy,
    rate: float,
    seed: int,
) -> tuple[list[Coding], list[Spoilt]]:
    """Codings in which a share `rate` of the codes is missing, wrong or vague, and some are added.

    A wrong code is a sibling, of the set where it holds one, and takes the evidence with it; a
    vague one is the parent. Kinds and their shares are those of `simulator.quality`.
    """
    rng = np.random.default_rng(seed)
    inside, errors = set(codes), list[Spoilt]()
    spoilt: list[Coding] = []
    for coding in codings:
        now: dict[str, str | None] = {}
        for code in coding.codes:
            draw = rng.random()
            if code not in inside or draw >= rate:
                now[code] = code
                continue
            kind = _kind(draw / rate)
            other = _replacement(kind, code, coding.codes, inside, taxonomy, rng)
            if other is None or other in now.values():
                kind, other = "missing", None
            now[code] = other
            errors.append(Spoilt(coding.emr_id, kind, other or code))
        extra = [
            str(rng.choice(list(codes)))
            for code in coding.codes
            if code in inside and rng.random() < EXTRA * rate
        ]
        extra = [
            code for code in dict.fromkeys(extra) if code not in {*coding.codes, *now.values()}
        ]
        errors += [Spoilt(coding.emr_id, "extra", code) for code in extra]
        evidence = tuple(
            replace(span, code=after)
            for span in coding.evidence
            if (after := now.get(span.code)) is not None
        )
        kept = [code for code in now.values() if code is not None]
        spoilt.append(replace(coding, codes=(*kept, *extra), source="clean", evidence=evidence))
    return spoilt, errors


def _kind(draw: float) -> Kind:
    """A kind of error from a number in 0 to 1, by SHARES."""
    if draw < SHARES["missing"]:
        return "missing"
    return "wrong" if draw < SHARES["missing"] + SHARES["wrong"] else "vague"


def _replacement(
    kind: Kind,
    code: str,
    taken: Sequence[str],
    inside: set[str],
    taxonomy: Taxonomy,
    rng: np.random.Generator,
) -> str | None:
    """What stands in place of `code`; None where nothing does."""
    if kind == "missing" or code not in taxonomy:
        return None
    if kind == "vague":
        parent = taxonomy[code].parent
        return None if parent in taken else parent
    siblings = [s for s in taxonomy.siblings(code) if s not in taken]
    own = [s for s in siblings if s in inside]
    choice = own or siblings
    return str(rng.choice(choice)) if choice else None
