"""Results that are expected by a time: those that no webhook told of are fetched, and what never comes is told once."""

import time
from datetime import timedelta

import pytest

from tests.flow.conftest import Install
from tests.support.evidence import Flow, Row, decoded, flow
from tests.support.processes import eventually
from web.simulator.records import Record
from web.simulator.server import Simulator
from worker.clock import utc_now
from worker.reports.build import time_text

pytestmark = pytest.mark.flow

PATH = "/api/v1/expectations"


def expect(running: Flow, **named: str) -> str:
    """Expect a result within a second; returns the expectation's path."""
    deadline = time_text(utc_now() + timedelta(seconds=1))
    answer = running.api.post(PATH, json={"deadline": deadline, **named})
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def about(record: Record) -> dict[str, str]:
    return {"source": record.ref.provider, "kind": record.ref.kind, "external_id": record.ref.external_id}


def becomes(running: Flow, path: str, state: str) -> Row:
    def look() -> Row | None:
        found: Row = running.api.get(path).json()
        return found if found["state"] == state else None

    return eventually(look, f"{path} is {state}")


def overdue(running: Flow) -> list[Row]:
    found = running.rows("SELECT data FROM v1_events WHERE type = 'verification.overdue' ORDER BY sequence")
    return [decoded(row["data"]) for row in found]


def test_what_is_expected_is_fetched_or_told_to_be_overdue(install: Install, simulator: Simulator):
    world = simulator.world
    untold = world.change(world.create("yoti", "session").ref, "approve")
    pending = world.create("gu1", "kyc-validation")
    installation = install()
    child = installation.up()
    with flow(simulator, installation, child.url) as running:
        fetched = expect(running, **about(untold))
        unknown = expect(running, source="persona", kind="inquiry", reference="Jane Doe")
        late = expect(running, **about(pending))

        becomes(running, fetched, "met")
        assert running.result(untold.ref)["stage"] == "decided"
        assert len(world.calls("yoti")) == 1
        becomes(running, unknown, "overdue")
        becomes(running, late, "overdue")

        assert running.tell(world.change(pending.ref, "approve")).status == 200
        becomes(running, late, "met_late")
        told = eventually(lambda: (found := overdue(running)) and len(found) == 2 and found, "both are told")
        assert isinstance(told, list)
        # Each is looked at once a second or so, and told no second time.
        time.sleep(2)
        assert overdue(running) == told
        reasons = {str(event["expectation"]): event["reason"] for event in told}
        assert reasons == {unknown.rpartition("/")[2]: "unknown", late.rpartition("/")[2]: "undecided"}
        assert "Jane" not in str(told)

        listed = running.api.get(PATH, params={"state": "overdue"}).json()["items"]
        assert [item["id"] for item in listed] == [unknown.rpartition("/")[2]]
        status = installation.run("status", "--json")
        assert decoded(status.output)["overdue"] == 1
    assert child.stop() == 0
    assert "Jane" not in child.log
