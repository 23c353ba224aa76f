"""Simulated EMRs as rows of four Parquet tables: emrs, gold, about, errors."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from label_config.files import SCHEMAS
from label_config.record import EMR, Coding
from simulator.quality import SpoiltName

Tables = dict[str, pa.Table]
"""Name of the table -> its rows."""

TABLE_SCHEMAS: dict[str, pa.Schema] = {
    "emrs": SCHEMAS[EMR],
    "gold": SCHEMAS[Coding],
    "about": pa.schema([("emr_id", pa.string()), ("split", pa.string()), ("share", pa.string())]),
    "errors": pa.schema(
        [
            ("emr_id", pa.string()),
            ("position", pa.int32()),
            ("gold_code", pa.string()),
            ("kind", pa.string()),
            ("name_code", pa.string()),
        ]
    ),
}


class Rows:
    """Collects EMRs and turns them into tables."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLE_SCHEMAS}

    def add(
        self, emr: EMR, gold: Coding, errors: list[SpoiltName], *, split: str, share: str
    ) -> None:
        """One EMR with its gold codes, the errors in its names, and where it belongs."""
        rows = self._rows
        rows["emrs"].append(_emr_row(emr))
        rows["gold"].append(_gold_row(gold))
        rows["about"].append({"emr_id": emr.emr_id, "split": split, "share": share})
        rows["errors"].extend(_error_row(error) for error in errors)

    def tables(self) -> Tables:
        """What was added so far."""
        return {
            name: pa.Table.from_pylist(self._rows[name], schema=schema)
            for name, schema in TABLE_SCHEMAS.items()
        }


def _emr_row(emr: EMR) -> dict[str, Any]:
    return {
        "emr_id": emr.emr_id,
        "patient_id": emr.patient_id,
        "sex": emr.sex,
        "age": emr.age,
        "sections": [{"name": name, "text": text} for name, text in emr.sections.items()],
        "diagnoses": [{"name": d.name, "code": d.code} for d in emr.diagnoses],
    }


def _gold_row(gold: Coding) -> dict[str, Any]:
    evidence = [
        {
            "code": span.code,
            "section": span.section,
            "start": span.start,
            "end": span.end,
            "score": span.score,
        }
        for span in gold.evidence
    ]
    return {
        "emr_id": gold.emr_id,
        "source": gold.source,
        "codes": list(gold.codes),
        "confidence": [],
        "evidence": evidence,
        "coder": None,
        "seconds": None,
        "quality": gold.quality,
        "note": gold.note,
        "suggested": [],
    }


def _error_row(error: SpoiltName) -> dict[str, Any]:
    return {name: getattr(error, name) for name in TABLE_SCHEMAS["errors"].names}
