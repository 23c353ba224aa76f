"""Suggestions from names, lexicon and phrases alone: what there is when time has run out.

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
LONGEST = 20_000
"""Characters of the longest EMR in which phrases are looked for: they take about 7 ms for a
thousand words, names and lexicon together 3 ms."""


def suggest_quickly(model: Suggester, emrs: Sequence[EMR]) -> list[SuggestionSet]:
    """What the fastest members say, fused; evidence from the lexicon, no similar cases.

    No member is asked that takes a network or weighs every word.
    """
    if not emrs:
        return []
    said = {
        "names": model.members.names.scores(emrs),
        "lexicon": model.members.lexicon.scores(emrs),
    }
    if model.members.phrases is not None:
        short = np.array([sum(len(text) for _, text in emr.texts()) <= LONGEST for emr in emrs])
        said["phrases"] = np.full(said["lexicon"].shape, np.nan)
        asked = [emr for emr, one in zip(emrs, short, strict=True) if one]
        said["phrases"][short] = model.members.phrases.scores(asked)
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
