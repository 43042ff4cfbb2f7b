"""What each alert of `deploy/prometheus/alerts.yml` would say now, judged without Prometheus where that can be.

A rule looks at minutes, and this at a moment: an alert that would fire here fires there if it lasts.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from worker.cli.checks import OK, WARN, Check
from worker.cli.common import sqlite_file
from worker.cli.output import duration
from worker.errors import SchemaMismatch, SpoolUnusable
from worker.reports.gauges import Gauges, SourceGauges, gauges
from worker.runtime import Runtime
from worker.settings import Settings
from worker.store import query_gauges, schema, spool
from worker.store.engine import UNAVAILABLE

UNKNOWN = "unknown"
"""The state of an alert about rates, of which only Prometheus knows."""

READ_SECONDS = 5.0

OLDEST_SECONDS = 3600
SINK_LAG_SECONDS = 900
SWEEP_SECONDS = 60
MOST_PARKED_LATELY = 10
MOST_LOSS = 0.05
SPOOL_SHARE = 0.5
"""The thresholds of the rules; a test holds them together."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be known without Prometheus. `found` is None where the database cannot be used, for `trouble`."""

    settings: Settings
    found: Gauges | None
    trouble: str | None = None
    spool_bytes: int | None = None


Finding = tuple[bool, str]
"""Whether it would fire, and what it would be about."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: what to do about it, and how to judge whether it would fire; None where only Prometheus knows."""

    name: str
    todo: str
    judge: Callable[[Facts], Finding | None]


def facts(runtime: Runtime) -> Facts:
    """Look at the database and the spool. Raises nothing that either does."""
    settings, found, trouble = runtime.settings, None, None
    path = sqlite_file(settings)
    if path is not None and not path.exists():
        # To look into it would make it.
        return Facts(settings, None, f"{path} does not exist yet", _spool_bytes(settings))
    try:
        schema.newer_revision(runtime.database)
        with runtime.database.read() as session, query_gauges.limited(session, READ_SECONDS):
            found = gauges(session, settings.sources, ("log", *settings.sinks))
    except SchemaMismatch as error:
        trouble = str(error)
    except UNAVAILABLE as error:
        trouble = f"the database cannot be used ({type(error).__name__})"
    return Facts(settings, found, trouble, _spool_bytes(settings))


def _spool_bytes(settings: Settings) -> int | None:
    try:
        return None if settings.spool_dir is None else spool.look(settings.spool_dir).bytes
    except SpoolUnusable:
        return None


def firing(known: Facts) -> Iterator[Check]:
    """The alerts that would fire now."""
    return (check for check in judged(known) if check.state == WARN)


def judged(known: Facts, names: Iterable[str] | None = None) -> Iterator[Check]:
    """Each alert, or those of these names: `ok`, `warn` where it would fire now, or `unknown`."""
    wanted = None if names is None else set(names)
    for alert in ALERTS:
        if wanted is None or alert.name in wanted:
            yield _check(alert, known)


def _check(alert: Alert, known: Facts) -> Check:
    todo = f"{alert.todo}; docs/runbook.md#{alert.name.lower()}"
    found = alert.judge(known)
    if found is None:
        only = "only Prometheus knows: the rule is in deploy/prometheus/alerts.yml"
        return Check(alert.name, UNKNOWN, only if alert.judge is _only_metrics else f"not known: {known.trouble}", todo)
    fires, detail = found
    return Check(alert.name, WARN if fires else OK, f"{'would fire: ' if fires else ''}{detail}", todo)


def _only_metrics(_: Facts) -> None:
    """It is about what happened over time, and in each process."""


def _database(known: Facts) -> Finding:
    return known.found is None, known.trouble or "the database can be used from here"


def _by_gauges(judge: Callable[[Gauges], Finding]) -> Callable[[Facts], Finding | None]:
    return lambda known: None if known.found is None else judge(known.found)


def _named(names: list[str], otherwise: str) -> Finding:
    return bool(names), ", ".join(names) or otherwise


def _of_sources(
    fires: Callable[[SourceGauges], bool], words: Callable[[SourceGauges], str], otherwise: str
) -> Callable[[Facts], Finding | None]:
    """An alert about sources: those for which it fires, in words."""
    return _by_gauges(
        lambda found: _named([f"{item.source}: {words(item)}" for item in found.sources if fires(item)], otherwise)
    )


def _waited(item: SourceGauges) -> float:
    return max(item.oldest_seconds["waiting"], item.oldest_seconds["throttled"])


def _sweep(found: Gauges) -> Finding:
    age = found.sweep_age_seconds
    detail = "nobody ever swept: no worker was started yet" if age is None else f"a leader was seen {duration(age)} ago"
    return age is None or age > SWEEP_SECONDS, detail


def _lagging(found: Gauges) -> Finding:
    late = [item for item in found.sinks if item.oldest_seconds > SINK_LAG_SECONDS]
    words = [f"{item.name}: {item.behind} events, {duration(item.oldest_seconds)}" for item in late]
    return _named(words, "no sink is far behind")


def _spool(known: Facts) -> Finding | None:
    if known.settings.spool_dir is None:
        return False, "there is no spool"
    if known.spool_bytes is None:
        return True, "this host's spool cannot be read"
    share = known.spool_bytes / known.settings.spool_max_bytes
    return share > SPOOL_SHARE, f"this host's spool is {share:.0%} full"


ALERTS: tuple[Alert, ...] = (
    Alert("VerisinkTargetDown", "see whether the process runs, and whether Prometheus may reach it", _only_metrics),
    Alert("VerisinkDatabaseAway", "run `verisink doctor`, and mend the database", _database),
    Alert("VerisinkWebhooksRefused", "bring the database back, or make room in the spool", _only_metrics),
    Alert("VerisinkShedding", "see what the database waits for; add WEB_PROCESSES", _only_metrics),
    Alert("VerisinkAcksSlow", "see what the database waits for; commits should take milliseconds", _only_metrics),
    Alert("VerisinkNoSweep", "start workers: `verisink worker`, or `verisink up`", _by_gauges(_sweep)),
    Alert(
        "VerisinkOldestUnfinishedTooOld",
        "see `verisink status` and `verisink attempts --source NAME`",
        _of_sources(
            lambda item: _waited(item) > OLDEST_SECONDS,
            lambda item: f"waits for {duration(_waited(item))}",
            "no work waits for long",
        ),
    ),
    Alert(
        "VerisinkCredentialFailing",
        "renew the credential; a probe then ends the hold within minutes",
        _of_sources(
            lambda item: item.held and item.probed,
            lambda item: "held until a probe gets through",
            "no source is held for its credential",
        ),
    ),
    Alert(
        "VerisinkSourceHeld",
        "`verisink release SOURCE`, once the reason in `verisink status` is gone",
        _of_sources(
            lambda item: item.held, lambda item: f"{sum(item.open.values())} pieces of work wait", "no source is held"
        ),
    ),
    Alert(
        "VerisinkParkedGrowing",
        "see `verisink lanes`, mend the cause, and `verisink replay --parked --plan`",
        _of_sources(
            lambda item: item.parked_lately > MOST_PARKED_LATELY,
            lambda item: f"{item.parked_lately} within the hour",
            "few were parked within the hour",
        ),
    ),
    Alert(
        "VerisinkUnreadable",
        "see `verisink deliveries --state unreadable`; after an upgrade `verisink replay --parked --level reingest`",
        _by_gauges(lambda found: (found.unreadable > 0, f"{found.unreadable} webhooks cannot be read")),
    ),
    Alert("VerisinkSinkLagging", "see whether the sink can be reached: `verisink doctor`", _by_gauges(_lagging)),
    Alert(
        "VerisinkSinkHeld",
        "release it once its reason is gone",
        _by_gauges(lambda found: _named([item.name for item in found.sinks if item.held], "no sink is held")),
    ),
    Alert(
        "VerisinkEventsGivenUp",
        "see `verisink sinks log NAME`, mend the other end, and `verisink sinks resend NAME --given-up`",
        _by_gauges(
            lambda found: _named(
                [f"{item.name}: {item.given_up} events" for item in found.sinks if item.given_up],
                "nothing was given up",
            )
        ),
    ),
    Alert("VerisinkSpoolFilling", "bring the database back; it empties itself then", _spool),
    Alert(
        "VerisinkWebhooksLost",
        "compare what the provider is subscribed to with docs/providers; the results are repaired already",
        _of_sources(
            lambda item: (item.loss_rate or 0.0) > MOST_LOSS,
            lambda item: f"{item.loss_rate or 0.0:.1%} of what was listed",
            "the last reconciliations found little",
        ),
    ),
    Alert(
        "VerisinkDrift",
        "see `verisink status`, and look for a release that knows these values",
        _of_sources(
            lambda item: item.new_drift > 0, lambda item: f"{item.new_drift} new values", "no new value within a day"
        ),
    ),
    Alert(
        "VerisinkExpectationOverdue",
        "see `verisink expectations --state overdue`",
        _by_gauges(lambda found: (found.overdue > 0, f"{found.overdue} expected results are overdue")),
    ),
    Alert(
        "VerisinkWatchdogRestarts", "look for `process_ended_by_watchdog` in the log, and at the broker", _only_metrics
    ),
    Alert("VerisinkRestarting", "look for `child_died` and what precedes it in the log", _only_metrics),
)
"""In the order of the rules."""

NAMES: tuple[str, ...] = tuple(alert.name for alert in ALERTS)
"""What they are called."""
