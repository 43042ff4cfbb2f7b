"""Structured logging: one line an event, identifiers bound once, nothing personal.

Lines carry ids, counts and reasons of our own. Bodies, documents, URLs and header values are never handed to a logger.
"""

import hashlib
import json
import logging
import sys
import traceback
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

_ROOT = str(Path(__file__).parent.parent)

_QUIET = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "alembic": logging.WARNING,
    "celery": logging.WARNING,
    "kombu": logging.WARNING,
    "amqp": logging.WARNING,
    "asyncio": logging.WARNING,
}
"""Libraries whose ordinary chatter hides our lines; httpx's also names URLs, which may carry tokens."""


def configure(level: str = "info", form: str | None = None) -> None:
    """Send all logging of this process to standard error, as `console` or `json` lines; by default as fits the
    terminal."""
    as_console = form == "console" or (form is None and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Processor] = [structlog.processors.format_exc_info, _as_json]
    if as_console:
        final = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    # Our own lines do not pass through the standard library's logging, which takes as long again as making them.
    structlog.configure(
        processors=[*shared, *final],
        logger_factory=partial(_Lines, handler),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))


class _Lines:
    """Writes lines where a handler of the standard library's logging writes its own, and never within one of them."""

    def __init__(self, handler: "logging.StreamHandler[TextIO]", name: str = "") -> None:
        self._handler = handler
        self.name = name

    def msg(self, line: str) -> None:
        """Write a line. A log that cannot be written, because its disk is full or nobody reads it, stops nothing."""
        handler = self._handler
        handler.acquire()
        try:
            handler.stream.write(line + handler.terminator)
            handler.stream.flush()
        except (OSError, ValueError):
            return
        finally:
            handler.release()

    debug = info = warning = error = critical = exception = log = msg


def _add_logger_name(logger: "_Lines | logging.Logger", _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    event["logger"] = logger.name if record is None else record.name
    return event


_ENCODER = json.JSONEncoder(default=repr)


def _as_json(_logger: object, _method: str, event: EventDict) -> str:
    return _ENCODER.encode(event)


_plain_traceback = structlog.dev.plain_traceback


def started(summary: Mapping[str, object], warnings: Iterable[str]) -> None:
    """Say which settings this process runs with; `summary` is masked already."""
    log = structlog.get_logger("verisink")
    log.info("settings", **summary)
    for warning in warnings:
        log.warning("settings_incomplete", detail=warning)


def trail(source: str, subject: str) -> str:
    """What joins all lines about one resource: a digest of its source, kind and external id. The id itself leads to a
    person, and stays out of the log."""
    return hashlib.blake2b(f"{source}/{subject}".encode(), digest_size=8).hexdigest()


def where(error: BaseException) -> str:
    """The error's class, where it was raised, and the lines of ours that it passed. Its message could quote personal
    data, so it is not used."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_ROOT) and "site-packages" not in frame.filename]
    places = [f"{frame.name}:{frame.lineno}" for frame in (frames[-1:] + own[::-1])[:7]]
    return f"{type(error).__name__} at " + " < ".join(dict.fromkeys(places))
