"""From a request to checked values, and from values to an answer: what all routes of the API share."""

from http import HTTPStatus
from typing import TypeVar

from flask import Response, request
from pydantic import BaseModel, ValidationError

from web.api import models
from web.api.problems import Refused
from web.receiver import read_body
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.strict_json import parse_object
from worker.errors import UnreadableJson
from worker.reports.build import json_text
from worker.store.types import storable

LARGEST_BODY = 64 * 1024

Model = TypeVar("Model", bound=BaseModel)


def query(model: type[Model]) -> Model:
    """What stands behind the `?`, checked. Raises Refused."""
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise bad(repeated[0], "is given more than once")
    return _validated(model, request.args.to_dict())


def body(model: type[Model]) -> Model:
    """The JSON body, checked. Raises Refused."""
    if request.mimetype != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, as Content-Type: application/json")
    try:
        values = parse_object(read_body(request.environ, LARGEST_BODY))
    except UnreadableJson as error:
        raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
    return _validated(model, values)


def _validated(model: type[Model], values: object) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        errors = [{"where": _where(item["loc"]), "detail": _what(item["msg"])} for item in error.errors()]
        detail = "; ".join(f"{item['where']}: {item['detail']}" for item in errors)
        raise Refused(HTTPStatus.BAD_REQUEST, detail, errors) from None


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(storable(str(step)[:64]) for step in location) or "request"


def _what(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "is not known here")


def bad(where: str, detail: str) -> Refused:
    """A request whose part `where` is wrong."""
    return Refused(HTTPStatus.BAD_REQUEST, f"{where}: {detail}", [{"where": where, "detail": detail}])


def key(source: str, kind: str, external_id: str) -> ResourceKey:
    """A resource's name from a path. Raises Refused, because what cannot be a name is the name of nothing."""
    try:
        found = ResourceKey(source, ResourceRef(kind, external_id))
    except ValueError as error:
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no such result: {error}") from None
    if not models.SLUG.fullmatch(source):
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such source")
    return found


def answer(model: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """The model as JSON."""
    return Response(json_text(model.model_dump()), status=status, content_type="application/json")
