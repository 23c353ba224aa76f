"""CodiEsp as EMRs and codings: clinical cases with ICD-10-CM codes and coders' highlights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from label_config.errors import DataError
from label_config.record import EMR, Coding, EvidenceSpan

Language = Literal["es", "en"]
SECTION = "Case"


def read_cases(folder: Path, language: Language) -> tuple[list[EMR], list[Coding]]:
    """Cases of the train and the dev split, in the file's order.

    Raises DataError for a file that is missing or not of this kind.
    """
    path = folder / f"codiesp_{language}_traindev.jsonl"
    emrs, codings = [], []
    try:
        with path.open(encoding="utf-8") as lines:  # a text may hold other ends of lines
            cases = [json.loads(line) for line in lines]
        for case in cases:
            emr = EMR(case["id"], {SECTION: case["text"]})
            codes = tuple(dict.fromkeys(case["codes"]))
            emrs.append(emr)
            codings.append(Coding(emr.emr_id, codes, "clean", evidence=tuple(_spans(case))))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} must hold cases with id, text, codes and evidence") from None
    return emrs, codings


def frequent_codes(codings: Sequence[Coding], most: int | None = None) -> list[str]:
    """Codes by how many cases have them, ties by spelling."""
    count = Counter(code for coding in codings for code in coding.codes)
    return sorted(count, key=lambda code: (-count[code], code))[:most]


def _spans(case: dict[str, Any]) -> Iterator[EvidenceSpan]:
    """One span per piece; a highlight may have several, and a few are empty."""
    for code, _, pieces in case.get("evidence", ()):
        for start, end in pieces:
            if start < min(end, len(case["text"])):
                yield EvidenceSpan(code, SECTION, start, end)
