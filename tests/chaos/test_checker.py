"""The checker itself: a right state passes, and each wrong one is reported as what it is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.checker import Acknowledged, Evidence, Kind, Told, check
from tests.chaos.faults import FAULTS
from tests.chaos.nemesis import schedule
from tests.chaos.run import Outcome
from tests.chaos.table import table
from tests.support.evidence import Row
from web.simulator.records import Ref

REF = Ref("persona", "inquiry", "inq_1")
START = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = "verification.result.created"
UPDATED = "verification.result.updated"


def resource(**changes: object) -> Row:
    row: Row = {
        "id": 7, "provider": REF.provider, "kind": REF.kind, "external_id": REF.external_id, "due_at": None,
        "claim_token": None, "wanted": 2, "retrieved": 2, "parked_at": None, "park_reason": None, "last_error": None,
    }  # fmt: skip
    return {**row, **changes}


def version(number: int, digest: str, **changes: object) -> Row:
    row: Row = {
        "resource_id": 7, "number": number, "content_sha256": digest, "kind": REF.kind,
        "external_id": REF.external_id, "read_started_at": START + timedelta(seconds=number),
    }  # fmt: skip
    return {**row, **changes}


def event(sequence: int | None, kind: str = CREATED, **changes: object) -> Row:
    row: Row = {
        "id": f"e{sequence}", "sequence": sequence, "type": kind, "source": "persona", "kind": REF.kind,
        "external_id": REF.external_id, "version": sequence,
    }  # fmt: skip
    return {**row, **changes}


def delivered(sequence: int) -> Row:
    return {"sink": "log", "sequence": sequence, "delivered_at": START}


def told(sequence: int, kind: str, subject: str | None = "persona/inquiry/inq_1") -> Told:
    return Told(sequence, f"e{sequence}", kind, subject)


RIGHT = Evidence(
    acknowledged=[Acknowledged(REF, 1, "k1", "d1"), Acknowledged(REF, 2, "k2", "d2"), Acknowledged(REF, 1, "k1", "d1")],
    truths={REF: {"old": 1, "new": 2}},
    digests={REF: "new"},
    deliveries=frozenset({"d1", "d2"}),
    resources=[resource()],
    versions=[version(1, "old"), version(2, "new")],
    results={7: 2},
    events=[event(1), event(2, UPDATED)],
    event_deliveries=[delivered(1), delivered(2)],
    unfinished_attempts=0,
    # The first one comes again, and late: that is what "at least once" means.
    told=[told(1, CREATED), told(2, UPDATED), told(1, CREATED)],
    leaks=[],
)
"""One record, told of twice and once again, and stored as two versions."""


def test_a_right_state_passes():
    assert check(RIGHT) == []


def test_what_is_parked_with_a_reason_need_not_be_stored():
    excused = resource(parked_at=START, park_reason="poison", retrieved=0)

    assert check(replace(RIGHT, resources=[excused], digests={}, versions=[], results={}, events=[], told=[])) == []


WRONG: dict[str, tuple[Kind, dict[str, Any]]] = {
    "a delivery is lost": (Kind.LOST, {"deliveries": frozenset({"d1"})}),
    "a document is lost": (Kind.LOST, {"digests": {}}),
    "work is forgotten": (Kind.LOST, {"resources": [resource(retrieved=1)]}),
    "an event was never written": (Kind.LOST, {"versions": [*RIGHT.versions, version(3, "x")], "results": {7: 3}}),
    "an event was not noted as delivered": (Kind.LOST, {"event_deliveries": [delivered(1)]}),
    "an event never reached the sink": (Kind.LOST, {"told": [told(1, CREATED)]}),
    "a repeat was recorded twice": (
        Kind.DUPLICATE,
        {"acknowledged": [*RIGHT.acknowledged, Acknowledged(REF, 2, "k2", "d1")]},
    ),
    "an event is there twice": (
        Kind.DUPLICATE,
        {
            "events": [*RIGHT.events, event(3, CREATED, version=1)],
            "event_deliveries": [*RIGHT.event_deliveries, delivered(3)],
            "told": [*RIGHT.told, told(3, CREATED)],
        },
    ),
    "two events have one id": (Kind.DUPLICATE, {"events": [event(1), event(2, UPDATED, id="e1")]}),
    "a version repeats its neighbour": (Kind.DUPLICATE, {"versions": [version(1, "new"), version(2, "new")]}),
    "the stored document is old": (Kind.STALE, {"digests": {REF: "old"}}),
    "the stored document is nobody's": (Kind.STALE, {"digests": {REF: "made up"}}),
    "an old version is shown": (Kind.STALE, {"results": {7: 1}}),
    "an older read came later": (
        Kind.STALE,
        {"versions": [version(1, "old"), version(2, "new", read_started_at=START)]},
    ),
    "a version is missing": (Kind.OTHER, {"versions": [version(2, "new")]}),
    "work is claimed for ever": (Kind.OTHER, {"resources": [resource(claim_token="t", due_at=START)]}),
    "an attempt never ended": (Kind.OTHER, {"unfinished_attempts": 1}),
    "parked without a reason": (Kind.OTHER, {"resources": [resource(parked_at=START)]}),
    "parked for a bug": (Kind.OTHER, {"resources": [resource(parked_at=START, park_reason="bug")]}),
    "an event has no number": (Kind.OTHER, {"events": [event(1), event(2, UPDATED), event(None, version=1)]}),
    "the sink got another event": (Kind.OTHER, {"told": [told(1, UPDATED), told(2, UPDATED)]}),
    "the sink got them in the wrong order": (Kind.OTHER, {"told": [told(2, UPDATED), told(1, CREATED)]}),
    "something leaked": (Kind.OTHER, {"leaks": ["a secret"]}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_reported(name):
    kind, changes = WRONG[name]

    assert kind in {violation.kind for violation in check(replace(RIGHT, **changes))}


def test_a_schedule_depends_on_its_seed_alone():
    one, again, other = (schedule(seed, FAULTS, 2) for seed in (1, 1, 2))

    assert one == again != other
    injections = [injection for lane in one.values() for injection in lane]
    assert len(injections) == sum(1 if fault.long else 2 for fault in FAULTS)
    for lane in one.values():
        assert [injection.at for injection in lane] == sorted(injection.at for injection in lane)


def test_the_table_adds_up_the_seeds():
    wrong = check(replace(RIGHT, deliveries=frozenset({"d1"})))
    runs = [Outcome("a", 1, acknowledged=2, quiet_seconds=3.0), Outcome("a", 2, acknowledged=1500, violations=wrong)]

    head, ruler, line = table([*runs]).splitlines()

    assert [cell.strip() for cell in line.split("|")][1:4] == ["a", "1, 2", "0"]
    assert [cell.strip() for cell in line.split("|")][4] == "1,502"
    assert [cell.strip() for cell in line.split("|")][8] == "1"
    assert len(head) == len(ruler) == len(line)
