"""Lines of JSON for whoever collects a server's log: one object a line, of named fields alone.

What callers and models say is never in them, nor is any key: only fields that are listed here, and of
an exception its class and where it was raised, not its words.
"""

import logging
import re
import traceback
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

FIELDS = (
    "request_id",
    "trace_id",
    "span_id",
    "call_id",
    "job_id",
    "key_id",
    "method",
    "route",
    "status",
    "duration_ms",
)
"""What a record may carry as `extra=`; anything else stays out."""
_MESSAGE_CHARACTERS = 500
_FRAMES = 12
_SECRETS = re.compile(
    r"(?i)\b(?:tm|sk|pk|xox[abp]|gh[pousr]|AIza)[-_A-Za-z0-9]{8,}|\b(?:bearer|basic)\s+\S+"
)


class Lines(logging.Formatter):
    """A formatter for `logging`: `handler.setFormatter(Lines())`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON, in UTC."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _SECRETS.sub("[key]", record.getMessage())[:_MESSAGE_CHARACTERS],
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                line[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])[-_FRAMES:]
            line["raised_at"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames
            ]
        return to_json(line, fallback=str, inf_nan_mode="null").decode(errors="replace")
