"""`/livez`, `/readyz` and `/metrics`: is the process answering, and could it do its work?"""

from collections.abc import Callable

from flask import Blueprint, Response, jsonify
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from worker.errors import SchemaMismatch
from worker.runtime import Runtime
from worker.store import schema
from worker.store.engine import UNAVAILABLE

Check = Callable[[], str | None]

OK = "ok"
NEWER = "ok, newer than this release"
"""While a newer release is being deployed, the receivers of this one still take webhooks, and must not be taken out."""

SPOOLING = "away; webhooks are taken into the spool"
"""So may receivers with a spool: taken out of a balancer, they could not keep what they are there to keep."""


def blueprint(runtime: Runtime, extra_checks: dict[str, Check]) -> Blueprint:
    """The health routes. Each check returns None, NEWER or SPOOLING when webhooks can be taken, else one sentence."""
    routes = Blueprint("health", __name__)
    checks: dict[str, Check] = {
        "database": lambda: _database(runtime),
        "broker": runtime.broker_trouble,
        **extra_checks,
    }

    @routes.get("/livez")
    def livez() -> Response:
        return jsonify(status="ok")

    @routes.get("/readyz")
    def readyz() -> Response:
        found = {name: check() or OK for name, check in checks.items()}
        ready = all(text in (OK, NEWER, SPOOLING) for text in found.values())
        answer = jsonify(status=OK if ready else "not ready", checks=found)
        if not ready:
            answer.status_code = 503
            answer.headers["Retry-After"] = "5"
        return answer

    def metrics() -> Response:
        return Response(runtime.exposition.text(), content_type=CONTENT_TYPE_LATEST)

    # With a port of its own it is meant to be nowhere else.
    if runtime.settings.metrics_port is None:
        routes.add_url_rule("/metrics", view_func=metrics)

    return routes


def _database(runtime: Runtime) -> str | None:
    spooling = runtime.spooling
    if spooling is not None and spooling.away:
        # Whoever asks gets an answer at once, whatever the database does with questions.
        return spooling.trouble() or SPOOLING
    try:
        return NEWER if schema.newer_revision(runtime.database) else None
    except SchemaMismatch as error:
        return str(error)
    except UNAVAILABLE as error:
        if spooling is not None:
            return spooling.trouble() or SPOOLING
        return f"the database is not available ({type(error).__name__})"
