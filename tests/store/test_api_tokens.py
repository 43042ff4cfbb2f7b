"""Tokens as they are stored: one good one for each name, and nothing of the token itself."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from worker.store import api_tokens
from worker.store.api_tokens import NewToken
from worker.store.engine import database_time
from worker.store.token_table import api_tokens as table

TOKEN = NewToken("ci", "a" * 64, "ops:read results:read", "cli:ada", None)
MINUTE = timedelta(minutes=1)


def other(number: int, **changes: object) -> NewToken:
    return replace(TOKEN, **{"name": f"ci-{number}", "sha256": f"{number:064x}", **changes})  # type: ignore[arg-type]


def names(session, now):
    return [token.name for token in api_tokens.live(session, now, limit=10)]


def test_a_token_is_there_until_it_is_revoked(database):
    with database.write() as session:
        now = database_time(session)
        assert api_tokens.add(session, TOKEN, now) is True
        [found] = api_tokens.live(session, now, limit=10)
        assert (found.name, found.sha256, found.scopes, found.expires_at) == ("ci", "a" * 64, TOKEN.scopes, None)

        assert api_tokens.revoke(session, "ci", now) is True

        assert names(session, now) == []
        assert api_tokens.revoke(session, "ci", now) is False
        assert api_tokens.revoke(session, "nobody", now) is False


def test_a_name_is_free_again_after_revoking(database):
    with database.write() as session:
        now = database_time(session)
        api_tokens.add(session, TOKEN, now)
        assert api_tokens.add(session, other(1, name="ci"), now) is False
        api_tokens.revoke(session, "ci", now)

        assert api_tokens.add(session, other(2, name="ci"), now) is True

        assert api_tokens.count(session) == 1
        rows = api_tokens.token_records(session)
    assert [(row["name"], row["revoked_at"] is None) for row in rows] == [("ci", False), ("ci", True)]
    assert {"sha256", "id"}.isdisjoint(rows[0])


def test_an_expired_token_is_not_live(database):
    with database.write() as session:
        now = database_time(session)
        for number, offset in enumerate((-MINUTE, timedelta(), MINUTE)):
            api_tokens.add(session, other(number, expires_at=now + offset), now)

        assert names(session, now) == ["ci-2"]
        assert api_tokens.count(session) == 3


def test_use_is_noted_once_in_a_while(database):
    with database.write() as session:
        now = database_time(session)
        api_tokens.add(session, TOKEN, now)
        api_tokens.add(session, other(1), now)
        token_id = api_tokens.live(session, now, limit=1)[0].id
        seen = []
        for moment in (now, now + MINUTE / 2, now + MINUTE):
            api_tokens.note_use(session, token_id, moment, unless_within=MINUTE)
            seen.append(session.scalar(select(table.c.last_used_at).where(table.c.id == token_id)))
        others = session.scalars(select(table.c.last_used_at).where(table.c.id != token_id)).all()

    assert seen == [now, now, now + MINUTE]
    assert others == [None]


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_are_read_than_wanted(database, limit):
    with database.write() as session:
        now = database_time(session)
        for number in range(3):
            api_tokens.add(session, other(number), now)

        assert len(api_tokens.live(session, now, limit=limit)) == limit
