"""`/api/v1/sinks`: how the sinks stand, and holding and releasing them by hand."""

from http import HTTPStatus

from flask import Blueprint, Response, g, request

from web.api import models, problems, sink_models, wire
from worker.errors import UnknownSink
from worker.pipeline import operate_sinks
from worker.reports import sinks as reports
from worker.runtime import Runtime


def register(routes: Blueprint, runtime: Runtime) -> None:
    """Add the routes about sinks."""
    routes.register_error_handler(UnknownSink, lambda error: problems.problem(HTTPStatus.NOT_FOUND, str(error)))
    api = _Sinks(runtime)
    routes.get("/sinks")(api.list_sinks)
    routes.post("/sinks/<name>/hold")(api.hold_sink)
    routes.post("/sinks/<name>/release")(api.release_sink)


class _Sinks:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def list_sinks(self) -> Response:
        with self._runtime.database.read() as session:
            found = reports.sink_list(session, operate_sinks.names(self._runtime.settings))
        return wire.answer(sink_models.Sinks(items=[sink_models.Sink.model_validate(item) for item in found]))

    def hold_sink(self, name: str) -> Response:
        wanted = wire.body(models.HoldRequest)
        with self._runtime.database.write() as session:
            settings = self._runtime.settings
            changed = operate_sinks.hold(session, settings, name, actor=g.actor, reason=wanted.reason)
        return self._answer(name, changed=changed)

    def release_sink(self, name: str) -> Response:
        # Nothing has to be said, so an empty request is as good as an empty object.
        empty = request.content_length in (None, 0) and "Transfer-Encoding" not in request.headers
        wanted = models.ReleaseRequest() if empty else wire.body(models.ReleaseRequest)
        with self._runtime.database.write() as session:
            settings = self._runtime.settings
            changed = operate_sinks.release(session, settings, name, actor=g.actor, reason=wanted.reason)
        return self._answer(name, changed=changed)

    def _answer(self, name: str, *, changed: bool) -> Response:
        with self._runtime.database.read() as session:
            found = sink_models.Sink.model_validate(reports.one_sink(session, name))
        return wire.answer(sink_models.SinkChanged(changed=changed, sink=found))
