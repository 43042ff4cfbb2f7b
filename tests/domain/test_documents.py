"""Secrets go, and a digest sees only what a document means."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.documents import REDACTED, content_digest, may_hold, redact, redact_object


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        (("otp",), {"otp": "123456", "b": 1}, {"otp": REDACTED, "b": 1}),
        (("a", "key"), {"a": {"key": "k"}, "key": "stays"}, {"a": {"key": REDACTED}, "key": "stays"}),
        (("a", "*", "key"), {"a": [{"key": 1}, {"key": 2}, 3]}, {"a": [{"key": REDACTED}, {"key": REDACTED}, 3]}),
        (("*", "key"), {"a": {"key": 1}, "b": {"c": {"key": 1}}}, {"a": {"key": REDACTED}, "b": {"c": {"key": 1}}}),
        (
            ("**", "key"),
            {"key": 1, "a": [{"b": {"key": {"x": 1}}}]},
            {"key": REDACTED, "a": [{"b": {"key": REDACTED}}]},
        ),
        (
            ("**", "config", "key"),
            {"key": 1, "a": {"config": {"key": 2}}, "config": {"deep": {"key": 3}}},
            {"key": 1, "a": {"config": {"key": REDACTED}}, "config": {"deep": {"key": 3}}},
        ),
        (("a", "**", "key"), {"a": {"b": {"key": 1}}, "key": 1}, {"a": {"b": {"key": REDACTED}}, "key": 1}),
    ],
)
def test_secrets_are_replaced_where_the_path_leads(path, document, expected):
    before = repr(document)

    assert redact(document, (path,)) == (expected, True)
    assert repr(document) == before, "the given document is left as it was"


@pytest.mark.parametrize("value", [None, "", REDACTED])
def test_what_holds_no_secret_is_not_called_redacted(value):
    assert redact({"otp": value}, (("**", "otp"),)) == ({"otp": value}, False)


def test_nothing_to_redact():
    assert redact({"a": [1]}, ()) == ({"a": [1]}, False)
    assert redact({"a": [1]}, (("**", "otp"),)) == ({"a": [1]}, False)
    assert redact({"a": [{"otp": 1}]}, (("a", "otp"),)) == ({"a": [{"otp": 1}]}, False), "a list is a step: *"


def test_falsy_secrets_are_secrets():
    assert redact({"otp": 0, "pin": False}, (("otp",), ("pin",))) == ({"otp": REDACTED, "pin": REDACTED}, True)


VOLATILE = (("signature", "dateTime"), ("**", "ttl"))
BASE: dict[str, Any] = {
    "id": "1",
    "status": "done",
    "signature": {"dateTime": "10:00", "by": "x"},
    "file": "https://files.example/a/b.jpg?token=1",
    "list": [{"ttl": 5, "n": 1}],
}


@pytest.mark.parametrize(
    "same",
    [
        dict(reversed(BASE.items())),
        {**BASE, "signature": {"dateTime": "11:30", "by": "x"}},
        {**BASE, "file": "https://files.example/a/b.jpg?token=2&expires=9"},
        {**BASE, "file": "https://files.example/a/b.jpg"},
        {**BASE, "list": [{"n": 1, "ttl": 4}]},
        {**BASE, "list": [{"n": 1, "ttl": {"seconds": 4}}]},
    ],
    ids=["key order", "volatile", "URL query", "no URL query", "volatile inside", "volatile of another shape"],
)
def test_the_digest_ignores_what_means_nothing(same):
    assert content_digest(same, VOLATILE) == content_digest(BASE, VOLATILE)


@pytest.mark.parametrize(
    "other",
    [
        {**BASE, "status": "open"},
        {**BASE, "signature": {"dateTime": "10:00", "by": "y"}},
        {**BASE, "file": "https://files.example/a/c.jpg?token=1"},
        {**BASE, "file": "see https://files.example/a/b.jpg?token=1"},
        {**BASE, "list": []},
        {**BASE, "new": None},
        {**BASE, "id": 1},
    ],
    ids=["value", "beside the volatile part", "URL path", "text with a URL", "list", "new member", "type"],
)
def test_the_digest_sees_everything_else(other):
    assert content_digest(other, VOLATILE) != content_digest(BASE, VOLATILE)


def test_the_order_of_a_list_means_something():
    assert content_digest([1, 2], ()) != content_digest([2, 1], ())


@pytest.mark.parametrize(
    "body",
    [
        b'{"key": 1}',
        b'{"a": {"key":1}}',
        b'{"\\u006bey": 1}',
        b'{"k\\u0065y": 1}',
        b'{"a": "\\u00e9"}',
        b'{"a": "key"}',
    ],
)
def test_what_may_hold_a_secret_is_walked_through(body):
    assert may_hold(body, (("**", "key"),))


@pytest.mark.parametrize("path", [("a", "*"), ("**",), ("a/b",), ('"',), ("\u20ac",)])
def test_a_name_that_can_be_written_in_several_ways_may_be_anywhere(path):
    assert may_hold(b"{}", (path,))


def test_what_holds_no_such_name_is_not():
    assert not may_hold(b'{"a": {"b": "k\\ney"}}', (("**", "key"), ("c",)))


def test_an_object_stays_one():
    assert redact_object({"a": {"otp": "1"}, "b": 2}, (("**", "otp"),)) == ({"a": {"otp": REDACTED}, "b": 2}, True)
    assert redact_object({"a": {"otp": "1"}}, (("*",),)) == ({"a": REDACTED}, True)
    assert redact_object({"b": 2}, (("**", "otp"),)) == ({"b": 2}, False)


def _by_the_book(value: Any, path: tuple[str, ...]) -> Any:
    """Redaction of one path, as the definition of a path says it."""
    if not path:
        return value if value in (None, "", REDACTED) else REDACTED
    head, rest = path[0], path[1:]
    if head == "**":
        value = _by_the_book(value, rest)
        rest = path
    if isinstance(value, dict):
        return {name: _by_the_book(item, rest) if head in ("*", "**", name) else item for name, item in value.items()}
    if isinstance(value, list) and head in ("*", "**"):
        return [_by_the_book(item, rest) for item in value]
    return value


NAMES = st.sampled_from(["a", "b", "c"])
TREES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([0, 1, "x", "", None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
ROUTES = st.lists(st.one_of(NAMES, st.sampled_from(["*", "**"])), max_size=3).flatmap(
    lambda steps: NAMES.map(lambda last: (*steps, last))
)


@given(st.dictionaries(NAMES, TREES), st.lists(ROUTES, max_size=3))
def test_paths_followed_together_lead_where_each_leads_alone(document, paths):
    expected = document
    for path in paths:
        expected = _by_the_book(expected, path)

    assert redact(document, tuple(paths)) == (expected, expected != document)


@given(st.dictionaries(NAMES, TREES), ROUTES)
def test_the_digest_is_blind_where_the_path_leads_and_nowhere_else(document, path):
    redacted = _by_the_book(document, path)

    assert (content_digest(document, (path,)) == content_digest(redacted, (path,))) is True
    if redacted == document:
        return
    assert content_digest(document, ()) != content_digest(redacted, ())


@given(st.dictionaries(NAMES, TREES), ROUTES, st.booleans())
def test_no_secret_is_overlooked(document, path, ensure_ascii):
    found = redact(document, (path,))[1]

    assert may_hold(json.dumps(document, ensure_ascii=ensure_ascii).encode(), (path,)) or not found
