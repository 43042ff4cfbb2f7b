"""`/api/v1/replays` and `/api/v1/lanes`: plan, start, follow and stop replays; see how parked work stopped."""

from collections.abc import Callable
from http import HTTPStatus
from uuid import UUID

from flask import g

from web.api import replay_models as models
from web.api import wire
from web.api.operation import Operation, Routes
from web.api.problems import Refused
from web.api.wire import Reply
from worker.domain.replays import Lane, ReplayLevel, Selection
from worker.domain.scopes import Scope
from worker.errors import BadSelection, ReplayIsOver, UnknownReplay
from worker.pipeline import replay
from worker.reports import replays
from worker.reports.replays import ItemFilter
from worker.runtime import Runtime
from worker.store.engine import Session
from worker.store.replays import Order

START = Operation(
    method="POST",
    path="/replays",
    name="start_replay",
    summary="Do again what was selected, or plan it; 202 is a replay that began, 200 a plan that changed nothing",
    scope=Scope.REPLAYS_WRITE,
    body=models.ReplayRequest,
    answers={HTTPStatus.ACCEPTED: models.Replay, HTTPStatus.OK: models.ReplayPlan},
)
LIST = Operation(
    method="GET",
    path="/replays",
    name="list_replays",
    summary="The newest replays",
    scope=Scope.OPS_READ,
    query=models.ReplaysQuery,
    answers={HTTPStatus.OK: models.Replays},
)
ONE = Operation(
    method="GET",
    path="/replays/{replay_id}",
    name="get_replay",
    summary="A replay, and how far it is",
    scope=Scope.OPS_READ,
    place=models.ReplayPlace,
    answers={HTTPStatus.OK: models.Replay},
)
ITEMS = Operation(
    method="GET",
    path="/replays/{replay_id}/items",
    name="list_replay_items",
    summary="What a replay did with each of its items",
    scope=Scope.OPS_READ,
    place=models.ReplayPlace,
    query=models.ItemsQuery,
    answers={HTTPStatus.OK: models.Items},
)
LANES = Operation(
    method="GET",
    path="/lanes",
    name="list_lanes",
    summary="Parked work by how it stopped, the largest lane first",
    scope=Scope.OPS_READ,
    answers={HTTPStatus.OK: models.Lanes},
)
DEEDS = {"pause": replay.pause, "resume": replay.resume, "cancel": replay.cancel}


def register(routes: Routes, runtime: Runtime) -> None:
    """Add the routes about replays."""
    api = _Replays(runtime)
    routes.add(START, api.start)
    routes.add(LIST, api.list_replays)
    routes.add(ONE, api.one)
    routes.add(ITEMS, api.list_items)
    for name, deed in DEEDS.items():
        routes.add(_doing(name), api.doing(deed))
    routes.add(LANES, api.list_lanes)


def _doing(name: str) -> Operation:
    return Operation(
        method="POST",
        path=f"/replays/{{replay_id}}/{name}",
        name=f"{name}_replay",
        summary=f"{name.capitalize()} a replay; what is so already stays so",
        scope=Scope.REPLAYS_WRITE,
        place=models.ReplayPlace,
        answers={HTTPStatus.OK: models.Replay},
        refusals=frozenset({HTTPStatus.CONFLICT}),
    )


class _Replays:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def start(self, body: models.ReplayRequest) -> Reply:
        try:
            selection = _selection(body)
            if body.plan:
                return self._plan(body.level, selection)
            with self._runtime.database.write() as session:
                made = replay.start(session, Order(body.level, selection, g.actor, body.reason))
                found = _read(session, made)
        except BadSelection as error:
            raise wire.bad("selection", str(error)) from None
        answer = wire.answer(found, HTTPStatus.ACCEPTED)
        answer.headers["Location"] = f"/api/v1/replays/{made}"
        return answer

    def _plan(self, level: ReplayLevel, selection: Selection) -> Reply:
        runtime = self._runtime
        plan = replay.Planner(runtime.database, runtime.settings.sources, runtime.providers).plan(level, selection)
        return wire.answer(models.ReplayPlan.model_validate(plan))

    def list_replays(self, query: models.ReplaysQuery) -> Reply:
        with self._runtime.database.read() as session:
            found = replays.replays_made(session, limit=query.limit)
        return wire.answer(models.Replays(items=[models.Replay.model_validate(item) for item in found]))

    def one(self, replay_id: UUID) -> Reply:
        with self._runtime.database.read() as session:
            return wire.answer(_read(session, replay_id))

    def list_items(self, replay_id: UUID, query: models.ItemsQuery) -> Reply:
        with self._runtime.database.read() as session:
            _read(session, replay_id)
            wanted = ItemFilter(query.cursor, query.outcome)
            found = replays.items(session, replay_id, wanted, limit=query.limit + 1)
        items = [models.Item.model_validate(item) for item in found[: query.limit]]
        more = len(found) > query.limit
        return wire.answer(models.Items(items=items, next_cursor=str(items[-1].position) if more else None))

    def doing(self, deed: Callable[..., bool]) -> Callable[..., Reply]:
        """The view that does this to a replay. What is so already stays so; what is over cannot be changed."""

        def view(replay_id: UUID) -> Reply:
            with self._runtime.database.write() as session:
                try:
                    deed(session, replay_id, actor=g.actor)
                except UnknownReplay as error:
                    raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
                except ReplayIsOver as error:
                    raise Refused(HTTPStatus.CONFLICT, str(error)) from None
                return wire.answer(_read(session, replay_id))

        return view

    def list_lanes(self) -> Reply:
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
