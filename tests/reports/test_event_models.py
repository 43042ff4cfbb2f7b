"""The published schemas: valid, complete, with no place for free text, and open to what a later release adds."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from jsonschema import Draft202012Validator

from tests.support.event_schemas import faults
from worker.domain.events import CREDENTIAL_REFUSED, Event, cloud_event, told_reason
from worker.domain.states import EventType, Outcome, Stage
from worker.domain.strict_json import Json
from worker.reports.event_models import DATA, ENVELOPE, schemas

NOW = datetime(2026, 3, 1, 12, 30, 1, 250_000, tzinfo=UTC)
DATA_OF_A_RESULT: dict[str, object] = {
    "source": "persona-live", "provider": "persona", "environment": "live", "kind": "verification/selfie",
    "external_id": "ver_1", "version": 2, "stage": "decided", "outcome": "approved", "final": True, "derived": False,
    "previous": {"stage": "created", "outcome": "none"}, "provider_updated_at": None,
    "retrieved_at": "2026-03-01T12:30:01.250000+00:00",
}  # fmt: skip
DECIDED = Event(
    EventType.DECIDED, "persona-live", "verification/selfie", "ver_1", 2, Stage.DECIDED, Outcome.APPROVED,
    data=DATA_OF_A_RESULT,
)  # fmt: skip


def written(event: Event) -> dict[str, Json]:
    envelope = cloud_event(event, event.id, 7, NOW)
    return {name: value for name, value in envelope.items() if isinstance(value, str | dict)}


def texts(schema: Json, path: str = "") -> Iterator[tuple[str, dict[str, Json]]]:
    """Every place of a schema that takes a text."""
    if isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from texts(item, f"{path}/{number}")
    if isinstance(schema, dict):
        if schema.get("type") == "string":
            yield path, schema
        for name, item in schema.items():
            yield from texts(item, f"{path}/{name}")


def test_every_event_type_has_a_schema():
    assert set(DATA) == set(EventType)
    assert set(schemas()) == {*EventType, ENVELOPE}


@pytest.mark.parametrize("name", [*EventType, ENVELOPE])
def test_a_schema_is_valid_and_leaves_no_place_for_free_text(name):
    schema = schemas()[name]

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    found = dict(texts(schema))
    assert found
    free = [
        path
        for path, place in found.items()
        if not ({"const", "enum", "pattern"} & place.keys()) and place.get("format") not in ("date-time", "uuid")
    ]
    assert free == []
    for place in found.values():
        assert str(place.get("pattern", "^$")).startswith("^")
        assert str(place.get("pattern", "^$")).endswith("$")


@pytest.mark.parametrize("name", EventType)
def test_only_the_envelope_takes_any_data(name):
    schema = schemas()[name]
    assert isinstance(schema["$defs"], dict)
    for definition in schema["$defs"].values():
        assert isinstance(definition, dict)
        assert definition["type"] == "string" or definition["properties"]


def test_an_event_as_it_is_sent_has_no_fault():
    assert faults(written(DECIDED)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "Ada Lovelace"}, {"external_id": "ada@example.com"}, {"kind": "Ada"}, {"environment": "Ada"},
        {"version": 0}, {"retrieved_at": "yesterday"}, {"previous": {"stage": "decided"}}, {"name": "Ada"},
        {"previous": {"stage": "created", "outcome": "none", "name": "Ada"}}, {"cause": "Ada"}, {"cause": None},
    ],
)  # fmt: skip
def test_an_event_with_anything_else_has_one(change):
    assert faults(written(replace(DECIDED, data={**DATA_OF_A_RESULT, **change})))


@pytest.mark.parametrize("name", DATA_OF_A_RESULT)
def test_a_member_that_is_missing_is_a_fault(name):
    data = {one: value for one, value in DATA_OF_A_RESULT.items() if one != name}

    assert faults(written(replace(DECIDED, data=data)))


def test_an_event_about_a_resource_names_it():
    assert faults({name: value for name, value in written(DECIDED).items() if name != "subject"})
    assert faults({**written(DECIDED), "subject": "ada@example.com"})


def test_readers_let_pass_what_a_later_release_adds():
    later = {**written(replace(DECIDED, data={**DATA_OF_A_RESULT, "colour": "blue"})), "traceparent": "00-1"}

    assert faults(later, strictly=False) == []
    assert faults(later)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the provider answered 401", "the provider answered 401"),
        ("private_key is not set", "private_key is not set"),
        ("the key of Ada Lovelace has expired", CREDENTIAL_REFUSED),
        ("the provider answered 401 to Ada", CREDENTIAL_REFUSED),
        ("", CREDENTIAL_REFUSED),
    ],
)
def test_a_hold_is_told_in_our_own_sentences(reason, told):
    assert told_reason(reason) == told
    held = Event(EventType.HELD, "gu1", occasion="hold-1", data={"source": "gu1", "reason": told})
    assert faults(written(held)) == []
    assert faults(written(replace(held, data={"source": "gu1", "reason": "the key of Ada Lovelace"})))
