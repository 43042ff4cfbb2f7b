"""Attempts that land together: written in one go, each as if it were alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.store.play import (
    APPROVED,
    EARLY,
    ERASED,
    LATE,
    SITUATION,
    claim,
    claim_one,
    document,
    event_types,
    make_due,
    reading,
    ref,
    resource,
    retrieved,
    rows,
    want,
)
from worker.domain.model import Check, Drift
from worker.domain.retry import Failure
from worker.domain.states import AttemptOutcome, CheckOutcome, FailureKind, Priority
from worker.pipeline.write import Landed, write
from worker.store import resources, sources
from worker.store.claims import Claim
from worker.store.tables import attempts, checks, drift_issues, results, version_bodies, versions
from worker.store.tables import resources as resources_table

STORED, UNCHANGED, FENCED = AttemptOutcome.STORED, AttemptOutcome.UNCHANGED, AttemptOutcome.FENCED
STALE, FAILED = AttemptOutcome.STALE, AttemptOutcome.FAILED


def landed(held, found=None, content=None, situation=SITUATION):
    return Landed(held, (found or reading(), document(content or {"id": held.key.ref.external_id})), situation)


def failed(held, kind=FailureKind.TIMEOUT):
    return Landed(held, Failure(kind, "because"), SITUATION)


def write_all(database, *items):
    with database.write() as session:
        return write(session, items)


def held_by_id(database, *ids):
    """Claims on these resources, by their ids."""
    want(database, *ids)
    return {item.key.ref.external_id: item for item in claim(database, limit=100)}


def test_each_of_a_group_has_an_end_of_its_own(database):
    retrieved(database, "inq_same", id="inq_same")
    retrieved(database, "inq_old", reading(updated=LATE))
    lost = held_by_id(database, "inq_lost")["inq_lost"]
    make_due(database, "inq_lost")
    claim_one(database)
    held = held_by_id(database, "inq_new", "inq_same", "inq_old", "inq_failed", "inq_parked")

    outcomes = write_all(
        database,
        failed(held["inq_failed"]),
        landed(lost),
        landed(held["inq_new"], reading(APPROVED)),
        landed(held["inq_old"], reading(updated=EARLY)),
        failed(held["inq_parked"], FailureKind.REJECTED),
        landed(held["inq_same"]),
    )

    assert outcomes == [FAILED, FENCED, STORED, STALE, FAILED, UNCHANGED]
    assert resource(database, "inq_new").version == 1
    assert resource(database, "inq_same").version == 1
    assert resource(database, "inq_lost").version == 0
    assert resource(database, "inq_failed").failures == resource(database, "inq_old").failures == 1
    assert resource(database, "inq_parked").park_reason == "rejected"
    assert event_types(database, "inq_new") == ["created", "decided"]
    assert event_types(database, "inq_parked") == ["parked"]
    assert event_types(database, "inq_failed") == event_types(database, "inq_lost") == []
    ended = {(row.resource_id, row.number): row.outcome for row in rows(database, attempts)}
    assert ended[held["inq_new"].resource_id, 1] == "stored"
    assert ended[held["inq_same"].resource_id, 2] == "unchanged"
    assert ended[held["inq_old"].resource_id, 2] == "stale"
    assert ended[held["inq_failed"].resource_id, 1] == "failed"
    assert ended[lost.resource_id, 1] == "crashed"


def test_what_belongs_to_one_does_not_land_at_another(database):
    held = held_by_id(database, *(f"inq_{number}" for number in range(20)))
    items = [
        landed(
            one,
            reading(
                reference=name,
                checks=tuple(Check(f"{name} {place}", CheckOutcome.PASSED, reasons=(name,)) for place in range(3)),
            ),
            {"name": name, "list": [name, [name]]},
        )
        for name, one in held.items()
    ]

    assert write_all(database, *items) == [STORED] * 20

    names = {row.id: name for name in held for row in [resource(database, name)]}
    owners = {row.id: row.resource_id for row in rows(database, versions)}
    assert {row.resource_id: row.reference for row in rows(database, results)} == names
    assert {owners[row.version_id] for row in rows(database, version_bodies)} == set(names)
    for row in rows(database, checks):
        name = names[owners[row.version_id]]
        assert (row.name, row.reasons) == (f"{name} {row.position}", [name])


def test_a_group_that_is_all_lost_changes_nothing(database):
    held = held_by_id(database, "inq_1", "inq_2")
    for name in held:
        make_due(database, name)
    claim(database)
    before = rows(database, resources_table)

    assert write_all(database, *(landed(one) for one in held.values())) == [FENCED, FENCED]
    assert rows(database, resources_table) == before


def test_two_claims_on_one_resource_in_one_group(database):
    """The first outlived its lease, and the second was made by the same process."""
    old = held_by_id(database, "inq_1")["inq_1"]
    make_due(database)
    new = claim_one(database)

    assert write_all(database, landed(old, content={"of": "old"}), landed(new, content={"of": "new"})) == [
        FENCED,
        STORED,
    ]
    assert [row.number for row in rows(database, versions)] == [1]


def test_what_is_final_in_the_group_is_not_wanted_again(database):
    """An inquiry and the verification that it names are read together. The verification needs no second read."""
    held = held_by_id(database, "inq_1", "inq_2")
    names_the_other = reading(related=(ref("inq_2"),))

    write_all(database, landed(held["inq_1"], names_the_other), landed(held["inq_2"], reading(APPROVED)))

    assert (resource(database, "inq_2").wanted, resource(database, "inq_2").due_at) == (1, None)


@pytest.mark.parametrize("together", [True, False])
def test_one_that_failed_and_is_named_by_its_neighbour_is_tried_again(database, together):
    held = held_by_id(database, "inq_names", "inq_gone")
    names = landed(held["inq_names"], reading(related=(ref("inq_gone"),)))
    gone = failed(held["inq_gone"], FailureKind.REJECTED)

    for group in [[names, gone]] if together else [[names], [gone]]:
        write_all(database, *group)

    found = resource(database, "inq_gone")
    assert found.wanted > found.retrieved
    assert (found.park_reason, found.due_at is not None) == (None, True)


def test_whole_numbers_and_fractions_in_one_column(database):
    held = held_by_id(database, "inq_1", "inq_2")
    scores = tuple(Check(f"check {score}", CheckOutcome.PASSED, score=score) for score in (1, 0.5, None))

    write_all(
        database,
        landed(held["inq_1"], reading(score=100, checks=scores)),
        landed(held["inq_2"], reading(score=0.25, checks=scores)),
    )

    assert sorted(row.score for row in rows(database, results)) == [0.25, 100]
    assert [row.score for row in rows(database, checks)] == [1, 0.5, None] * 2


def test_what_several_name_is_wanted_once_and_as_urgently_as_the_most_urgent(database):
    want(database, "inq_1", priority=Priority.REPLAY)
    want(database, "inq_2")
    held = {item.key.ref.external_id: item for item in claim(database)}
    names = reading(related=(ref("rep_1", "report/profile"),))

    write_all(database, *(landed(held[name], names) for name in ("inq_1", "inq_2")))

    found = resource(database, "rep_1")
    assert (found.wanted, found.priority) == (1, Priority.LIVE)


def test_unknown_values_are_counted_for_each_document(database):
    held = held_by_id(database, "inq_1", "inq_2", "inq_3")
    strange = reading(drift=(Drift("status", "new"), Drift("status", "new")))

    write_all(database, *(landed(one, strange) for one in held.values()))

    [issue] = rows(database, drift_issues)
    assert issue.seen == 3


def test_one_that_was_the_last_of_its_window_lets_the_source_wait(database):
    held = held_by_id(database, "inq_1", "inq_2")
    last = replace(SITUATION, exhausted_for=timedelta(seconds=30))

    write_all(database, landed(held["inq_1"]), landed(held["inq_2"], situation=last))

    with database.read() as session:
        assert sources.state(session, held["inq_1"].key.source).throttled_until is not None


def test_an_erasure_in_a_group_empties_its_own_versions_only(database):
    retrieved(database, "inq_1", told=1)
    retrieved(database, "inq_2", told=1)
    held = held_by_id(database, "inq_1", "inq_2")

    write_all(database, landed(held["inq_1"], reading(ERASED), {"told": 2}), landed(held["inq_2"], content={"told": 2}))

    emptied = {row.version_id for row in rows(database, version_bodies) if row.erased_at is not None}
    assert {(row.resource_id, row.number) for row in rows(database, versions) if row.id in emptied} == {
        (held["inq_1"].resource_id, 1)
    }


@pytest.mark.postgres
def test_two_groups_that_name_each_other_do_not_wait_for_each_other(postgres_database):
    """Each inquiry names one of the other group, over and over: whoever took rows in another order would deadlock."""
    ids = [f"inq_{number:02}" for number in range(12)]
    start = threading.Barrier(2)

    def take_part(mine, others):
        for turn in range(15):
            held = held_by_id_of(mine)
            start.wait(20)
            write_all(
                postgres_database,
                *(
                    landed(one, reading(related=(ref(others[place % len(others)]),)), {"turn": turn, "id": name})
                    for place, (name, one) in enumerate(sorted(held.items(), reverse=True))
                ),
            )

    def held_by_id_of(names):
        want(postgres_database, *names)
        found: dict[str, Claim] = {}
        while len(found) < len(names):
            for item in claim(postgres_database, limit=100):
                if item.key.ref.external_id in names:
                    found[item.key.ref.external_id] = item
                else:
                    make_due(postgres_database, item.key.ref.external_id)
        return found

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(take_part, ids[::2], ids[1::2])
        take_part(ids[1::2], ids[::2])
        other.result(60)

    with postgres_database.read() as session:
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert session.execute(text(deadlocks)).scalar_one() == 0


@pytest.mark.postgres
def test_a_claim_reads_no_more_than_it_takes(postgres_database):
    """The planner of a prepared statement does not know the limit, and must not read the whole table for it."""
    want(postgres_database, *(f"inq_{number:04}" for number in range(3000)))
    with postgres_database.write() as session:
        session.execute(text("ANALYZE resources"))
    with postgres_database.write() as session:
        session.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        session.connection().connection.driver_connection.prepare_threshold = 0

        held = resources.claim(session, "persona-live", limit=5, lease=timedelta(minutes=1))
        write(session, [landed(item, reading(related=(ref("inq_2999"),))) for item in held])

        scans = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'resources'"
        assert (len(held), session.execute(text(scans)).scalar_one()) == (5, 0)
