"""`/api/v1/sources`: how the sources stand, and holding and releasing them by hand."""

from http import HTTPStatus

from flask import g

from web.api import models, wire
from web.api.operation import Operation, Routes
from web.api.wire import Reply
from worker.domain.scopes import Scope
from worker.pipeline import operate
from worker.reports import status
from worker.runtime import Runtime

LIST = Operation(
    method="GET",
    path="/sources",
    name="list_sources",
    summary="How every source stands",
    scope=Scope.OPS_READ,
    answers={HTTPStatus.OK: models.Sources},
)
HOLD = Operation(
    method="POST",
    path="/sources/{source}/hold",
    name="hold_source",
    summary="Stop all calls to a source, and go on taking its webhooks",
    scope=Scope.OPS_WRITE,
    place=models.SourcePlace,
    body=models.HoldRequest,
    answers={HTTPStatus.OK: models.Held},
)
RELEASE = Operation(
    method="POST",
    path="/sources/{source}/release",
    name="release_source",
    summary="Call a source again that was held or throttled",
    scope=Scope.OPS_WRITE,
    place=models.SourcePlace,
    body=models.ReleaseRequest,
    may_be_bare=True,
    answers={HTTPStatus.OK: models.Released},
)


def register(routes: Routes, runtime: Runtime) -> None:
    """Add the routes about sources."""
    api = _Sources(runtime)
    routes.add(LIST, api.list_sources)
    routes.add(HOLD, api.hold_source)
    routes.add(RELEASE, api.release_source)


class _Sources:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def list_sources(self) -> Reply:
        with self._runtime.database.read() as session:
            found = status.source_list(session, self._runtime.settings.sources)
        return wire.answer(models.Sources(items=[models.Source.model_validate(item) for item in found]))

    def hold_source(self, source: str, body: models.HoldRequest) -> Reply:
        with self._runtime.database.write() as session:
            changed = operate.hold(session, self._runtime.settings, source, actor=g.actor, reason=body.reason)
        return wire.answer(models.Held(changed=changed, source=self._standing(source)))

    def release_source(self, source: str, body: models.ReleaseRequest) -> Reply:
        with self._runtime.database.write() as session:
            done = operate.release(session, self._runtime.settings, source, actor=g.actor, reason=body.reason)
        if done.changed:
            self._runtime.nudger.nudge(source)
        ended = {"hold_ended": done.hold, "throttle_ended": done.throttle}
        return wire.answer(models.Released(changed=done.changed, source=self._standing(source), **ended))

    def _standing(self, source: str) -> models.Source:
        with self._runtime.database.read() as session:
            return models.Source.model_validate(status.one_source(session, source))
