"""What `verisink doctor` looks at. Each check says how it stands and, unless all is well, what to do."""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import redis

from worker.cli.common import database_name, sqlite_file
from worker.clock import unix_seconds, utc_now
from worker.domain.retry import Failure
from worker.domain.scopes import TokenState
from worker.domain.states import FailureKind
from worker.errors import ConfigurationError, SchemaMismatch, SpoolUnusable
from worker.providers.base import Provider
from worker.providers.client import ProviderClient, RetrieveFailed
from worker.reports.api_tokens import tokens
from worker.runtime import Runtime
from worker.settings import CREDENTIAL_KEYS, WEBHOOK_SECRET_KEYS, Settings, Source, masked_url, warnings
from worker.settings_text import display_name
from worker.sinks.base import CannotDeliver, Checked, Sink
from worker.sinks.registry import make_sink
from worker.store import query_status, schema, spool
from worker.store.engine import REFUSED, UNAVAILABLE, database_time

MOST_SKEW = timedelta(seconds=5)
"""Hosts with a running time service are milliseconds apart. Seconds mean that it does not run."""

LITTLE_DISK = 1 << 30
NO_DISK = 100 << 20
"""A full disk stops the intake, and SQLite needs room for its log while it commits."""

PROBE_SECONDS = 10.0

_DURABLE: Mapping[str, frozenset[str]] = {
    "fsync": frozenset({"on"}),
    "synchronous_commit": frozenset({"on", "local", "remote_write", "remote_apply"}),
    "journal_mode": frozenset({"wal"}),
    "synchronous": frozenset({"2", "3"}),
}
"""With any other value a power cut, or a crash of the machine, undoes commits that were acknowledged."""

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """How one thing stands: `ok`, `warn` or `fail`."""

    name: str
    state: str
    detail: str
    todo: str | None = None


def settings_checks(settings: Settings) -> Iterator[Check]:
    """Whether what is configured can do any work."""
    found = warnings(settings)
    for sentence in found:
        yield Check("settings", WARN, sentence, "set it, or remove the source")
    if not settings.sources:
        yield Check("settings", WARN, "no source is configured", "set VERISINK_SOURCES__<SLUG>__PROVIDER and its keys")
    elif not found:
        yield Check("settings", OK, f"{len(settings.sources)} sources: {', '.join(settings.sources)}")


def settings_broken(error: ConfigurationError) -> Iterator[Check]:
    """Each thing that is wrong with the settings. Nothing else can be checked then."""
    for sentence in error.problems:
        yield Check("settings", FAIL, sentence, "mend it and run `verisink doctor` again")


def database_checks(runtime: Runtime) -> Iterator[Check]:
    """Whether the database can be used, would survive a power cut, and has the schema of this release."""
    name = database_name(runtime.settings)
    path = sqlite_file(runtime.settings)
    if path is not None:
        yield _disk(path)
        if not path.exists():
            yield Check("database", WARN, f"{name} does not exist yet", "run `verisink up` or `verisink migrate`")
            return
    try:
        with runtime.database.read() as session:
            found = query_status.durability(session)
            before = utc_now()
            skew = database_time(session) - before - (utc_now() - before) / 2
    except UNAVAILABLE as error:
        todo = "check VERISINK_DATABASE_URL, and that its server runs and lets this host in"
        yield Check("database", FAIL, f"{name} cannot be used ({type(error).__name__})", todo)
        return
    yield Check("database", OK, f"{name} answers" + (f", version {found['server_version']}" if path is None else ""))
    yield _durability(found)
    yield _schema(runtime)
    yield _clock(skew)


def api_checks(runtime: Runtime) -> Iterator[Check]:
    """Whether anybody can use the API."""
    own, made = len(runtime.settings.api_tokens), 0
    path = sqlite_file(runtime.settings)
    if path is None or path.exists():
        try:
            with runtime.database.read() as session:
                made = sum(token.state is TokenState.GOOD for token in tokens(session))
        except REFUSED:
            # It is away, or its schema is older: the checks of the database say so.
            made = 0
    if own or made:
        yield Check("api", OK, f"{own} tokens in the settings, {made} in the database")
    else:
        yield Check("api", WARN, "no token: /api/v1 refuses everybody", "make one with `verisink token create`")


def _disk(path: Path) -> Check:
    folder = path.absolute().parent
    if not folder.is_dir():
        return Check("disk", FAIL, f"{folder} does not exist", "make it, or change VERISINK_DATABASE_URL")
    free = shutil.disk_usage(folder).free
    state = FAIL if free < NO_DISK else WARN if free < LITTLE_DISK else OK
    return Check("disk", state, f"{free / (1 << 30):.1f} GiB free", None if state == OK else "make room")


def spool_checks(settings: Settings) -> Iterator[Check]:
    """Whether the spool, if there is to be one, could take webhooks, and whether some of an outage still wait in it."""
    folder = settings.spool_dir
    if folder is None:
        return
    place = folder if folder.exists() else folder.absolute().parent
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        yield Check("spool", FAIL, f"{place} is no folder that may be written", "make it, or change VERISINK_SPOOL_DIR")
        return
    try:
        kept = spool.look(folder)
    except SpoolUnusable as error:
        yield Check("spool", FAIL, f"{folder}: {error}", "move its files aside, and keep them for whoever mends them")
        return
    free = shutil.disk_usage(place).free
    detail = f"{kept.deliveries} deliveries, {kept.bytes / (1 << 20):.1f} MiB; {free / (1 << 30):.1f} GiB free"
    if free < settings.spool_min_free_bytes or kept.bytes >= settings.spool_max_bytes:
        yield Check("spool", FAIL, f"full: {detail}", "make room, or change VERISINK_SPOOL_MAX_BYTES and its neighbour")
    elif kept.deliveries:
        yield Check("spool", WARN, detail, "they are handed over by a running receiver once the database takes writes")
    else:
        yield Check("spool", OK, f"empty; {free / (1 << 30):.1f} GiB free")


def _durability(found: Mapping[str, str]) -> Check:
    bad = [f"{name} is {found[name]}" for name, good in _DURABLE.items() if name in found and found[name] not in good]
    if not bad:
        return Check("durability", OK, "a commit survives a power cut")
    todo = "switch it on in PostgreSQL's settings" if "fsync" in found else "use a local disk: SQLite needs WAL"
    return Check("durability", FAIL, f"{', '.join(bad)}: what was acknowledged may be lost", todo)


def _schema(runtime: Runtime) -> Check:
    try:
        schema.require_current(runtime.database)
    except SchemaMismatch as error:
        sentence, _, todo = str(error).partition(": ")
        return Check("migrations", FAIL, sentence, todo)
    return Check("migrations", OK, f"the schema is at {schema.head()}")


def _clock(skew: timedelta) -> Check:
    seconds = abs(skew.total_seconds())
    if abs(skew) < MOST_SKEW:
        return Check("clock", OK, f"this host and the database differ by {seconds:.1f} s")
    detail = f"this host and the database differ by {seconds:.0f} s; Persona's signatures are refused when they are old"
    return Check("clock", FAIL, detail, "let both follow a time service (NTP)")


def broker_checks(runtime: Runtime) -> Iterator[Check]:
    """Whether nudges get through, and where rate budgets are counted."""
    settings = runtime.settings
    if settings.broker_url is None:
        yield Check("broker", OK, "embedded: the worker runs inside `verisink up`")
    else:
        url = masked_url(settings.broker_url.get_secret_value())
        trouble = runtime.broker_trouble()
        todo = "check VERISINK_BROKER_URL, and that its server runs" if trouble else None
        yield Check("broker", FAIL if trouble else OK, trouble or f"{url} answers", todo)
    if settings.redis_url is not None and settings.budget_url is not None:
        yield _redis(settings.budget_url)


def _redis(url: str) -> Check:
    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=None) as client:
            client.ping()
    except redis.RedisError as error:
        detail = f"{masked_url(url)} does not answer ({type(error).__name__}); each process counts its budget alone"
        return Check("redis", WARN, detail, "check VERISINK_REDIS_URL, and that its server runs")
    return Check("redis", OK, f"{masked_url(url)} answers")


def sink_checks(settings: Settings) -> Iterator[Check]:
    """Whether each sink that can be looked at could be given something."""
    for name, sink in settings.complete_sinks.items():
        if sink.type == "redis_stream" and sink.url is not None:
            yield _stream(f"sink {name}", sink.url.get_secret_value(), sink.stream)
        else:
            yield from _sink(f"sink {name}", make_sink(name, sink))


def _sink(name: str, sink: Sink) -> Iterator[Check]:
    try:
        if isinstance(sink, Checked):
            yield Check(name, OK, sink.check())
    except CannotDeliver as error:
        yield Check(name, FAIL if error.fails else WARN, str(error), error.todo)
    except Exception as error:  # noqa: BLE001 - a sink of another package may raise anything
        yield Check(name, FAIL, f"looking at it raised {type(error).__name__}", "ask whoever made this type of sink")
    finally:
        sink.close()


def _stream(name: str, url: str, stream: str) -> Check:
    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=None) as client:
            held = client.type(stream)
    except redis.RedisError as error:
        detail = f"{masked_url(url)} does not answer ({type(error).__name__}); its events wait in the database"
        return Check(name, WARN, detail, "check the sink's url, and that its server runs")
    if held not in (b"stream", b"none"):
        detail = f"{stream} at {masked_url(url)} is no stream"
        return Check(name, FAIL, detail, "name another stream, or delete that key")
    return Check(name, OK, f"{masked_url(url)} answers")


def source_checks(runtime: Runtime, *, offline: bool) -> Iterator[Check]:
    """Whether each source can take webhooks, and whether its provider accepts its credential."""
    sources = list(runtime.settings.sources.values())
    for source in sources:
        yield _webhooks(source)
    if offline or not sources:
        return
    limit = runtime.settings.max_document_bytes
    with (
        ProviderClient(call_deadline=PROBE_SECONDS, max_bytes=limit) as client,
        ThreadPoolExecutor(min(len(sources), 8)) as pool,
    ):
        yield from pool.map(partial(_credential, runtime, client), sources)


def _webhooks(source: Source) -> Check:
    name, key = f"{source.slug}: webhooks", WEBHOOK_SECRET_KEYS.get(source.provider, "")
    if not key:
        return Check(name, OK, f"its secrets are known to the package of {source.provider}")
    if key in source.missing:
        return Check(name, FAIL, f"{key} is not set: every webhook is refused", f"set {_setting(source, key)}")
    return Check(name, OK, f"{key} is set")


def _credential(runtime: Runtime, client: ProviderClient, source: Source) -> Check:
    name = f"{source.slug}: credential"
    missing = source.missing_credentials
    if missing:
        todo = "set " + " and ".join(_setting(source, key) for key in missing)
        return Check(name, FAIL, f"{', '.join(missing)} not set: nothing can be retrieved", todo)
    try:
        _probe(runtime.providers[source.provider], client, source)
    except ConfigurationError as error:
        return Check(name, FAIL, "; ".join(error.problems), f"mend {_setting(source, 'private_key')}")
    except RetrieveFailed as error:
        return _judge(name, source, error.failure)
    return Check(name, OK, f"{source.base_url} accepts it")


def _probe(provider: Provider, client: ProviderClient, source: Source) -> None:
    request = provider.probe(source, nonce=str(uuid.uuid4()), unix_ms=unix_seconds() * 1000)
    client.fetch(provider, request)


def _judge(name: str, source: Source, failure: Failure) -> Check:
    """What a failed probe says about the credential. The resource that it asks for does not exist, so 404 is good."""
    if failure.kind is FailureKind.NOT_FOUND or failure.http_status == 404:
        return Check(name, OK, f"{source.base_url} accepts it")
    if failure.kind is FailureKind.CREDENTIAL:
        keys = " and ".join(_setting(source, key) for key in CREDENTIAL_KEYS.get(source.provider, ()))
        return Check(name, FAIL, f"{source.base_url} refuses it: {failure.detail}", f"check {keys} and base_url")
    if failure.http_status is None:
        todo = "check base_url, and that this host may connect to it"
        return Check(name, FAIL, f"{source.base_url} cannot be reached: {failure.detail}", todo)
    return Check(name, WARN, f"not certain: {failure.detail} to a harmless question", "try again later")


def _setting(source: Source, key: str) -> str:
    return display_name(("sources", source.slug, key))
