"""Logs that can be shown to anybody.

Rules of this file:
    * A log line holds what happened and to whom: never a payload, a metric, an update or a key.
      What is not plainly harmless is replaced before it is written.
    * One JSON object a line, appended; the file is made with its first line.
    * An exception is named, never printed with the values it happened on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

REDACTED = "[redacted]"
TEXT_LIMIT = 300
_SECRET = re.compile(
    r"payload|weight|update|gradient|vector|tensor|metric|accuracy|loss|correct|reward|"
    r"key|secret|seed|share|mask|noise|password|token",
    re.IGNORECASE,
)
_LONG_NUMBERS = re.compile(r"[0-9a-fA-F]{48,}|[A-Za-z0-9+/=]{64,}|-----BEGIN.*", re.DOTALL)
_STANDARD = ("event", "level", "timestamp", "logger", "process")


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Replace whatever might be a payload, a metric or a key; a structlog processor."""
    return {name: _harmless(name, value) for name, value in event.items()}


def _harmless(name: str, value: object) -> object:
    if name not in _STANDARD and _SECRET.search(name):
        return REDACTED
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _LONG_NUMBERS.sub(REDACTED, value)[:TEXT_LIMIT]
    if isinstance(value, BaseException):
        return type(value).__name__
    return REDACTED  # bytes, arrays, containers, floats: not needed to tell what happened


def _named_exception(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    info = event.pop("exc_info", None)
    record: logging.LogRecord | None = event.get("_record")
    if record is not None and record.exc_info:
        info, record.exc_info, record.exc_text = record.exc_info, None, None
    if isinstance(info, tuple) and info[0] is not None:
        event["exception"] = info[0].__name__
    return event


@contextmanager
def log_to(path: Path | None, process: str, level: int = logging.INFO) -> Generator[None]:
    """Append this process's log to a file, or to standard error, while inside.

    Args:
        path: Made with the first line, if its folder is there; ``None`` is standard error.
        process: Which process says so.
        level: The least level that is kept of our own lines; of others', warnings.
    """

    def signed(_l: object, _m: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            _named_exception,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            signed,
            redact,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler: logging.Handler = (
        logging.StreamHandler() if path is None else _Quiet(path, delay=True, encoding="utf-8")
    )
    handler.setFormatter(formatter)
    root, ours = logging.getLogger(), logging.getLogger(__name__.partition(".")[0])
    before = ours.level
    root.addHandler(handler)
    ours.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(before)
        handler.close()


class _Quiet(logging.FileHandler):
    """A log that cannot be written ends no run: a full disk is told by what matters more."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, if there is a way."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's own name
        """Say nothing."""
