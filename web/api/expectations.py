"""`/api/v1/expectations`: results that should be there by a time."""

from http import HTTPStatus
from uuid import UUID

from flask import g

from web.api import auth, models, wire
from web.api.operation import Operation, Routes
from web.api.problems import Refused
from web.api.wire import Reply
from worker.domain.documents import MASK
from worker.domain.scopes import Scope
from worker.pipeline import expect
from worker.pipeline.expect import BadExpectation
from worker.reports import expectations
from worker.reports.cursor import BadCursor
from worker.runtime import Runtime
from worker.store.engine import Session
from worker.store.expectations import Wanted

ADD = Operation(
    method="POST",
    path="/expectations",
    name="add_expectation",
    summary="Say which result has to be there by when; saying the same again changes nothing",
    scope=Scope.RETRIEVALS_WRITE,
    body=models.ExpectationRequest,
    answers={HTTPStatus.CREATED: models.Expectation, HTTPStatus.OK: models.Expectation},
    refusals=frozenset({HTTPStatus.NOT_FOUND}),
)
LIST = Operation(
    method="GET",
    path="/expectations",
    name="list_expectations",
    summary="Results that are or were expected, in order of deadline",
    scope=Scope.OPS_READ,
    query=models.ExpectationsQuery,
    answers={HTTPStatus.OK: models.Expectations},
)
ONE = Operation(
    method="GET",
    path="/expectations/{expectation_id}",
    name="get_expectation",
    summary="One expected result",
    scope=Scope.OPS_READ,
    place=models.ExpectationPlace,
    answers={HTTPStatus.OK: models.Expectation},
)
CANCEL = Operation(
    method="DELETE",
    path="/expectations/{expectation_id}",
    name="cancel_expectation",
    summary="Expect a result no more; what is closed stays as it is",
    scope=Scope.RETRIEVALS_WRITE,
    place=models.ExpectationPlace,
    answers={HTTPStatus.OK: models.Expectation},
)


def register(routes: Routes, runtime: Runtime) -> None:
    """Add the routes about expected results."""
    api = _Expectations(runtime)
    routes.add(ADD, api.add_expectation)
    routes.add(LIST, api.list_expectations)
    routes.add(ONE, api.one_expectation)
    routes.add(CANCEL, api.cancel_expectation)


class _Expectations:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def add_expectation(self, body: models.ExpectationRequest) -> Reply:
        if body.reference is not None and not auth.may_see_personal():
            # Whether it is met, and by what, would tell whose reference it is.
            raise Refused(HTTPStatus.FORBIDDEN, auth.BY_REFERENCE)
        wanted = Wanted(**body.model_dump())
        with self._runtime.database.write() as session:
            try:
                made, new = expect.add(session, self._runtime.settings, wanted, actor=g.actor)
            except BadExpectation as error:
                raise wire.bad(error.where, str(error)) from None
            found = _read(session, made)
        answer = wire.answer(found, HTTPStatus.CREATED if new else HTTPStatus.OK)
        answer.headers["Location"] = f"/api/v1/expectations/{made}"
        return answer

    def list_expectations(self, query: models.ExpectationsQuery) -> Reply:
        wanted = expectations.ExpectationFilter(query.source, query.state)
        with self._runtime.database.read() as session:
            try:
                page = expectations.page(session, wanted, limit=query.limit, after=query.cursor)
            except BadCursor as error:
                raise wire.bad("cursor", str(error)) from None
        shown = models.Expectations.model_validate(page)
        return wire.answer(shown.model_copy(update={"items": [_shown(item) for item in shown.items]}))

    def one_expectation(self, expectation_id: UUID) -> Reply:
        with self._runtime.database.read() as session:
            return wire.answer(_read(session, expectation_id))

    def cancel_expectation(self, expectation_id: UUID) -> Reply:
        with self._runtime.database.write() as session:
            expect.cancel(session, expectation_id, actor=g.actor)
            return wire.answer(_read(session, expectation_id))


def _read(session: Session, expectation_id: UUID) -> models.Expectation:
    found = expectations.expectation(session, expectation_id)
    if found is None:
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such expectation")
    return _shown(models.Expectation.model_validate(found))


def _shown(item: models.Expectation) -> models.Expectation:
    """The expectation as this caller may see it: references are chosen by customers, and may be a person's number.
    What was found for one is hidden with it, because whoever knows the reference would learn whose result that is."""
    if item.reference is None or auth.may_see_personal():
        return item
    return item.model_copy(update={"reference": MASK, "found": MASK if item.found else item.found})
