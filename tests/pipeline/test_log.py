"""What the log says of an error: where it happened, and nothing of what it was about."""

import json

from worker.domain.strict_json import parse_object
from worker.log import where
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
