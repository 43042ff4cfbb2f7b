"""What the log says of an error: where it happened, and nothing of what it was about."""

import io
import json
import logging
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import structlog

from worker.clock import utc_now
from worker.domain.strict_json import parse_object
from worker.log import MOST_TOGETHER, configure, together, where
from worker.settings import Settings


def caught(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        return error
    raise AssertionError("nothing was raised")


def deeper(depth):
    return deeper(depth - 1) if depth else json.loads("canary")


def test_where_names_the_place_and_our_own_lines_and_never_the_message():
    found = where(caught(deeper, 1))

    assert found.startswith("JSONDecodeError at raw_decode:")
    places = found.split(" at ")[1].split(" < ")
    assert [place.partition(":")[0] for place in places] == ["raw_decode", "deeper", "caught"], "each line once"
    assert "canary" not in found
    assert "/" not in found


def test_where_leaves_out_the_libraries_between():
    found = where(caught(Settings.model_validate, {"canary": "canary"}))

    assert found.startswith("ValidationError at ")
    assert "canary" not in found
    assert len(found.split(" < ")) == 2


def test_where_of_a_deep_error_is_short():
    assert len(where(caught(deeper, 200)).split(" < ")) <= 7


def test_where_of_our_own_errors():
    assert "parse_object:" in where(caught(parse_object, b"canary"))


def test_where_of_an_error_that_was_never_raised():
    assert where(ValueError("canary")) == "ValueError at "


class Pieces(io.TextIOBase):
    """A standard error that remembers what came in one piece."""

    def __init__(self):
        self.pieces = []
        self.unflushed = ""

    def isatty(self):
        return False

    def write(self, text):
        self.unflushed += text
        return len(text)

    def flush(self):
        if self.unflushed:
            self.pieces.append(self.unflushed)
        self.unflushed = ""

    def lines(self):
        return [json.loads(line) for line in "".join(self.pieces).splitlines()]


@pytest.fixture
def written(monkeypatch):
    pieces = Pieces()
    monkeypatch.setattr("sys.stderr", pieces)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("info", "json")
    yield pieces
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_says_when_who_and_what(written):
    before = utc_now()
    structlog.get_logger("somebody").warning("something", number=1)

    [line] = written.lines()
    moment = line.pop("timestamp")
    assert line == {"event": "something", "level": "warning", "logger": "somebody", "number": 1}
    assert len(moment) == len("2026-01-01T00:00:00.000000Z")
    assert before <= datetime.fromisoformat(moment) <= utc_now()


@dataclass
class Thing:
    """Whatever somebody may log by mistake."""

    inside: object


def test_a_line_can_be_written_whatever_is_in_it(written):
    odd = {"surrogate": "\ud800", "accent": "\u00e9", "large": 1 << 70, "bytes": b"\xff", "map": {1: 2}}
    structlog.get_logger("somebody").info("odd", **odd, thing=Thing(object()), moment=datetime(2026, 1, 1, tzinfo=UTC))
    structlog.get_logger("somebody").info("id", id=uuid.UUID(int=1))

    [first, second] = written.lines()
    assert "".join(written.pieces).isascii()
    assert first["surrogate"] == "\ud800"
    assert first["accent"] == "\u00e9"
    assert first["thing"].startswith("Thing(inside=<object")
    assert second["id"] == str(uuid.UUID(int=1))


def test_lines_that_belong_together_are_written_together_and_never_longer_than_a_pipe_takes(written):
    log = structlog.get_logger("somebody")
    with together():
        for number in range(100):
            log.info("one of many", number=number)
        assert not written.pieces
    log.info("the next")

    assert [line.get("number") for line in written.lines()] == [*range(100), None]
    assert len(written.pieces) < 10
    assert all(piece.endswith("\n") and len(piece) <= MOST_TOGETHER for piece in written.pieces)
    assert os.fpathconf(0, "PC_PIPE_BUF") >= MOST_TOGETHER


def test_a_line_that_is_longer_than_a_pipe_takes_is_written_by_itself(written):
    log = structlog.get_logger("somebody")
    with together():
        for length in (1, 2 * MOST_TOGETHER, 1):
            log.info("some", text="x" * length)

    assert [len(line["text"]) for line in written.lines()] == [1, 2 * MOST_TOGETHER, 1]
    assert len(written.pieces) == 3


def test_what_was_logged_before_an_error_is_written(written):
    def fail():
        with together():
            structlog.get_logger("somebody").info("before")
            deeper(0)

    with pytest.raises(ValueError, match="Expecting value"):
        fail()

    assert [line["event"] for line in written.lines()] == ["before"]
