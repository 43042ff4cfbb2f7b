"""`verisink simulate`: the four providers' other side as a server, with life-like traffic and faults."""

import json
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from web.simulator import credentials as shared
from web.simulator import fast as fast_mode
from web.simulator.campaign import Run, play
from web.simulator.faults import Faults
from web.simulator.notifier import Notifier, Receipt
from web.simulator.records import JsonObject
from web.simulator.server import Simulator
from web.simulator.traffic import Plan
from web.simulator.world import PROVIDERS
from worker.settings import is_loopback

EPILOG = """\b
Example:
  verisink simulate --write-settings .verisink
  VERISINK_CONFIG=.verisink/verisink.toml verisink up
  verisink simulate --count 100 --duplicate 0.1 --reorder 0.2 --error-rate 0.05
"""
SHARE = click.FloatRange(0, 1)


@click.command(epilog=EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the simulated providers listen.")
@click.option("--port", default=9009, show_default=True, type=click.IntRange(0, 65535), help="Their port.")
@click.option("--target", default="http://127.0.0.1:8000", show_default=True, help="Verisink's address.")
@click.option("--allow-remote", is_flag=True, help="Let --target be another machine than this one.")
@click.option(
    "--settings", "directory", default=".verisink", show_default=True, type=click.Path(path_type=Path),
    help="The folder that --write-settings wrote.",
)  # fmt: skip
@click.option(
    "--write-settings", "write_to", type=click.Path(path_type=Path), metavar="DIR",
    help="Write settings and a key for Verisink into DIR, and exit.",
)  # fmt: skip
@click.option(
    "--rate", default=5.0, show_default=True, type=click.FloatRange(0, 10_000), help="Notifications a second."
)
@click.option("--count", type=click.IntRange(0), help="How many to send; 0 only serves.  [default: until Ctrl-C]")
@click.option("--duplicate", default=0.0, type=SHARE, help="Share of notifications that are sent twice.")
@click.option("--reorder", default=0.0, type=SHARE, help="Share that arrives late, after younger ones.")
@click.option("--error-rate", default=0.0, type=SHARE, help="Share of retrieve calls that are answered with 500.")
@click.option("--latency", default=0.0, type=click.FloatRange(0, 600), help="Seconds that a retrieve call takes.")
@click.option("--rate-limit", type=click.IntRange(1), help="Retrieve calls a minute at each provider; then 429.")
@click.option("--fast", is_flag=True, help="Only answer retrieve calls, unchecked and at next to no cost, to measure.")
@click.option("--seed", type=int, help="Repeat a run: the same people, ids and stories.  [default: random]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end instead of lines.")
def simulate(  # noqa: PLR0913 - click hands over each option as an argument
    host: str,
    port: int,
    target: str,
    allow_remote: bool,
    directory: Path,
    write_to: Path | None,
    rate: float,
    count: int | None,
    duplicate: float,
    reorder: float,
    error_rate: float,
    latency: float,
    rate_limit: int | None,
    fast: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Play the four providers: answer retrieve calls and send notifications to Verisink, with faults on demand."""
    if write_to is not None:
        _write(write_to, f"http://{host if is_loopback(host) else '127.0.0.1'}:{port}")
        return
    if fast:
        _serve_fast(host, port, latency, as_json=as_json)
        return
    _check_target(target, allow_remote)
    credentials = _credentials(directory, port)
    seed = secrets.randbelow(2**32) if seed is None else seed
    plan = Plan(count, rate, duplicate, reorder, seed)
    console = Console(quiet=as_json, soft_wrap=True)
    try:
        simulator = Simulator(credentials, seed=seed, host=host, port=port).start()
    except OSError:
        raise _port_taken(host, port) from None
    for provider in PROVIDERS:
        simulator.faults.set(provider, Faults(error_rate=error_rate, latency=latency, rate_limit_per_minute=rate_limit))
    notifier = Notifier(target, credentials, on_receipt=lambda receipt: _print(console, receipt))
    with notifier:
        try:
            report = play(Run(simulator, notifier, console, target), plan)
        finally:
            simulator.stop()
    _finish(report, console, as_json=as_json)


def _write(directory: Path, url: str) -> None:
    existed = (directory / shared.CONFIG_NAME).exists()
    try:
        shared.write_settings(directory, url)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot write settings to {directory}: {error}") from None
    config = directory / shared.CONFIG_NAME
    click.echo(f"{'Kept' if existed else 'Wrote'} {config}: four sources whose other side is the simulator. Next:")
    click.echo(f"  VERISINK_CONFIG={config} verisink up")
    place = "" if directory == Path(".verisink") else f" --settings {directory}"
    port = urlsplit(shared.simulator_url(directory)).port
    click.echo(f"  verisink simulate{place}{'' if port == 9009 else f' --port {port}'}")


def _serve_fast(host: str, port: int, latency: float, *, as_json: bool) -> None:
    def ready(url: str) -> None:
        click.echo(json.dumps({"url": url}) if as_json else f"Simulated providers, fast, on {url}. Ctrl-C ends it.")
        sys.stdout.flush()

    try:
        fast_mode.serve(host, port, latency, ready)
    except OSError:
        raise _port_taken(host, port) from None


def _port_taken(host: str, port: int) -> click.ClickException:
    return click.ClickException(f"cannot listen on {host}:{port}; is another simulator running? --port takes another")


def _check_target(target: str, allow_remote: bool) -> None:
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter("must be an http(s) URL", param_hint="--target")
    if not allow_remote and not is_loopback(parts.hostname):
        raise click.BadParameter(
            f"{parts.hostname} is not this machine; simulated traffic goes elsewhere only with --allow-remote",
            param_hint="--target",
        )


def _credentials(directory: Path, port: int) -> shared.Credentials:
    try:
        credentials = shared.load(directory)
        url = shared.simulator_url(directory)
    except FileNotFoundError as error:
        raise click.ClickException(
            f"{error.filename} is missing. Make it with `verisink simulate --write-settings {directory}`, "
            f"and start Verisink with VERISINK_CONFIG={directory / shared.CONFIG_NAME}"
        ) from None
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if urlsplit(url).port != port:
        raise click.ClickException(
            f"{directory} tells Verisink to find the simulator at {url}; use that port, not {port}"
        )
    return credentials


def _print(console: Console, receipt: Receipt) -> None:
    notice = receipt.notice
    colour = "green" if receipt.acknowledged else "red"
    again = f" attempt {receipt.attempt}" if receipt.attempt > 1 else " duplicate" if receipt.duplicate else ""
    console.print(
        f"[{colour}]{receipt.status or 'no answer'}[/] {notice.ref.provider:8} {escape(notice.event)} "
        f"[dim]{notice.ref.external_id} {receipt.seconds * 1000:.0f} ms{again}[/]",
        highlight=False,
    )


def _finish(report: JsonObject, console: Console, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report))
    else:
        table = Table("provider", "notifications", "attempts", "acknowledged", "calls", "answered 200")
        providers = report["providers"]
        for name, numbers in providers.items() if isinstance(providers, dict) else ():
            table.add_row(name, *(str(number) for number in (numbers.values() if isinstance(numbers, dict) else ())))
        console.print(table)
        console.print(
            f"{report['unacknowledged']} not acknowledged, {report['acknowledged_but_never_read']} acknowledged "
            f"but never read, in {report['seconds']} s"
        )
    if not report["ok"]:
        raise SystemExit(1)
