"""`/api/v1`: results, their history, the event log, and retrievals. Everything but the bearer token is in `reports`."""

from dataclasses import replace
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

from flask import Blueprint, g

from web.api import (
    auth,
    caching,
    coding,
    description,
    expectations,
    models,
    polling,
    problems,
    replays,
    sinks,
    sources,
    wire,
)
from web.api.operation import Operation, Routes
from web.api.polling import Asked, Polling
from web.api.problems import Refused
from web.api.wire import Reply
from worker.domain.documents import Paths
from worker.domain.events import EventFilter
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.scopes import Scope
from worker.domain.states import ResourceState
from worker.pipeline import operate
from worker.reports import resources as work
from worker.reports import results
from worker.reports.cursor import BadCursor
from worker.runtime import Runtime

Shown = TypeVar("Shown", results.Result, results.ResultDetail)

PREFIX = "/api/v1"

LIST_RESULTS = Operation(
    method="GET",
    path="/results",
    name="list_results",
    summary="Results in order of change, with filters",
    scope=Scope.RESULTS_READ,
    query=models.ResultsQuery,
    answers={HTTPStatus.OK: models.Results},
)
ONE_RESULT = Operation(
    method="GET",
    path="/results/{source}/{kind}/{external_id}",
    name="get_result",
    summary="One result with its checks and document, as it is or as it was",
    scope=Scope.RESULTS_READ,
    place=models.ResultPlace,
    query=models.ResultQuery,
    answers={HTTPStatus.OK: models.ResultDetail},
    kept=True,
)
VERSIONS = Operation(
    method="GET",
    path="/results/{source}/{kind}/{external_id}/versions",
    name="list_versions",
    summary="The history of one result",
    scope=Scope.RESULTS_READ,
    place=models.ResultPlace,
    query=models.VersionsQuery,
    answers={HTTPStatus.OK: models.Versions},
    kept=True,
)
EVENTS = Operation(
    method="GET",
    path="/events",
    name="list_events",
    summary="The event log behind a sequence, in order and without gaps",
    scope=Scope.RESULTS_READ,
    query=models.EventsQuery,
    answers={HTTPStatus.OK: models.Events},
)
RETRIEVE = Operation(
    method="POST",
    path="/retrievals",
    name="retrieve",
    summary="Retrieve a result from its provider, webhook or not",
    scope=Scope.RETRIEVALS_WRITE,
    body=models.RetrievalRequest,
    answers={HTTPStatus.ACCEPTED: models.Retrieval},
    refusals=frozenset({HTTPStatus.NOT_FOUND}),
)


def blueprints(runtime: Runtime) -> tuple[Blueprint, Blueprint]:
    """The routes of the API, and those of its description, which need no token. Errors of both are problem documents;
    see `web.api.problems`."""
    behind_tokens = Blueprint("api", __name__, url_prefix=PREFIX)
    api = _Api(runtime)
    routes = Routes(behind_tokens)
    auth.register(behind_tokens, runtime, routes.needed)
    routes.add(LIST_RESULTS, api.list_results)
    routes.add(ONE_RESULT, api.one_result)
    routes.add(VERSIONS, api.list_versions)
    routes.add(EVENTS, api.list_events)
    routes.add(RETRIEVE, api.retrieve)
    sources.register(routes, runtime)
    sinks.register(routes, runtime)
    expectations.register(routes, runtime)
    replays.register(routes, runtime)
    for_everybody = description.blueprint(PREFIX, routes.operations)
    for made in (behind_tokens, for_everybody):
        problems.register(made)
        made.after_request(coding.encode)
    return behind_tokens, for_everybody


class _Api:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._polling = Polling(runtime)

    def list_results(self, query: models.ResultsQuery) -> Reply:
        personal = auth.may_see_personal()
        if query.reference is not None and not personal:
            raise Refused(HTTPStatus.FORBIDDEN, auth.BY_REFERENCE)
        wanted = results.ResultFilter(**query.model_dump(exclude={"limit", "cursor"}))
        with self._runtime.database.read() as session:
            try:
                page = results.page(session, wanted, limit=query.limit, after=query.cursor)
            except BadCursor as error:
                raise wire.bad("cursor", str(error)) from None
        items = page.items if personal else tuple(self._masked(item) for item in page.items)
        return wire.answer(models.Results.model_validate(replace(page, items=items)))

    def one_result(self, source: str, kind: str, external_id: str, query: models.ResultQuery) -> Reply:
        if query.version is not None and query.as_of is not None:
            raise wire.bad("as_of", "give version or as_of, not both")
        key = wire.key(source, kind, external_id)
        with self._runtime.database.read() as session:
            found = results.result(session, key, version=query.version, as_of=query.as_of)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such result")
        shown = found if auth.may_see_personal() else self._masked(found)
        reply = wire.answer(models.ResultDetail.model_validate(shown))
        # A version has one document as long as it has one, so nobody needs to read it to tell it from others. How much
        # of it is hidden changes with releases.
        left_out = {"document"} if shown is found else None
        reply.tag = caching.tag(reply.model.model_dump(exclude=left_out), found.document is None)
        return reply

    def _masked(self, found: Shown) -> Shown:
        """The result without what is personal. Where nobody knows the provider any more, everything may be."""
        provider = self._runtime.providers.get(found.provider)
        ref = ResourceRef(found.kind, found.external_id)
        return results.masked(found, provider.paths(ref) if provider else Paths())

    def list_versions(self, source: str, kind: str, external_id: str, query: models.VersionsQuery) -> Reply:
        key = wire.key(source, kind, external_id)
        with self._runtime.database.read() as session:
            found = results.history(session, key, after=query.cursor, limit=query.limit + 1)
        if not found and query.cursor == 0:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such result")
        if not auth.may_see_personal():
            found = tuple(results.masked(item, Paths()) for item in found)
        items = [models.Version.model_validate(item) for item in found[: query.limit]]
        more = len(found) > query.limit
        reply = wire.answer(models.Versions(items=items, next_cursor=str(items[-1].version) if more else None))
        reply.tag = caching.tag(reply.model.model_dump())
        return reply

    def list_events(self, query: models.EventsQuery) -> Reply:
        one = [frozenset() if value is None else frozenset({value}) for value in (query.type, query.source, query.kind)]
        asked = Asked(EventFilter(*one), query.limit)
        return wire.answer(polling.shown(self._polling.page(asked, query.after, query.wait)))

    def retrieve(self, body: models.RetrievalRequest) -> Reply:
        key = wire.key(body.source, body.kind, body.external_id)
        with self._runtime.database.write() as session:
            try:
                operate.retrieve(session, self._runtime.settings, *_names(key), actor=g.actor)
            except ValueError as error:
                raise wire.bad("kind", str(error)) from None
            found = work.resource(session, key)
        self._runtime.nudger.nudge(body.source)
        location = f"{PREFIX}/results/" + quote("/".join(_names(key)))
        state = found.state if found else ResourceState.WAITING
        accepted = models.Retrieval(**body.model_dump(), state=state, result=location)
        response = wire.answer(accepted, HTTPStatus.ACCEPTED)
        response.headers["Location"] = location
        return response


def _names(key: ResourceKey) -> tuple[str, str, str]:
    return key.source, key.ref.kind, key.ref.external_id
