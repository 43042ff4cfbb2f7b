"""Growth: what the same operations cost in a database with ten thousand deliveries, and in one with many more."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.growth_operations import OPERATIONS, Subject
from bench.growth_rows import fill
from bench.protocol import Bar, Contenders, Figure, Scenario, ratio
from bench.stage import Stage
from tests.store.databases import migrate
from tests.support.services import PostgresServer

FEW = 10_000

REPETITIONS_PER_SECOND = 4
"""Of each operation in a round, for each second that an effort gives to a measurement."""

SETTINGS = {
    "shared_buffers": "2GB",
    # Loading is not what is measured, and need not be written twice.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    # It would read pages of its own, and strike one database or the other.
    "autovacuum": "off",
}


@contextmanager
def open_databases(stage: Stage) -> Iterator[Contenders]:
    """A server with both databases. Ten million deliveries take some seventeen gigabytes and minutes to load."""
    repetitions = max(2, int(REPETITIONS_PER_SECOND * stage.effort.seconds))
    with PostgresServer(fsync=True, settings=SETTINGS) as server:
        urls = [server.create_database() for _ in range(2)]
        for url, deliveries in zip(urls, (FEW, stage.effort.rows), strict=True):
            migrate(url)
            fill(url.replace("+psycopg", ""), deliveries)
        few, many = (Subject(url) for url in urls)
        try:
            # The first time, plans are made and pages come from the disk.
            for subject in (few, many):
                subject.warm()
                subject.sample(2)
            yield {"few": lambda: few.sample(repetitions), "many": lambda: many.sample(repetitions)}
        finally:
            few.close()
            many.close()


def _figures() -> Iterator[Figure]:
    for name, words in OPERATIONS.items():
        yield ratio(f"{words}: CPU", ("many", f"{name}_cpu_ms"), ("few", f"{name}_cpu_ms"), Bar(1.3, at_least=False))
        yield ratio(f"{words}: pages", ("many", f"{name}_pages"), ("few", f"{name}_pages"))


SCENARIO = Scenario(
    name="growth",
    measures=(
        "What an operation costs with many deliveries (a million, or `--rows`), divided by what it costs with ten "
        "thousand: processors' time, of the client and of its PostgreSQL process, and pages of the database. An index "
        "of ten million entries is two levels deeper than one of ten thousand, so pages grow a little where nothing is "
        "wrong. Times by the clock are in the JSON."
    ),
    figures=tuple(_figures()),
    open=open_databases,
)
