"""Tokens across processes: made and revoked by a command, known to a server that runs, and in none of its lines."""

import time

import httpx
import pytest

from tests.flow.conftest import Install
from tests.support.evidence import rows
from tests.support.processes import Child, Installation, eventually
from worker.pipeline.api_tokens import KNOWN_SECONDS
from worker.settings import token_digest

pytestmark = pytest.mark.flow


def printed(child: Child) -> str:
    assert child.process.returncode == 0, child.log
    return child.output.strip()


def last_used(installation: Installation) -> object:
    [row] = rows(installation.database_url, "SELECT last_used_at FROM api_tokens")
    return row["last_used_at"]


def test_a_revoked_token_stops_working_in_a_process_that_runs(install: Install) -> None:
    installation = install(log_level="debug")
    server = installation.up()
    token = printed(installation.run("token", "create", "flow-reader", "--scope", "results:read"))
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=10) as api:

        def status(path: str = "/api/v1/results") -> int:
            return api.get(path).status_code

        assert status() == 200
        assert status("/api/v1/sources") == 403
        assert status(f"/api/v1/events?token={token}") == 400
        assert api.get("/api/v1/results", headers={"Authorization": f"Bearer {token * 400}"}).status_code == 431
        eventually(lambda: last_used(installation), "its use is noted")

        printed(installation.run("token", "revoke", "flow-reader"))
        revoked_at = time.monotonic()
        eventually(lambda: status() == 401, "it is refused")
        # With room for a busy machine. The command has ended, and so has committed, before the clock starts.
        assert time.monotonic() - revoked_at < KNOWN_SECONDS * 2

    assert server.stop() == 0
    for secret in (token, token_digest(token)):
        assert secret not in server.log + server.output
