"""`/api/v1`: results, their history, the event log, and retrievals. Everything but the bearer token is in `reports`."""

from dataclasses import replace
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

from flask import Blueprint, Response, g

from web.api import auth, expectations, models, problems, replays, scopes, sinks, sources, wire
from web.api.problems import Refused
from worker.domain.documents import Paths
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import ResourceState
from worker.pipeline import operate
from worker.reports import events as event_log
from worker.reports import resources as work
from worker.reports import results
from worker.reports.cursor import BadCursor
from worker.runtime import Runtime

Shown = TypeVar("Shown", results.Result, results.ResultDetail)


def blueprint(runtime: Runtime) -> Blueprint:
    """The routes of the API. Errors of its own are problem documents; see `web.api.problems`."""
    routes = Blueprint("api", __name__, url_prefix="/api/v1")
    problems.register(routes)
    api = _Api(runtime)
    auth.register(routes, runtime, scopes.NEEDED)
    routes.get("/results")(api.list_results)
    routes.get("/results/<source>/<path:kind>/<external_id>")(api.one_result)
    routes.get("/results/<source>/<path:kind>/<external_id>/versions")(api.list_versions)
    routes.get("/events")(api.list_events)
    routes.post("/retrievals")(api.retrieve)
    sources.register(routes, runtime)
    sinks.register(routes, runtime)
    expectations.register(routes, runtime)
    replays.register(routes, runtime)
    return routes


class _Api:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def list_results(self) -> Response:
        query = wire.query(models.ResultsQuery)
        personal = auth.may_see_personal()
        if query.reference is not None and not personal:
            raise Refused(HTTPStatus.FORBIDDEN, "finding results by reference needs the scope results:pii")
        wanted = results.ResultFilter(**query.model_dump(exclude={"limit", "cursor"}))
        with self._runtime.database.read() as session:
            try:
                page = results.page(session, wanted, limit=query.limit, after=query.cursor)
            except BadCursor as error:
                raise wire.bad("cursor", str(error)) from None
        items = page.items if personal else tuple(self._masked(item) for item in page.items)
        return wire.answer(models.Results.model_validate(replace(page, items=items)))

    def one_result(self, source: str, kind: str, external_id: str) -> Response:
        query = wire.query(models.ResultQuery)
        if query.version is not None and query.as_of is not None:
            raise wire.bad("as_of", "give version or as_of, not both")
        key = wire.key(source, kind, external_id)
        with self._runtime.database.read() as session:
            found = results.result(session, key, version=query.version, as_of=query.as_of)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such result")
        shown = found if auth.may_see_personal() else self._masked(found)
        return wire.answer(models.ResultDetail.model_validate(shown))

    def _masked(self, found: Shown) -> Shown:
        """The result without what is personal. Where nobody knows the provider any more, everything may be."""
        provider = self._runtime.providers.get(found.provider)
        ref = ResourceRef(found.kind, found.external_id)
        return results.masked(found, provider.paths(ref) if provider else Paths())

    def list_versions(self, source: str, kind: str, external_id: str) -> Response:
        query = wire.query(models.VersionsQuery)
        key = wire.key(source, kind, external_id)
        with self._runtime.database.read() as session:
            found = results.history(session, key, after=query.cursor, limit=query.limit + 1)
        if not found and query.cursor == 0:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such result")
        if not auth.may_see_personal():
            found = tuple(results.masked(item, Paths()) for item in found)
        items = [models.Version.model_validate(item) for item in found[: query.limit]]
        more = len(found) > query.limit
        return wire.answer(models.Versions(items=items, next_cursor=str(items[-1].version) if more else None))

    def list_events(self) -> Response:
        query = wire.query(models.EventsQuery)
        with self._runtime.database.read() as session:
            found = event_log.events(session, after=query.after, limit=query.limit)
        items = [models.Event.model_validate(item) for item in found]
        return wire.answer(models.Events(items=items, next_after=items[-1].sequence if items else query.after))

    def retrieve(self) -> Response:
        wanted = wire.body(models.RetrievalRequest)
        key = ResourceKey(wanted.source, ResourceRef(wanted.kind, wanted.external_id))
        with self._runtime.database.write() as session:
            try:
                operate.retrieve(session, self._runtime.settings, *_names(key), actor=g.actor)
            except ValueError as error:
                raise wire.bad("kind", str(error)) from None
            found = work.resource(session, key)
        self._runtime.nudger.nudge(wanted.source)
        location = "/api/v1/results/" + quote("/".join(_names(key)))
        state = found.state if found else ResourceState.WAITING
        accepted = models.Retrieval(**wanted.model_dump(), state=state, result=location)
        response = wire.answer(accepted, HTTPStatus.ACCEPTED)
        response.headers["Location"] = location
        return response


def _names(key: ResourceKey) -> tuple[str, str, str]:
    return key.source, key.ref.kind, key.ref.external_id
