"""Measures a suggester on EMRs that it has not seen, whose true codes are known.

Shapes: N EMRs, K codes of the suggester.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from label_config.record import DIAGNOSIS_SECTION, EMR, Coding, EvidenceSpan
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.taxonomy import Taxonomy
from training.evaluate import evaluate
from training.hierarchy import hierarchy_figures
from training.highlight_figures import (
    HighlightCase,
    elsewhere,
    faithfulness,
    highlight_figures,
)
from training.suggest import Suggester

Progress = Callable[[str, int, int], None]
"""Called with (what is running, done, total)."""


def figures_of(
    model: Suggester,
    emrs: Sequence[EMR],
    gold: Mapping[str, Coding],
    taxonomy: Taxonomy,
    *,
    explained: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge codes at the model's threshold and in order, near misses, and highlights.

    Args:
        model: Codes that it does not know are left out of the count.
        emrs: N EMRs, each with a coding in `gold`.
        gold: emr_id -> true codes. Where they have evidence, highlights are held against it.
        taxonomy: Tells which codes are near.
        explained: How many of the ticked codes to judge for faithfulness: each is predicted six
            times more. 0 leaves it out.
        seed: Draws those codes, and the text by chance that they are compared with.
        progress: For long runs.

    Returns:
        The figures of `evaluate` and `hierarchy_figures`; `highlight_*` with evidence; with
        `explained`, means of `comprehensiveness` and `sufficiency`, and of the same with as much
        other text (`*_by_chance`).
    """
    probs_NK = model.predict(emrs, progress=progress)
    targets_NK = np.array(
        [[code in gold[emr.emr_id].codes for code in model.codes] for emr in emrs]
    )
    figures: dict[str, Any] = evaluate(probs_NK, targets_NK, threshold=model.threshold)
    figures |= hierarchy_figures(probs_NK >= model.threshold, targets_NK, model.codes, taxonomy)
    with_evidence = [emr for emr in emrs if gold[emr.emr_id].evidence]
    if not (explained or with_evidence):
        return figures
    said = _suggested(model, emrs if explained else with_evidence, progress)
    if with_evidence:
        figures |= _highlights(said, with_evidence, gold)
    if explained:
        pairs = [
            (emr, ticked) for emr in emrs for ticked in said[emr.emr_id].ticked() if ticked.evidence
        ]
        figures |= _faithful(model, pairs, explained, seed, progress)
    return figures


def _suggested(
    model: Suggester, emrs: Sequence[EMR], progress: Progress | None
) -> dict[str, SuggestionSet]:
    said = {}
    for done, emr in enumerate(emrs, 1):
        (said[emr.emr_id],) = model.suggest([emr])
        if progress is not None:
            progress("highlighting", done, len(emrs))
    return said


def _highlights(
    said: Mapping[str, SuggestionSet], emrs: Sequence[EMR], gold: Mapping[str, Coding]
) -> dict[str, Any]:
    """Figures over the ticked codes that have true evidence.

    Spans in the diagnosis list count only where the true evidence has some: coders who highlight
    the free text alone do not say that a name is no evidence.
    """
    marked = {span.section for emr in emrs for span in gold[emr.emr_id].evidence}
    skipped = {DIAGNOSIS_SECTION} - marked
    cases = [
        HighlightCase(
            emr, ticked.code, tuple(s for s in ticked.evidence if s.section not in skipped), true
        )
        for emr in emrs
        for ticked in said[emr.emr_id].ticked()
        if (true := _of_code(gold[emr.emr_id].evidence, ticked.code))
    ]
    found = highlight_figures(cases)
    return {
        **{f"highlight_{name}": value for name, value in found.items()},
        "highlights_judged": len(cases),
    }


def _of_code(evidence: Sequence[EvidenceSpan], code: str) -> tuple[EvidenceSpan, ...]:
    return tuple(span for span in evidence if span.code == code)


def _faithful(
    model: Suggester,
    pairs: Sequence[tuple[EMR, Suggestion]],
    most: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    drawn = [pairs[i] for i in rng.permutation(len(pairs))[:most]]
    rows: list[dict[str, float]] = []
    for done, (emr, ticked) in enumerate(drawn, 1):
        column = model.codes.index(ticked.code)
        row = faithfulness(model.predict, emr, column, ticked.evidence)
        other = faithfulness(model.predict, emr, column, elsewhere(emr, ticked.evidence, rng))
        rows.append(row | {f"{name}_by_chance": value for name, value in other.items()})
        if progress is not None:
            progress("explaining", done, len(drawn))
    names = rows[0] if rows else {}
    figures: dict[str, Any] = {name: float(np.mean([row[name] for row in rows])) for name in names}
    return figures | {"codes_explained": len(rows)}
