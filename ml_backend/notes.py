"""A note on what is being sent to Label Studio, so that a killed push can be settled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from label_config.files import read_json, write_json

FILE = "push.json"


class PushNote:
    """Open from before a request leaves until its answer has come; survives the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    @property
    def is_open(self) -> bool:
        """Whether a request left and nobody saw its answer."""
        return self._path.exists()

    @property
    def emr_ids(self) -> list[str]:
        """What the request carried."""
        return [str(emr_id) for emr_id in self._values()["emr_ids"]]

    @property
    def sent_at(self) -> datetime:
        """When it left."""
        return datetime.fromisoformat(self._values()["sent_at"])

    def open(self, emr_ids: Sequence[str]) -> None:
        """Call before the request leaves."""
        write_json(self._path, {"emr_ids": list(emr_ids), "sent_at": datetime.now(UTC).isoformat()})

    def close(self) -> None:
        """Call when its answer has come, or it is settled."""
        self._path.unlink(missing_ok=True)

    def _values(self) -> dict[str, Any]:
        return read_json(self._path, dict)
