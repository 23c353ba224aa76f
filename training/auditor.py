"""Which codes of coded EMRs are probably missing, wrong, vague or extra, each with its proof.

    missing   the text supports a code that was not given
    wrong     it supports a sibling of a given code that it does not support
    vague     it supports a code below a given one
    extra     it does not support a given code, nor anything near it

Nothing clean is needed: `label_noise` judges each EMR by members that learned from the others.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from label_config.errors import ConfigError
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import Taxonomy
from training.highlight import merge_evidence
from training.label_noise import Mended, NoiseConfig, Progress, mend
from training.lexicon import Lexicon
from training.sparse import SparseModel

Floats = npt.NDArray[np.float64]
Kind = Literal["missing", "wrong", "vague", "extra"]
KINDS: tuple[Kind, ...] = ("missing", "wrong", "vague", "extra")
_LIKELY = 0.2
"""A given code is put down to another one only when that is at least so probable."""
_STRONG = 0.5
"""Share of the strongest words' weight that other words need to be shown."""
_MOST_SPANS = 3


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """What is reported."""

    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """How errors are looked for."""
    least: float = 0.3
    """Findings less sure than this are left out."""
    most: int = 1000
    """Findings at most, the surest first."""

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1 or self.most < 1:
            raise ConfigError(
                f"the audit needed least in 0 to 1 and most >= 1, got {self.least}, {self.most}"
            )


@dataclass(frozen=True, slots=True)
class Finding:
    """One code of one EMR that somebody should look at."""

    emr_id: str
    kind: Kind
    code: str
    """The given code in question; for a missing one the code that should be there."""
    score: float
    """0 to 1, high means surely an error."""
    instead: str | None = None
    """The code that the text supports in place of a wrong or vague one."""
    evidence: tuple[EvidenceSpan, ...] = ()
    """Text for the code that should be there; empty for an extra one, which has none."""


def audit(
    emrs: Sequence[EMR],
    codings: Sequence[Coding],
    *,
    taxonomy: Taxonomy,
    codes: Sequence[str] | None = None,
    config: AuditConfig | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """The probable errors, surest first.

    `codings` are matched to `emrs` by emr_id; EMRs without one are left out. `codes` are those
    that may be proposed, by default all that were given. Raises ConfigError with fewer than two
    coded EMRs.
    """
    config = config or AuditConfig()
    by_id = {coding.emr_id: coding for coding in codings}
    pairs = [(emr, by_id[emr.emr_id]) for emr in emrs if emr.emr_id in by_id]
    emrs, codings = [emr for emr, _ in pairs], [coding for _, coding in pairs]
    given = dict.fromkeys(code for coding in codings for code in coding.codes)
    codes = tuple(dict.fromkeys([*(codes or ()), *given]))
    mended = mend(
        emrs, codings, codes=codes, taxonomy=taxonomy, config=config.noise, progress=progress
    )
    found = findings(mended, codings, codes, taxonomy)
    kept = sorted((f for f in found if f.score >= config.least), key=lambda f: -f.score)
    kept = kept[: config.most]
    return _with_evidence(kept, emrs, mended, codes, taxonomy, config)


def findings(
    mended: Mended, codings: Sequence[Coding], codes: Sequence[str], taxonomy: Taxonomy
) -> Iterator[Finding]:
    """Every doubt about every EMR, without evidence and unsorted.

    A code that is not given counts once: as what a vague code should be, else as what a wrong one
    should be, else as missing.
    """
    column = {code: k for k, code in enumerate(codes)}
    below, beside = _relations(codes, taxonomy)
    rows = zip(codings, mended.posterior_NK, mended.text_NK, strict=True)
    for coding, posterior_K, text_K in rows:
        given = [column[code] for code in coding.codes if code in column]
        doubt_K = 1 - posterior_K
        free = np.ones(len(codes), dtype=bool)
        free[given] = False
        replaced: set[int] = set()
        kind: Kind
        for kind, near in (("vague", below), ("wrong", beside)):
            for g in given:
                options = [k for k in near.get(g, ()) if free[k]]
                if g in replaced or not options:
                    continue
                best = max(options, key=lambda k: text_K[k])
                score = float(text_K[best] * (doubt_K[g] if kind == "wrong" else 1.0))
                if score >= _LIKELY:
                    replaced.add(g)
                    free[best] = False
                    yield Finding(coding.emr_id, kind, codes[g], score, codes[best])
        for k in np.flatnonzero(free):
            yield Finding(coding.emr_id, "missing", codes[k], float(text_K[k]))
        for g in given:
            if g not in replaced:
                yield Finding(coding.emr_id, "extra", codes[g], float(doubt_K[g]))


def _relations(
    codes: Sequence[str], taxonomy: Taxonomy
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """For each code the codes below it, and those with the same parent."""
    column = {code: k for k, code in enumerate(codes)}
    below: dict[int, list[int]] = {}
    beside: dict[int, list[int]] = {}
    for code, k in column.items():
        if code in taxonomy:
            for above in taxonomy.ancestors(code):
                if above in column:
                    below.setdefault(column[above], []).append(k)
            beside[k] = [column[other] for other in taxonomy.siblings(code) if other in column]
    return below, beside


def _with_evidence(
    kept: Sequence[Finding],
    emrs: Sequence[EMR],
    mended: Mended,
    codes: Sequence[str],
    taxonomy: Taxonomy,
    config: AuditConfig,
) -> list[Finding]:
    """Show the text for each code that should be there."""
    lexicon = Lexicon.fit(emrs, mended.codings, taxonomy, codes, config=config.noise.lexicon)
    sparse = SparseModel.fit(
        [emr.long_text for emr in emrs], mended.targets_NK, codes, config.noise.sparse
    )
    by_id = {emr.emr_id: emr for emr in emrs}
    shown = []
    for finding in kept:
        if finding.kind == "extra":
            shown.append(finding)
            continue
        code, emr = finding.instead or finding.code, by_id[finding.emr_id]
        spans = [span for span in lexicon.mentions(emr) if span.code == code]
        spans = spans or list(_attributed(sparse, emr, code))
        evidence = tuple(sorted(merge_evidence(emr, spans), key=lambda s: -s.score)[:_MOST_SPANS])
        shown.append(replace(finding, evidence=evidence))
    return shown


def _attributed(sparse: SparseModel, emr: EMR, code: str) -> Iterator[EvidenceSpan]:
    """The words of each section that the sparse model counts for the code."""
    for section, text in emr.sections.items():
        for span in sparse.evidence(text, code):
            if span.score >= _STRONG:
                yield EvidenceSpan(code, section, span.start, span.end, span.score)
