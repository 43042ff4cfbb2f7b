"""What stands before every simulated endpoint: it notes the call, plays the faults, and asks for the credentials."""

import json
from dataclasses import dataclass
from typing import Protocol

from flask import Blueprint, Response, g, request

from web.simulator.credentials import Credentials
from web.simulator.faults import FaultBoard, Faults
from web.simulator.records import Call
from web.simulator.world import World
from worker.domain.strict_json import Json

HTML = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Site:
    """What every view may use."""

    world: World
    credentials: Credentials
    faults: FaultBoard


class Dialect(Protocol):
    """How one provider speaks: its refusals, and the headers that it adds."""

    default_limit: int | None
    """Calls a minute where no fault says otherwise. Given for a provider that announces its limit."""

    def error(self, status: int) -> Response:
        """This provider's error body for a status."""

    def authenticate(self, site: Site) -> Response | None:
        """The refusal, or None if the caller may read."""

    def headers(self, limit: int, remaining: int, reset: int) -> dict[str, str]:
        """The headers of every authenticated answer."""


def json_response(body: Json, status: int = 200) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status=status, content_type="application/json; charset=utf-8")


def guard(blueprint: Blueprint, provider: str, site: Site, dialect: Dialect) -> None:
    """Put the gate before all views of a blueprint, and let unknown paths below it answer as the provider does."""

    @blueprint.before_request
    def enter() -> Response | None:
        return _enter(provider, site, dialect)

    @blueprint.after_request
    def leave(response: Response) -> Response:
        return _leave(response, provider, site, dialect)

    @blueprint.get("/<path:unknown>")
    def nothing_here(unknown: str) -> Response:
        return dialect.error(404)


def _enter(provider: str, site: Site, dialect: Dialect) -> Response | None:
    external_id = (request.view_args or {}).get("external_id")
    call = Call(provider, request.method, request.path, external_id, site.world.now())
    g.call_number = site.world.begin_call(call)
    if site.faults.on_call is not None:
        site.faults.on_call(call)
    faults = site.faults.get(provider)
    _delay(provider, site.faults, faults)
    if faults.outage:
        return dialect.error(503)
    refusal = dialect.error(401) if faults.wrong_credentials else dialect.authenticate(site)
    if refusal is not None:
        return refusal
    if not _within_limit(provider, site.faults, faults, dialect):
        return dialect.error(429)
    return _scripted(site.faults, external_id) or (dialect.error(500) if _fails(site.faults, faults) else None)


def _delay(provider: str, board: FaultBoard, faults: Faults) -> None:
    slow = faults.slow_share > 0 and board.strikes(faults.slow_share)
    board.sleep(faults.slow_latency if slow else faults.latency)
    if faults.hang and board.strikes(faults.share):
        board.wait_while_hanging(provider)


def _within_limit(provider: str, board: FaultBoard, faults: Faults, dialect: Dialect) -> bool:
    limit = faults.rate_limit_per_minute or dialect.default_limit
    if limit is None:
        return True
    fits, remaining, reset = board.take(provider, limit)
    g.rate = (limit, remaining, reset)
    return fits


def _fails(board: FaultBoard, faults: Faults) -> bool:
    return faults.error_rate > 0 and board.strikes(faults.error_rate)


def _scripted(board: FaultBoard, external_id: str | None) -> Response | None:
    answer = board.pop_script(external_id)
    if answer is None:
        return None
    g.scripted = True
    board.sleep(answer.delay)
    response = Response(answer.body, status=answer.status, content_type="application/json")
    response.headers.update(answer.headers)
    return response


def _leave(response: Response, provider: str, site: Site, dialect: Dialect) -> Response:
    if "rate" in g:
        response.headers.update(dialect.headers(*g.rate))
    faults = site.faults.get(provider)
    if response.status_code == 200 and "scripted" not in g and site.faults.strikes(faults.share):
        _spoil(response, faults)
    site.world.end_call(g.call_number, response.status_code)
    return response


def _spoil(response: Response, faults: Faults) -> None:
    body = response.get_data()
    if faults.big_megabytes:
        response.set_data(body[:-1] + b',"padding":"' + b"x" * int(faults.big_megabytes * MEGABYTE) + b'"}')
    elif faults.html:
        response.set_data(HTML)
        response.content_type = "text/html"
    elif faults.empty:
        response.set_data(b"")
    elif faults.truncated:
        response.set_data(body[: len(body) // 2])
        # The announced length is that of the whole body, so the connection ends too early, as a broken one does.
        response.headers["Content-Length"] = str(len(body))


def bearer(expected: str) -> bool | None:
    """Whether the request carries this bearer token; None if it carries no Authorization at all."""
    header = request.headers.get("Authorization")
    return None if header is None else header == f"Bearer {expected}"


def page_number(text: str | None, default: int, low: int, high: int) -> int | None:
    """A whole number from the query, or None where it is none or out of range."""
    if text is None:
        return default
    return int(text) if text.isdigit() and low <= int(text) <= high else None
