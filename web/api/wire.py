"""From a request to checked values, and from values to an answer: what all routes of the API share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

from flask import Response, request
from pydantic import BaseModel, ValidationError

from web.api.models import Place
from web.api.problems import Refused
from web.receiver import read_body
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.strict_json import parse_object
from worker.errors import UnreadableJson
from worker.reports.build import json_text
from worker.store.types import storable

LARGEST_BODY = 64 * 1024

Model = TypeVar("Model", bound=BaseModel)


@dataclass(slots=True)
class Reply:
    """What a route answers: a model, its status, further headers, and the tag that identifies it, if it has one."""

    model: BaseModel
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)
    tag: str | None = None

    def response(self) -> Response:
        """The model as JSON."""
        made = Response(json_text(self.model.model_dump()), status=self.status, content_type="application/json")
        made.headers.update(self.headers)
        return made


def query(model: type[Model]) -> Model:
    """What stands behind the `?`, checked. Raises Refused."""
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise bad(storable(repeated[0][:64]), "is given more than once")
    return _validated(model, request.args.to_dict())


def place(model: type[Place], values: Mapping[str, str]) -> Place:
    """What a path names, checked. Raises Refused, because what cannot be a name is the name of nothing."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        detail = "; ".join(f"{_where(item['loc'])}: {_what(item['msg'])}" for item in error.errors())
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no such {model.noun}: {detail}") from None


def body(model: type[Model], *, may_be_bare: bool = False) -> Model:
    """The JSON body, checked. With `may_be_bare`, a request without one is as good as an empty object. Raises
    Refused."""
    if may_be_bare and request.content_length in (None, 0) and "Transfer-Encoding" not in request.headers:
        return _validated(model, {})
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
    """A resource's name from a path that was checked."""
    return ResourceKey(source, ResourceRef(kind, external_id))


def answer(model: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Reply:
    """The model as it is answered."""
    return Reply(model, status)
