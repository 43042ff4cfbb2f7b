"""`/api/v1`: results, their history, the event log, and retrievals. Everything but the bearer token is in `reports`."""

from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

from flask import Blueprint, Response, g, request
from pydantic import BaseModel, ValidationError

from web.api import auth, models, problems
from web.api.problems import Refused
from web.receiver import read_body
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import ResourceState
from worker.domain.strict_json import parse_object
from worker.errors import UnreadableJson
from worker.pipeline import operate
from worker.reports import events as event_log
from worker.reports import resources as work
from worker.reports import results
from worker.reports.build import json_text
from worker.reports.cursor import BadCursor
from worker.runtime import Runtime
from worker.store.types import storable

LARGEST_BODY = 64 * 1024

Model = TypeVar("Model", bound=BaseModel)


def blueprint(runtime: Runtime) -> Blueprint:
    """The routes of the API. Errors of its own are problem documents; see `web.api.problems`."""
    routes = Blueprint("api", __name__, url_prefix="/api/v1")
    problems.register(routes)
    api = _Api(runtime)
    routes.before_request(api.authenticate)
    routes.get("/results")(api.list_results)
    routes.get("/results/<source>/<path:kind>/<external_id>")(api.one_result)
    routes.get("/results/<source>/<path:kind>/<external_id>/versions")(api.list_versions)
    routes.get("/events")(api.list_events)
    routes.post("/retrievals")(api.retrieve)
    return routes


class _Api:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def authenticate(self) -> None:
        g.actor = auth.actor(request.headers.get("Authorization"), self._runtime.settings.api_tokens)

    def list_results(self) -> Response:
        query = _query(models.ResultsQuery)
        wanted = results.ResultFilter(**query.model_dump(exclude={"limit", "cursor"}))
        with self._runtime.database.read() as session:
            try:
                page = results.page(session, wanted, limit=query.limit, after=query.cursor)
            except BadCursor as error:
                raise _bad("cursor", str(error)) from None
        return _answer(models.Results.model_validate(page))

    def one_result(self, source: str, kind: str, external_id: str) -> Response:
        query = _query(models.ResultQuery)
        if query.version is not None and query.as_of is not None:
            raise _bad("as_of", "give version or as_of, not both")
        key = _key(source, kind, external_id)
        with self._runtime.database.read() as session:
            found = results.result(session, key, version=query.version, as_of=query.as_of)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such result")
        return _answer(models.ResultDetail.model_validate(found))

    def list_versions(self, source: str, kind: str, external_id: str) -> Response:
        query = _query(models.VersionsQuery)
        key = _key(source, kind, external_id)
        with self._runtime.database.read() as session:
            found = results.history(session, key, after=query.cursor, limit=query.limit + 1)
        if not found and query.cursor == 0:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such result")
        items = [models.Version.model_validate(item) for item in found[: query.limit]]
        more = len(found) > query.limit
        return _answer(models.Versions(items=items, next_cursor=str(items[-1].version) if more else None))

    def list_events(self) -> Response:
        query = _query(models.EventsQuery)
        with self._runtime.database.read() as session:
            found = event_log.events(session, after=query.after, limit=query.limit)
        items = [models.Event.model_validate(item) for item in found]
        return _answer(models.Events(items=items, next_after=items[-1].sequence if items else query.after))

    def retrieve(self) -> Response:
        wanted = _body(models.RetrievalRequest)
        key = ResourceKey(wanted.source, ResourceRef(wanted.kind, wanted.external_id))
        with self._runtime.database.write() as session:
            try:
                operate.retrieve(session, self._runtime.settings, *_names(key), actor=g.actor)
            except ValueError as error:
                raise _bad("kind", str(error)) from None
            found = work.resource(session, key)
        self._runtime.nudger.nudge(wanted.source)
        location = "/api/v1/results/" + quote("/".join(_names(key)))
        state = found.state if found else ResourceState.WAITING
        answer = _answer(models.Retrieval(**wanted.model_dump(), state=state, result=location))
        answer.status_code = HTTPStatus.ACCEPTED
        answer.headers["Location"] = location
        return answer


def _names(key: ResourceKey) -> tuple[str, str, str]:
    return key.source, key.ref.kind, key.ref.external_id


def _query(model: type[Model]) -> Model:
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise _bad(repeated[0], "is given more than once")
    return _validated(model, request.args.to_dict())


def _body(model: type[Model]) -> Model:
    if request.mimetype != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, as Content-Type: application/json")
    try:
        values = parse_object(read_body(request, LARGEST_BODY))
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


def _bad(where: str, detail: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, f"{where}: {detail}", [{"where": where, "detail": detail}])


def _key(source: str, kind: str, external_id: str) -> ResourceKey:
    try:
        key = ResourceKey(source, ResourceRef(kind, external_id))
    except ValueError as error:
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no such result: {error}") from None
    if not models.SLUG.fullmatch(source):
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such source")
    return key


def _answer(model: BaseModel) -> Response:
    return Response(json_text(model.model_dump()), content_type="application/json")
