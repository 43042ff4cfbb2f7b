"""`/api/v1/sinks`: how the sinks stand, and holding and releasing them by hand."""

from http import HTTPStatus

from flask import g

from web.api import models, sink_models, wire
from web.api.operation import Operation, Routes
from web.api.problems import Refused
from web.api.wire import Reply
from worker.domain.scopes import Scope
from worker.errors import UnknownSink
from worker.pipeline import operate_sinks
from worker.reports import sinks as reports
from worker.runtime import Runtime
from worker.store.engine import unless_crossed

LIST = Operation(
    method="GET",
    path="/sinks",
    name="list_sinks",
    summary="How every sink stands",
    scope=Scope.OPS_READ,
    answers={HTTPStatus.OK: sink_models.Sinks},
)
HOLD = Operation(
    method="POST",
    path="/sinks/{name}/hold",
    name="hold_sink",
    summary="Deliver nothing more to a sink, and keep what comes for it",
    scope=Scope.OPS_WRITE,
    place=sink_models.SinkPlace,
    body=models.HoldRequest,
    answers={HTTPStatus.OK: sink_models.SinkChanged},
)
RELEASE = Operation(
    method="POST",
    path="/sinks/{name}/release",
    name="release_sink",
    summary="Deliver to a sink again, and first what was kept for it",
    scope=Scope.OPS_WRITE,
    place=sink_models.SinkPlace,
    body=models.ReleaseRequest,
    may_be_bare=True,
    answers={HTTPStatus.OK: sink_models.SinkChanged},
)


def register(routes: Routes, runtime: Runtime) -> None:
    """Add the routes about sinks."""
    api = _Sinks(runtime)
    routes.add(LIST, api.list_sinks)
    routes.add(HOLD, api.hold_sink)
    routes.add(RELEASE, api.release_sink)


class _Sinks:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def list_sinks(self) -> Reply:
        with self._runtime.database.read() as session:
            found = reports.sink_list(session, operate_sinks.names(self._runtime.settings))
        return wire.answer(sink_models.Sinks(items=[sink_models.Sink.model_validate(item) for item in found]))

    def hold_sink(self, name: str, body: models.HoldRequest) -> Reply:
        settings = self._runtime.settings
        try:
            with self._runtime.database.write() as session:
                changed = operate_sinks.hold(session, settings, name, actor=g.actor, reason=body.reason)
        except UnknownSink as error:
            raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
        return self._answer(name, changed=changed)

    def release_sink(self, name: str, body: models.ReleaseRequest) -> Reply:
        settings = self._runtime.settings

        def release() -> bool:
            with self._runtime.database.write() as session:
                return operate_sinks.release(session, settings, name, actor=g.actor, reason=body.reason)

        try:
            changed = unless_crossed(release)
        except UnknownSink as error:
            raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
        return self._answer(name, changed=changed)

    def _answer(self, name: str, *, changed: bool) -> Reply:
        with self._runtime.database.read() as session:
            found = sink_models.Sink.model_validate(reports.one_sink(session, name))
        return wire.answer(sink_models.SinkChanged(changed=changed, sink=found))
