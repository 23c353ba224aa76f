"""Agreement on EMRs that two or more coders coded, from every annotation in Label Studio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from label_config.annotation import read_annotation
from label_config.errors import DataError
from label_config.files import write_json
from label_config.record import Coding
from ml_backend.dashboard.figures import AGREEMENT_FILE
from ml_backend.workspace import Workspace
from sampler.audit import agreement, disagreements


@dataclass(frozen=True, slots=True)
class CodeAgreement:
    """How far coders agree on one code; None where it cannot be formed."""

    code: str
    uses: int
    alpha: float | None
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Dispute:
    """A code that some coders of one EMR gave and others did not."""

    emr_id: str
    code: str
    given_by: tuple[str, ...]
    not_given_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """What `agreement.json` holds."""

    at: str
    annotations: int
    shared: int
    """EMRs that two or more coders coded."""
    alpha: float | None
    codes: tuple[CodeAgreement, ...]
    """Codes used on shared EMRs, least agreed first."""
    disputes: tuple[Dispute, ...]
    """Of EMRs without a starred annotation, which settles them."""


def measure(
    workspace: Workspace, tasks: Iterable[Mapping[str, Any]], *, now: datetime | None = None
) -> AgreementReport:
    """Measure, and keep the report for the lead's page. `tasks` come with their annotations."""
    codings, settled = read_codings(tasks)
    report = agreement_report(codings, workspace.config.codes, settled=settled, now=now)
    write_json(workspace.folder / AGREEMENT_FILE, asdict(report))
    return report


def read_codings(tasks: Iterable[Mapping[str, Any]]) -> tuple[list[Coding], set[str]]:
    """Each coder's last usable annotation of each EMR, and the EMRs that a star settles.

    Skipped and broken ones are left out, and so is a starred one where two others remain: its
    maker has seen them.
    """
    latest: dict[str, dict[str, tuple[str, Coding]]] = {}
    starred: dict[str, str] = {}
    for task in tasks:
        for annotation in task.get("annotations") or ():
            try:
                coding = read_annotation(task, annotation)
            except DataError:
                continue  # `clinicoco pull` reports it
            if coding.quality != "clean" or coding.coder is None:
                continue
            by_coder = latest.setdefault(coding.emr_id, {})
            changed = str(annotation.get("updated_at") or "")
            if coding.coder not in by_coder or changed >= by_coder[coding.coder][0]:
                by_coder[coding.coder] = changed, coding
            if annotation.get("ground_truth") is True:
                starred[coding.emr_id] = coding.coder
    for emr_id, coder in starred.items():
        if len(latest[emr_id]) > 2:
            latest[emr_id].pop(coder, None)
    return [coding for by_coder in latest.values() for _, coding in by_coder.values()], set(starred)


def agreement_report(
    codings: Sequence[Coding],
    codes: Sequence[str],
    *,
    settled: Set[str] = frozenset(),
    now: datetime | None = None,
) -> AgreementReport:
    """Krippendorff's alpha over all codes and each, and every disputed code.

    Codes outside `codes` are not compared; EMRs in `settled` have no disputes.
    """
    number = {code: k for k, code in enumerate(codes)}
    ids = sorted({coding.emr_id for coding in codings})
    row = {emr_id: n for n, emr_id in enumerate(ids)}
    arguments = (
        [row[coding.emr_id] for coding in codings],
        np.array([str(coding.coder) for coding in codings]),
        [[number[code] for code in coding.codes if code in number] for coding in codings],
    )
    found = agreement(*arguments, n_codes=len(codes))
    used = [k for k in range(len(codes)) if found.uses_per_code[k] > 0]
    rows = [
        CodeAgreement(
            code=codes[k],
            uses=int(found.uses_per_code[k]),
            alpha=_finite(found.alpha_per_code[k]),
            agreement=_finite(found.agreement_per_code[k]),
        )
        for k in used
    ]
    return AgreementReport(
        at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        annotations=len(codings),
        shared=len(found.shared),
        alpha=_finite(found.alpha),
        codes=tuple(sorted(rows, key=lambda r: (_last(r.agreement), -r.uses, r.code))),
        disputes=tuple(
            Dispute(ids[d.row], codes[d.code], d.given_by, d.not_given_by)
            for d in disagreements(*arguments, n_codes=len(codes))
            if ids[d.row] not in settled
        ),
    )


def _finite(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


def _last(value: float | None) -> float:
    return 2.0 if value is None else value
