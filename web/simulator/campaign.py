"""One run of `verisink simulate`: wait for the target, send, wait until everything was read, and count."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import click
import httpx
from rich.console import Console

from web.simulator.notifier import Notifier
from web.simulator.records import JsonObject, Ref
from web.simulator.server import Simulator
from web.simulator.traffic import Plan, run_traffic
from web.simulator.world import PROVIDERS, World
from worker.clock import monotonic

CONNECT_SECONDS = 60.0
READ_SECONDS = 30.0
"""How long to stay after the last notification, so that everything that was told of can be read."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: who plays, and to whom."""

    simulator: Simulator
    notifier: Notifier
    console: Console
    target: str


def play(run: Run, plan: Plan) -> JsonObject:
    run.console.print(f"Simulated providers on {run.simulator.url}, seed {plan.seed}. Ctrl-C ends it.")
    started = monotonic()
    interrupted = False
    try:
        _await_target(run)
        if plan.count == 0:
            run.simulator.faults.sleep(float(10**8))
        else:
            run_traffic(run.simulator.world, run.notifier, plan)
            _await_reads(run)
    except KeyboardInterrupt:
        interrupted = True
    return _report(run, monotonic() - started, interrupted=interrupted)


def _await_target(run: Run) -> None:
    """Return when something answers at the target; raise where nothing does for a minute."""
    deadline = monotonic() + CONNECT_SECONDS
    said = False
    with httpx.Client(trust_env=False, timeout=5) as client:
        while True:
            try:
                client.get(f"{run.target.rstrip('/')}/livez")
            except httpx.HTTPError as error:
                if monotonic() > deadline:
                    raise click.ClickException(
                        f"nothing answers at {run.target} ({type(error).__name__}); is Verisink running there?"
                    ) from None
                if not said:
                    run.console.print(f"Waiting for Verisink at {run.target} …")
                said = True
                run.simulator.faults.sleep(0.5)
            else:
                return


def _await_reads(run: Run) -> None:
    deadline = monotonic() + READ_SECONDS
    while _unread(run) and monotonic() < deadline:
        run.simulator.faults.sleep(0.2)


def _unread(run: Run) -> int:
    return unread(run.simulator.world, run.notifier.acknowledged_revisions())


def unread(world: World, told: Mapping[Ref, int]) -> int:
    """How many records were not read since they were as they were told to be; `told` has their revisions."""
    read: dict[str | None, datetime] = {}
    for call in world.calls():
        if call.status == 200:
            read[call.external_id] = max(call.at, read.get(call.external_id, call.at))
    became = {(change.ref, change.truth.revision): change.truth.updated_at for change in world.changes()}
    # A record without changes is as it was made.
    return sum(
        ref.external_id not in read or read[ref.external_id] < became.get((ref, revision), read[ref.external_id])
        for ref, revision in told.items()
    )


def _report(run: Run, seconds: float, *, interrupted: bool) -> JsonObject:
    receipts = run.notifier.receipts()
    acknowledged = {receipt.notice.key for receipt in receipts if receipt.acknowledged}
    calls = run.simulator.world.calls()
    providers: JsonObject = {
        provider: {
            "notifications": len({r.notice.key for r in receipts if r.notice.ref.provider == provider}),
            "attempts": len([r for r in receipts if r.notice.ref.provider == provider]),
            "acknowledged": len(
                {r.notice.key for r in receipts if r.acknowledged and r.notice.ref.provider == provider}
            ),
            "calls": len([call for call in calls if call.provider == provider]),
            "calls_answered_200": len([call for call in calls if call.provider == provider and call.status == 200]),
        }
        for provider in PROVIDERS
    }
    unacknowledged = len({receipt.notice.key for receipt in receipts} - acknowledged)
    unread = _unread(run)
    return {
        "ok": interrupted or (not unacknowledged and not unread), "seconds": round(seconds, 1), "providers": providers,
        "unacknowledged": unacknowledged, "acknowledged_but_never_read": unread,
    }  # fmt: skip
