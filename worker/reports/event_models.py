"""The events as types: what each carries, and the JSON Schemas that are published for readers.

No member holds free text: each is a word of a closed list, an id, a number or a time. So an event has no place for
personal data, whatever a provider says. Only what is published is written here; the pipeline makes the events.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema

from worker.domain.events import HOLD_REASON
from worker.domain.model import EXTERNAL_ID, KIND
from worker.domain.states import EventType, FailureKind, Outcome, OverdueReason, Stage
from worker.domain.strict_json import Json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ENVELOPE = "cloudevent"
"""The name of the schema that every event satisfies."""


def _whole(pattern: str) -> str:
    """A pattern for JSON Schema, which looks for one anywhere in a text unless it is told otherwise."""
    return f"^(?:{pattern.removesuffix(chr(92) + 'Z')})$"


_SLUG = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KIND = KIND.pattern.removesuffix(r"\Z")
_ID = EXTERNAL_ID.pattern.removesuffix(r"\Z")

Slug: TypeAlias = Annotated[str, StringConstraints(pattern=_whole(_SLUG))]
Provider: TypeAlias = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Kind: TypeAlias = Annotated[str, StringConstraints(pattern=_whole(_KIND))]
ExternalId: TypeAlias = Annotated[str, StringConstraints(pattern=_whole(_ID))]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=_whole(_UUID))]
Environment: TypeAlias = Literal["live", "sandbox"]
ParkReason: TypeAlias = Literal[
    "bug", "conflict", "gone", "network", "poison", "rejected", "server_error", "stale", "timeout", "unreadable"
]


def _drop_default(schema: JsonDict) -> None:
    """A member that is left out is not one that is null."""
    schema.pop("default", None)


class _Model(BaseModel):
    """Members may be added in any release, so readers must let those pass that they do not know: nothing here forbids
    them. What Verisink itself sends is held to exactly these by its tests."""

    model_config = ConfigDict(frozen=True)


class Verdict(_Model):
    """What a result said."""

    stage: Stage
    outcome: Outcome


class ResultData(_Model):
    """A result, as one version of it reads. Everything else of it is asked for by its name."""

    source: Slug = Field(description="The source that the result belongs to.")
    provider: Provider
    environment: Environment
    kind: Kind
    external_id: ExternalId = Field(description="The provider's id of the resource.")
    version: int = Field(ge=1, description="The number of the version that the event tells of.")
    stage: Stage
    outcome: Outcome
    final: bool = Field(description="The provider says that it will not change by itself.")
    derived: bool = Field(description="Verisink concluded the verdict from parts.")
    previous: Verdict | None = Field(description="The verdict before; null for the first version.")
    provider_updated_at: AwareDatetime | None
    retrieved_at: AwareDatetime
    mapping_version: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(
        None, description="Only of a stored version that was read again.", json_schema_extra=_drop_default
    )
    cause: Literal["reproject"] | SkipJsonSchema[None] = Field(
        None, description="Only of a stored version that was read again.", json_schema_extra=_drop_default
    )


class ParkedData(_Model):
    """A resource that is not retrieved any more until somebody acts."""

    source: Slug
    provider: Provider
    environment: Environment
    kind: Kind
    external_id: ExternalId
    reason: ParkReason
    error: FailureKind = Field(description="How the last attempt failed.")
    attempts: int = Field(ge=1)


class HeldData(_Model):
    """A source that is not called."""

    source: Slug
    reason: Annotated[str, StringConstraints(pattern=_whole(HOLD_REASON.pattern))]


class ReleasedData(_Model):
    """A source that is called again."""

    source: Slug


class OverdueData(_Model):
    """An expected result that was not there in time. Never its reference, which may name a person."""

    expectation: Name
    source: Slug
    provider: Provider | None
    environment: Environment | None
    kind: Kind
    external_id: ExternalId | None
    deadline: AwareDatetime
    reason: OverdueReason


class Envelope(_Model):
    """CloudEvents 1.0 in structured JSON. `sequence` is the cursor of `v1_events`."""

    specversion: Literal["1.0"]
    id: Name = Field(description="The same however often the event is delivered.")
    type: EventType
    source: Annotated[str, StringConstraints(pattern=_whole(f"/verisink/sources/{_SLUG}"))]
    subject: Annotated[str, StringConstraints(pattern=_whole(f"{_KIND}/{_ID}"))] | SkipJsonSchema[None] = Field(
        None, description="Kind and id of the resource, where the event is about one.", json_schema_extra=_drop_default
    )
    time: AwareDatetime
    datacontenttype: Literal["application/json"]
    sequence: Annotated[str, StringConstraints(pattern="^[1-9][0-9]{0,18}$")]
    data: dict[str, object]


DATA: Mapping[EventType, type[_Model]] = {
    **dict.fromkeys(
        (
            EventType.CREATED,
            EventType.DECIDED,
            EventType.REVISED,
            EventType.REVERSED,
            EventType.UPDATED,
            EventType.ERASED,
        ),
        ResultData,
    ),
    EventType.PARKED: ParkedData,
    EventType.HELD: HeldData,
    EventType.RELEASED: ReleasedData,
    EventType.OVERDUE: OverdueData,
}
"""What the `data` of each type holds."""

_ABOUT_A_RESOURCE = (ResultData, ParkedData)


def schemas() -> dict[str, dict[str, Json]]:
    """The JSON Schema of each event type by its name, and that of the envelope, each complete in itself."""
    found = {ENVELOPE: _published(ENVELOPE, _schema(Envelope))}
    for event_type, model in DATA.items():
        schema = _schema(Envelope)
        inner = _schema(model)
        definitions = {**_members(inner.pop("$defs", {})), model.__name__: inner}
        properties = _members(schema["properties"])
        schema["properties"] = {
            **properties,
            "type": {"const": event_type.value, "type": "string"},
            "data": {"$ref": f"#/$defs/{model.__name__}"},
        }
        schema["$defs"] = dict(sorted(definitions.items()))
        if model in _ABOUT_A_RESOURCE:
            required = schema["required"]
            schema["required"] = [*(required if isinstance(required, list) else []), "subject"]
        found[event_type.value] = _published(event_type.value, schema)
    return found


def _schema(model: type[BaseModel]) -> dict[str, Json]:
    return model.model_json_schema()


def _members(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _published(name: str, schema: dict[str, Json]) -> dict[str, Json]:
    return {"$schema": DIALECT, "$id": f"urn:verisink:event:{name}", **schema, "title": name}
