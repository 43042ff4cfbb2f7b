"""The published schemas as tests hold Verisink to them: what it sends has the members that they name, and no others."""

from datetime import datetime
from functools import cache

from jsonschema import Draft202012Validator, FormatChecker

from worker.domain.strict_json import Json
from worker.reports.event_models import ENVELOPE, schemas

FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def strict(schema: Json) -> Json:
    """The schema, but for the members of objects, which must be among those that it names."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: strict(item) for name, item in schema.items()}
    return {**inner, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else inner


@cache
def validator(name: str, *, strictly: bool = True) -> Draft202012Validator:
    """What judges events of a type; strictly as ours, or as a reader would."""
    schema = schemas()[name]
    found = strict(schema) if strictly else schema
    assert isinstance(found, dict)
    return Draft202012Validator(found, format_checker=FORMATS)


def faults(event: Json, *, strictly: bool = True) -> list[str]:
    """What is wrong with an event in structured JSON, by the schema of its type and by that of every event."""
    if not isinstance(event, dict):
        return ["it is no object"]
    name = str(event.get("type"))
    if name not in schemas():
        return [f"{name}: there is no such type"]
    # `data` is any object to the envelope, and is judged by the type's own schema.
    judges = (validator(ENVELOPE, strictly=strictly), validator(name, strictly=strictly))
    return [f"{name} {error.json_path}: {error.message}" for judge in judges for error in judge.iter_errors(event)]
