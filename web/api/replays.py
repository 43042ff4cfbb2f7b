"""`/api/v1/replays` and `/api/v1/lanes`: plan, start, follow and stop replays; see how parked work stopped."""

from collections.abc import Callable
from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response, g

from web.api import replay_models as models
from web.api import wire
from web.api.problems import Refused
from worker.domain.replays import Lane, ReplayLevel, Selection
from worker.errors import BadSelection, ReplayIsOver, UnknownReplay
from worker.pipeline import replay
from worker.reports import replays
from worker.reports.replays import ItemFilter
from worker.runtime import Runtime
from worker.store.engine import Session
from worker.store.replays import Order


def register(routes: Blueprint, runtime: Runtime) -> None:
    """Add the routes about replays."""
    api = _Replays(runtime)
    routes.post("/replays")(api.start)
    routes.get("/replays")(api.list_replays)
    routes.get("/replays/<uuid:replay_id>")(api.one)
    routes.get("/replays/<uuid:replay_id>/items")(api.list_items)
    for name, deed in (("pause", replay.pause), ("resume", replay.resume), ("cancel", replay.cancel)):
        routes.post(f"/replays/<uuid:replay_id>/{name}", endpoint=f"{name}_replay")(api.doing(deed))
    routes.get("/lanes")(api.list_lanes)


class _Replays:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def start(self) -> Response:
        wanted = wire.body(models.ReplayRequest)
        try:
            selection = _selection(wanted)
            if wanted.plan:
                return self._plan(wanted.level, selection)
            with self._runtime.database.write() as session:
                made = replay.start(session, Order(wanted.level, selection, g.actor, wanted.reason))
                found = _read(session, made)
        except BadSelection as error:
            raise wire.bad("selection", str(error)) from None
        answer = wire.answer(found, HTTPStatus.ACCEPTED)
        answer.headers["Location"] = f"/api/v1/replays/{made}"
        return answer

    def _plan(self, level: ReplayLevel, selection: Selection) -> Response:
        runtime = self._runtime
        plan = replay.Planner(runtime.database, runtime.settings.sources, runtime.providers).plan(level, selection)
        return wire.answer(models.ReplayPlan.model_validate(plan))

    def list_replays(self) -> Response:
        query = wire.query(models.ReplaysQuery)
        with self._runtime.database.read() as session:
            found = replays.replays_made(session, limit=query.limit)
        return wire.answer(models.Replays(items=[models.Replay.model_validate(item) for item in found]))

    def one(self, replay_id: UUID) -> Response:
        with self._runtime.database.read() as session:
            return wire.answer(_read(session, replay_id))

    def list_items(self, replay_id: UUID) -> Response:
        query = wire.query(models.ItemsQuery)
        with self._runtime.database.read() as session:
            _read(session, replay_id)
            wanted = ItemFilter(query.cursor, query.outcome)
            found = replays.items(session, replay_id, wanted, limit=query.limit + 1)
        items = [models.Item.model_validate(item) for item in found[: query.limit]]
        more = len(found) > query.limit
        return wire.answer(models.Items(items=items, next_cursor=str(items[-1].position) if more else None))

    def doing(self, deed: Callable[..., bool]) -> Callable[..., Response]:
        """The view that does this to a replay. What is so already stays so; what is over cannot be changed."""

        def view(replay_id: UUID) -> Response:
            with self._runtime.database.write() as session:
                try:
                    deed(session, replay_id, actor=g.actor)
                except UnknownReplay as error:
                    raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
                except ReplayIsOver as error:
                    raise Refused(HTTPStatus.CONFLICT, str(error)) from None
                return wire.answer(_read(session, replay_id))

        return view

    def list_lanes(self) -> Response:
        with self._runtime.database.read() as session:
            found = replays.lanes(session)
        return wire.answer(models.Lanes(items=[models.Lane.model_validate(item) for item in found]))


def _selection(wanted: models.ReplayRequest) -> Selection:
    fields = wanted.model_dump(exclude={"level", "reason", "plan", "lane", "all"})
    return Selection(**fields, lane=Lane.parse(wanted.lane) if wanted.lane else None, everything=wanted.all)


def _read(session: Session, replay_id: UUID) -> models.Replay:
    found = replays.replay(session, replay_id)
    if found is None:
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such replay")
    return models.Replay.model_validate(found)
