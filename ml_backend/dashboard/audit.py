"""The sampler's counts against a recount by hand, from the files alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ml_backend import sampling
from ml_backend.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A count that came out differently."""

    what: str
    sampler: int
    recount: int


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A code that the pool cannot fill."""

    code: str
    title: str
    clean: int
    quota: int
    missing: float
    """EMRs that the pool is expected to lack."""
    listed: int
    """EMRs not yet annotated or excluded whose noisy codes name it."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What was counted twice, and what fits nowhere."""

    counts: dict[str, int]
    """EMRs by what became of them; the first is the pool, the others sum to it."""
    mismatches: tuple[Mismatch, ...]
    outside_pool: tuple[str, ...]
    """`emr_id`s that were coded though the pool does not hold them."""
    outside_set: dict[str, int]
    """Codes that coders gave though the code set does not hold them, most frequent first."""
    chosen_twice: tuple[str, ...]
    """`emr_id`s in more than one batch."""
    unreachable: tuple[Unreachable, ...]


def audit(workspace: Workspace) -> Audit:
    """Recount every code and every EMR with dictionaries and compare."""
    noisy = {coding.emr_id: coding for coding in workspace.read_noisy()}
    coded = {c.emr_id: c for c in workspace.read_clean() if c.emr_id in noisy}
    clean = {emr_id: c for emr_id, c in coded.items() if c.quality == "clean"}
    sent = [emr_id for batch in workspace.batches() for emr_id in batch.emr_ids]
    waiting = {emr_id for emr_id in sent if emr_id in noisy} - set(coded)
    recount = Counter(code for coding in clean.values() for code in coding.codes)
    sampler = sampling.coverage(workspace)
    status = sampler.status()
    mismatches = [
        Mismatch(code, int(status.clean[k]), recount[code])
        for k, code in enumerate(workspace.config.codes)
        if int(status.clean[k]) != recount[code]
    ]
    if int(sampler.pending.size) != len(waiting):
        mismatches.append(Mismatch("EMRs with coders", int(sampler.pending.size), len(waiting)))
    free = [coding for emr_id, coding in noisy.items() if emr_id not in coded]
    listed = Counter(code for coding in free for code in coding.codes)
    known = set(workspace.config.codes)
    return Audit(
        counts={
            "pool": len(noisy),
            "annotated": len(clean),
            "unsure or bad": len(coded) - len(clean),
            "with coders": len(waiting),
            "free": len(noisy) - len(coded) - len(waiting),
        },
        mismatches=tuple(mismatches),
        outside_pool=tuple(c.emr_id for c in workspace.read_clean() if c.emr_id not in noisy),
        outside_set=dict(
            Counter({c: n for c, n in recount.items() if c not in known}).most_common()
        ),
        chosen_twice=tuple(sorted(emr_id for emr_id, n in Counter(sent).items() if n > 1)),
        unreachable=tuple(
            Unreachable(
                code=code,
                title=workspace.taxonomy.title(code),
                clean=recount[code],
                quota=int(status.target[k]),
                missing=round(float(status.missing[k]), 1),
                listed=listed[code],
            )
            for k, code in enumerate(workspace.config.codes)
            if status.state[k] == "unreachable"
        ),
    )
