"""The commands that serve: `up`, `web` and `worker`."""

# First, because it loads libraries that the others import.
from worker import lean

# isort: split
import json
import sys
from typing import NoReturn

import click

from web import supervising
from worker import log, settings
from worker.errors import ConfigurationError, VerisinkError
from worker.settings import PROVIDER_DEFAULTS, WEBHOOK_SECRET_KEYS, Settings, Source

FAILED = 1

SERVING = "web.serving"
STORE = "worker.store.engine"
"""By their names, because a supervisor needs nothing of them."""


@click.command(epilog="Example: VERISINK_CONFIG=verisink.toml verisink up")
@click.option("--receive-only", is_flag=True, help="No worker and no scheduler: webhooks are stored, and wait.")
@click.option("--no-receive", is_flag=True, help="No receiver: webhooks are told 503, all else runs.")
@click.option("--json", "as_json", is_flag=True, help="Say when it is ready as one JSON document on a line.")
def up(receive_only: bool, no_receive: bool, as_json: bool) -> None:
    """Receiver, worker and scheduler in one process tree; migrates first."""
    if receive_only and no_receive:
        raise click.UsageError("--receive-only and --no-receive together would leave nothing to run")
    loaded = _load()

    def ready(url: str) -> None:
        say_ready(loaded, url, as_json=as_json, receives=not no_receive)

    try:
        if not loaded.embedded:
            sys.exit(supervising.supervise_all(loaded, ready, receives=not no_receive, works=not receive_only))
        elif receive_only:
            lean.load(SERVING).serve_receiving_only(loaded, ready)
        else:
            lean.load(SERVING).serve_embedded(loaded, ready, receives=not no_receive)
    except VerisinkError as error:
        _fail(str(error))
    except _unavailable() as error:
        _fail(f"the database cannot be used ({type(error).__name__}): `verisink doctor` says more")
    except TimeoutError as error:
        _fail(str(error))


@click.command(epilog="Example: verisink web")
def web() -> None:
    """The receivers and the API of a distributed deployment, supervised."""
    loaded = _load()
    try:
        sys.exit(supervising.supervise_web(loaded))
    except VerisinkError as error:
        _fail(str(error))


@click.command(epilog="Example: verisink worker")
def worker() -> None:
    """The workers of a distributed deployment, supervised."""
    loaded = _load()
    try:
        sys.exit(supervising.supervise_worker(loaded))
    except VerisinkError as error:
        _fail(str(error))


def say_ready(loaded: Settings, url: str, *, as_json: bool, receives: bool = True) -> None:
    """Say where it listens, and what to configure at each provider."""
    if as_json:
        webhooks = {slug: webhook_url(source, url) for slug, source in loaded.sources.items() if receives}
        click.echo(json.dumps({"url": url, "webhooks": webhooks}))
        sys.stdout.flush()
        return
    click.echo(f"Verisink is ready at {url}" + ("" if receives else "; webhooks are refused here, and come again"))
    for slug, source in loaded.sources.items() if receives else ():
        click.echo(f"  {slug} ({source.provider}, {source.environment}): send webhooks to {webhook_url(source, url)}")
    if not loaded.sources:
        known = ", ".join(PROVIDER_DEFAULTS)
        click.echo(f"  no source is configured: set VERISINK_SOURCES__<SLUG>__PROVIDER to one of {known}")
    sys.stdout.flush()


def webhook_url(source: Source, url: str) -> str:
    """What to configure at the provider. A token is a secret, so its place is shown and not the token."""
    token = "/<webhook token>" if WEBHOOK_SECRET_KEYS.get(source.provider) == "webhook_tokens" else ""
    return f"{url}/webhooks/{source.slug}{token}"


def _unavailable() -> tuple[type[Exception], ...]:
    """What a database raises that is away."""
    found: tuple[type[Exception], ...] = lean.load(STORE).UNAVAILABLE
    return found


def _load() -> Settings:
    try:
        loaded = settings.load()
    except ConfigurationError as error:
        _fail(str(error))
    log.configure(loaded.log_level, loaded.log_format)
    log.started(settings.summary(loaded), settings.warnings(loaded))
    return loaded


def _fail(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(FAILED)
