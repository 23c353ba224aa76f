"""One JSON object per log line; what a request or a record said never gets into one."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

OURS = ("ml_backend", "clinicoco", "training", "label_config", "sampler", "simulator")


class JsonFormatter(logging.Formatter):
    """Time, level, logger and message; of an exception its type and place.

    Other libraries' warnings may quote what they were sent: of those only the fixed words stay.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"at": at, "level": record.levelname, "from": record.name}
        trusted = record.name.startswith(OURS) or record.levelno < logging.WARNING
        said = record.getMessage() if trusted else str(record.msg)
        fields = getattr(record, "fields", None)
        line |= fields if isinstance(fields, dict) else {"message": said}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = place_of(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def place_of(error: BaseException) -> str:
    """The type of an exception and where it was raised, without its message."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "?"
    return f"{type(error).__name__} at {where}"


def log_json(level: int = logging.INFO) -> None:
    """Let every logger of this process write such lines to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
