"""Whatever comes in with a good signature is answered with 200 and kept, byte for byte."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.door import EVENTS, GOOD_IDS, PROVIDERS, Door, migrate, opened
from tests.support.services import Postgres
from web.simulator.credentials import Credentials

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One database of each kind for all examples."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('door') / 'verisink.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    url = server.create_database()
    yield url
    server.drop_database(url)


@pytest.fixture(scope="module")
def door(credentials: Credentials, database_url: str) -> Iterator[Door]:
    migrate(credentials, database_url)
    with opened(credentials, database_url) as opened_door:
        yield opened_door


texts = st.text(st.characters(), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def envelopes() -> st.SearchStrategy[object]:
    """What notifications look like, with anything where something else should be."""
    text_or_value = texts | st.sampled_from([*EVENTS.values(), *GOOD_IDS.values(), "verification/selfie"]) | values
    inner = st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("type", "id", "_id", "entity", "relationships"), text_or_value)
    )
    attributes = st.fixed_dictionaries(
        {"name": text_or_value, "payload": values | st.fixed_dictionaries({"data": inner})},
        optional={"created-at": text_or_value},
    )
    data = st.fixed_dictionaries({"id": st.uuids().map(lambda made: f"evt_{made.hex}"), "attributes": attributes})
    names = ("type", "event", "object", "payload", "timestamp", "session_id", "topic", "organizationId")
    flat = st.fixed_dictionaries({}, optional={**dict.fromkeys(names, text_or_value), "data": data | values})
    return flat | st.fixed_dictionaries({}, optional={"type": text_or_value, "object": inner, "payload": inner})


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=200))
@example(b'{"session_id":"\xed\xa0\x80"}')
@example(b'{"type":"\\u0000","object":{"_id":"\\ud800"}}')
def test_any_bytes_are_stored(door: Door, body: bytes) -> None:
    for provider in PROVIDERS:
        status, _ = door.send(provider, body)
        assert status in ("unreadable", "ignored", "duplicate", "accepted")


@settings(max_examples=100, deadline=None)
@given(content=envelopes() | values)
def test_any_json_is_stored(door: Door, content: object) -> None:
    body = json.dumps(content).encode()
    for provider in PROVIDERS:
        status, _ = door.send(provider, body)
        assert status in ("unreadable", "ignored", "duplicate", "accepted")
