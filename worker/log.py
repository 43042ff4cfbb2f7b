"""Structured logging: one line an event, identifiers bound once, nothing personal.

Lines carry ids, counts and reasons of our own. Bodies, documents, URLs and header values are never handed to a logger.
"""

import logging
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog
from structlog.typing import Processor

_ROOT = str(Path(__file__).parent.parent)

_QUIET = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "alembic": logging.WARNING,
    "celery": logging.WARNING,
    "kombu": logging.WARNING,
    "amqp": logging.WARNING,
    "waitress": logging.WARNING,
    "waitress.queue": logging.ERROR,
}
"""Libraries whose ordinary chatter hides our lines; httpx's also names URLs, which may carry tokens."""


def configure(level: str = "info", form: str | None = None) -> None:
    """Send all logging of this process to standard error, as `console` or `json` lines; by default as fits the
    terminal."""
    as_console = form == "console" or (form is None and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = structlog.processors.JSONRenderer()
    if as_console:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback)
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    if not as_console:
        final.insert(1, structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))


_plain_traceback = structlog.dev.plain_traceback


def started(summary: Mapping[str, object], warnings: Iterable[str]) -> None:
    """Say which settings this process runs with; `summary` is masked already."""
    log = structlog.get_logger("verisink")
    log.info("settings", **summary)
    for warning in warnings:
        log.warning("settings_incomplete", detail=warning)


def where(error: BaseException) -> str:
    """The error's class, where it was raised, and the lines of ours that it passed. Its message could quote personal
    data, so it is not used."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_ROOT) and "site-packages" not in frame.filename]
    places = [f"{frame.name}:{frame.lineno}" for frame in (frames[-1:] + own[::-1])[:7]]
    return f"{type(error).__name__} at " + " < ".join(dict.fromkeys(places))
