"""`/api/v1/sources`: how the sources stand, and holding and releasing them by hand."""

from flask import Blueprint, Response, g, request

from web.api import models, wire
from worker.pipeline import operate
from worker.reports import status
from worker.runtime import Runtime


def register(routes: Blueprint, runtime: Runtime) -> None:
    """Add the routes about sources."""
    api = _Sources(runtime)
    routes.get("/sources")(api.list_sources)
    routes.post("/sources/<source>/hold")(api.hold_source)
    routes.post("/sources/<source>/release")(api.release_source)


class _Sources:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def list_sources(self) -> Response:
        with self._runtime.database.read() as session:
            found = status.source_list(session, self._runtime.settings.sources)
        return wire.answer(models.Sources(items=[models.Source.model_validate(item) for item in found]))

    def hold_source(self, source: str) -> Response:
        wanted = wire.body(models.HoldRequest)
        with self._runtime.database.write() as session:
            changed = operate.hold(session, self._runtime.settings, source, actor=g.actor, reason=wanted.reason)
        return wire.answer(models.Held(changed=changed, source=self._standing(source)))

    def release_source(self, source: str) -> Response:
        # Nothing has to be said, so an empty request is as good as an empty object.
        empty = request.content_length in (None, 0) and "Transfer-Encoding" not in request.headers
        wanted = models.ReleaseRequest() if empty else wire.body(models.ReleaseRequest)
        with self._runtime.database.write() as session:
            done = operate.release(session, self._runtime.settings, source, actor=g.actor, reason=wanted.reason)
        if done.changed:
            self._runtime.nudger.nudge(source)
        ended = {"hold_ended": done.hold, "throttle_ended": done.throttle}
        return wire.answer(models.Released(changed=done.changed, source=self._standing(source), **ended))

    def _standing(self, source: str) -> models.Source:
        with self._runtime.database.read() as session:
            return models.Source.model_validate(status.one_source(session, source))
