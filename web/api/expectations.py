"""`/api/v1/expectations`: results that should be there by a time."""

from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response, g

from web.api import auth, models, wire
from web.api.problems import Refused
from worker.domain.documents import MASK
from worker.pipeline import expect
from worker.pipeline.expect import BadExpectation
from worker.reports import expectations
from worker.reports.cursor import BadCursor
from worker.runtime import Runtime
from worker.store.engine import Session
from worker.store.expectations import Wanted


def register(routes: Blueprint, runtime: Runtime) -> None:
    """Add the routes about expected results."""
    api = _Expectations(runtime)
    routes.post("/expectations")(api.add_expectation)
    routes.get("/expectations")(api.list_expectations)
    routes.get("/expectations/<expectation_id>")(api.one_expectation)
    routes.delete("/expectations/<expectation_id>")(api.cancel_expectation)


class _Expectations:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def add_expectation(self) -> Response:
        wanted = Wanted(**wire.body(models.ExpectationRequest).model_dump())
        with self._runtime.database.write() as session:
            try:
                made, new = expect.add(session, self._runtime.settings, wanted, actor=g.actor)
            except BadExpectation as error:
                raise wire.bad(error.where, str(error)) from None
            found = _read(session, made)
        answer = wire.answer(found, HTTPStatus.CREATED if new else HTTPStatus.OK)
        answer.headers["Location"] = f"/api/v1/expectations/{made}"
        return answer

    def list_expectations(self) -> Response:
        query = wire.query(models.ExpectationsQuery)
        wanted = expectations.ExpectationFilter(query.source, query.state)
        with self._runtime.database.read() as session:
            try:
                page = expectations.page(session, wanted, limit=query.limit, after=query.cursor)
            except BadCursor as error:
                raise wire.bad("cursor", str(error)) from None
        shown = models.Expectations.model_validate(page)
        return wire.answer(shown.model_copy(update={"items": [_shown(item) for item in shown.items]}))

    def one_expectation(self, expectation_id: str) -> Response:
        wanted = _id(expectation_id)
        with self._runtime.database.read() as session:
            return wire.answer(_read(session, wanted))

    def cancel_expectation(self, expectation_id: str) -> Response:
        wanted = _id(expectation_id)
        with self._runtime.database.write() as session:
            expect.cancel(session, wanted, actor=g.actor)
            return wire.answer(_read(session, wanted))


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such expectation") from None


def _read(session: Session, expectation_id: UUID) -> models.Expectation:
    found = expectations.expectation(session, expectation_id)
    if found is None:
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such expectation")
    return _shown(models.Expectation.model_validate(found))


def _shown(item: models.Expectation) -> models.Expectation:
    """The expectation as this caller may see it: references are chosen by customers, and may be a person's number."""
    if item.reference is None or auth.may_see_personal():
        return item
    return item.model_copy(update={"reference": MASK})
