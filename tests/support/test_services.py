"""The tests' own servers are real, and can be broken and repaired."""

from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import create_engine, text

from tests.support.services import Postgres, PostgresServer, RedisServer, redis_client


@pytest.mark.postgres
def test_postgres_answers_through_sqlalchemy(postgres_url):
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        version = connection.execute(text("SELECT version()")).scalar_one()
    engine.dispose()

    assert version.startswith("PostgreSQL ")


@pytest.mark.postgres
def test_databases_are_copies_of_a_template_that_is_built_once(postgres_server: Postgres):
    built = []

    def build(url):
        built.append(url)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE animals (name text)"))
        engine.dispose()

    urls = [postgres_server.create_database(postgres_server.template("copies", build)) for _ in range(2)]
    try:
        for url in urls:
            engine = create_engine(url)
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO animals VALUES ('cat')"))
                count = connection.execute(text("SELECT count(*) FROM animals")).scalar_one()
            engine.dispose()
            assert count == 1
    finally:
        for url in urls:
            postgres_server.drop_database(url)

    assert len(built) == 1
    assert len(set(urls)) == 2


@pytest.mark.postgres
@pytest.mark.parametrize("mode", ["fast", "kill"])
def test_postgres_keeps_what_was_committed_when_it_is_stopped(mode, own_postgres):
    own_postgres.execute("CREATE TABLE kept (number int)")
    own_postgres.execute("INSERT INTO kept VALUES (7)")

    own_postgres.stop(mode)
    with pytest.raises(psycopg.OperationalError):
        own_postgres.execute("SELECT 1")
    own_postgres.start()

    assert own_postgres.execute("SELECT number FROM kept") == [(7,)]


@pytest.mark.redis
def test_redis_answers(redis_url):
    with redis_client(redis_url) as client:
        assert client.ping() is True
        assert client.dbsize() == 0


@pytest.mark.redis
def test_redis_can_be_frozen_killed_and_started_again(own_redis):
    own_redis.pause()
    frozen = redis.Redis.from_url(own_redis.url, socket_timeout=0.2, retry=None)
    with pytest.raises(redis.TimeoutError):
        frozen.ping()
    frozen.close()
    own_redis.resume()

    own_redis.kill()
    with redis_client(own_redis.url) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    own_redis.start()

    with redis_client(own_redis.url) as client:
        assert client.ping() is True


@pytest.mark.postgres
@pytest.mark.redis
def test_nothing_remains_of_a_removed_server(postgres_server, redis_server_url):
    # The session's servers are asked for first, so that this test is skipped where there are none.
    with PostgresServer() as postgres, RedisServer() as broker:
        pids = [postgres.pid, broker.pid]
        homes = [postgres.home, broker.home]

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(home.exists() for home in homes)


@pytest.fixture
def own_postgres(postgres_server):
    """A server that this test may break."""
    with PostgresServer(fsync=True) as server:
        yield server


@pytest.fixture
def own_redis(redis_server_url):
    """A server that this test may break."""
    with RedisServer() as server:
        yield server
