"""`/livez`, `/readyz` and `/metrics`: is the process answering, and could it do its work?"""

from collections.abc import Callable

from flask import Blueprint, Response, jsonify
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from worker.errors import SchemaMismatch
from worker.runtime import Runtime
from worker.store import schema
from worker.store.engine import UNAVAILABLE

Check = Callable[[], str | None]


def blueprint(runtime: Runtime, extra_checks: dict[str, Check]) -> Blueprint:
    """The health routes. Each check returns None when all is well, or one sentence."""
    routes = Blueprint("health", __name__)
    checks: dict[str, Check] = {
        "database": lambda: _database_trouble(runtime),
        "broker": runtime.broker_trouble,
        **extra_checks,
    }

    @routes.get("/livez")
    def livez() -> Response:
        return jsonify(status="ok")

    @routes.get("/readyz")
    def readyz() -> Response:
        troubles = {name: trouble for name, check in checks.items() if (trouble := check())}
        answer = jsonify(
            status="not ready" if troubles else "ok", checks={name: troubles.get(name, "ok") for name in checks}
        )
        if troubles:
            answer.status_code = 503
            answer.headers["Retry-After"] = "5"
        return answer

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    return routes


def _database_trouble(runtime: Runtime) -> str | None:
    try:
        schema.require_current(runtime.database)
    except SchemaMismatch as error:
        return str(error)
    except UNAVAILABLE as error:
        return f"the database is not available ({type(error).__name__})"
    return None
