"""Suggestions from diagnosis names and the lexicon alone: what there is when time has run out.

Shapes: N EMRs, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from label_config.record import EMR
from label_config.suggestion import Suggestion, SuggestionSet
from training.highlight import merge_evidence
from training.suggest import Suggester

Floats = npt.NDArray[np.float64]


def suggest_quickly(model: Suggester, emrs: Sequence[EMR]) -> list[SuggestionSet]:
    """What the two fastest members say, fused; evidence from the lexicon, no similar cases.

    No member that takes a network or the whole text's words is asked.
    """
    if not emrs:
        return []
    said = {
        "names": model.members.names.scores(emrs),
        "lexicon": model.members.lexicon.scores(emrs),
    }
    fused_NK = model.fusion.combine(said)
    return [
        SuggestionSet(
            emr.emr_id,
            _suggestions(model, emr, fused_NK[n], {name: s[n] for name, s in said.items()}),
            model_version=model.version,
            threshold=model.threshold,
        )
        for n, emr in enumerate(emrs)
    ]


def _suggestions(
    model: Suggester, emr: EMR, fused_K: Floats, said: dict[str, Floats]
) -> tuple[Suggestion, ...]:
    floor = model.config.floor
    order = np.argsort(-fused_K, kind="stable")[: model.config.max_suggestions]
    mentions = model.members.lexicon.mentions(emr)
    return tuple(
        Suggestion(
            code=model.codes[k],
            confidence=float(fused_K[k]),
            members={name: float(s[k]) for name, s in said.items() if s[k] >= floor},
            evidence=merge_evidence(emr, [m for m in mentions if m.code == model.codes[k]]),
        )
        for k in map(int, order)
        if fused_K[k] >= floor
    )
