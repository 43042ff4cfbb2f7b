"""Structured logging: one line an event, identifiers bound once, nothing personal.

Lines carry ids, counts and reasons of our own. Bodies, documents, URLs and header values are never handed to a logger.
"""

import hashlib
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from worker.clock import unix_nanoseconds

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
        _add_time,
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
        """Write a line, or keep it for the end of `together`."""
        if _held.lines is None:
            self.write(line)
        else:
            _held.lines.append((self, line))

    def write(self, text: str) -> None:
        """Write lines. A log that cannot be written, because its disk is full or nobody reads it, stops nothing."""
        handler = self._handler
        handler.acquire()
        try:
            handler.stream.write(text + handler.terminator)
            handler.stream.flush()
        except (OSError, ValueError):
            return
        finally:
            handler.release()

    debug = info = warning = error = critical = exception = log = msg


class _Held(threading.local):
    """What this thread has logged within `together`."""

    lines: list[tuple[_Lines, str]] | None = None


_held = _Held()

MOST_TOGETHER = 4096
"""Bytes. Processes may share a pipe, and it takes no more of one in one piece."""


@contextmanager
def together() -> Iterator[None]:
    """Write what this thread logs within in a few calls of the system instead of one for each line. For moments only:
    until its end nobody sees the lines, and a process that is killed has not written them."""
    lines = _held.lines = []
    try:
        yield
    finally:
        _held.lines = None
        _write_together(lines)


def _write_together(lines: list[tuple[_Lines, str]]) -> None:
    texts: list[str] = []
    size = 0
    for logger, line in lines:
        length = len(line.encode("utf-8", "replace")) + 1
        if texts and size + length > MOST_TOGETHER:
            logger.write("\n".join(texts))
            texts, size = [], 0
        texts.append(line)
        size += length
    if texts:
        lines[-1][0].write("\n".join(texts))


def _add_time(_logger: object, _method: str, event: EventDict) -> EventDict:
    seconds, rest = divmod(unix_nanoseconds(), 1_000_000_000)
    event["timestamp"] = f"{_second(seconds)}.{rest // 1000:06d}Z"
    return event


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    """Its beginning is what takes a time's text so long, and many lines are of the same one."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _add_logger_name(logger: "_Lines | logging.Logger", _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    event["logger"] = logger.name if record is None else record.name
    return event


_ENCODER = json.JSONEncoder(default=repr, separators=(",", ":"))
_AS_REPR = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def _as_json(_logger: object, _method: str, event: EventDict) -> str:
    try:
        line = orjson.dumps(event, default=repr, option=_AS_REPR)
    except orjson.JSONEncodeError:
        # A lone surrogate, an integer of more than 64 bits, or a key that is no text.
        return _ENCODER.encode(event)
    # In ASCII, whatever the terminal or the collector takes for its encoding.
    return line.decode() if line.isascii() and b"\x7f" not in line else _ENCODER.encode(event)


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
