"""`verisink demo`: the main job, end to end, against the simulator.

It starts the real thing (`verisink up`) on a new database in a temporary folder, plays the four providers, and looks at
the results as a consumer would, through the API. Whatever does not arrive ends it with status 1.
"""

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
from rich import box
from rich.console import Console
from rich.table import Table

from web.simulator.credentials import write_settings
from web.simulator.faults import Faults
from web.simulator.notifications import Flaw, compose
from web.simulator.notifier import Notifier
from web.simulator.records import Record, Ref
from web.simulator.server import Simulator
from worker.clock import monotonic
from worker.settings import child_environment

PATIENCE_SECONDS = 20.0
"""How long the demo waits for one thing to arrive. All of it together takes some seconds: what is told of again is read
again after a pause of up to five, and a busy machine needs room."""

START_SECONDS = 20.0
POLL_SECONDS = 0.02

Json = dict[str, object]


class NotArrived(Exception):
    """Something that should have happened did not."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the scenes play with."""

    simulator: Simulator
    notifier: Notifier
    api: httpx.Client
    console: Console

    def result(self, ref: Ref, accept: Callable[[Json], bool] = lambda _: True) -> Json:
        """The stored result, once there is one that `accept` likes."""
        path = f"/api/v1/results/{ref.provider}/{ref.kind}/{ref.external_id}"

        def look() -> Json | None:
            answer = self.api.get(path)
            found: Json = answer.json() if answer.status_code == 200 else {}
            return found if found and accept(found) else None

        return wait_for(look, f"the result of {ref.kind} {ref.external_id}")

    def events(self) -> list[Json]:
        """Every event so far."""
        found: list[Json] = self.api.get("/api/v1/events", params={"limit": 200}).json()["items"]
        return found

    def tell(self, record: Record, event: str | None = None, flaw: Flaw | None = None) -> tuple[int | None, str]:
        """Send the notification of what `record` is now; returns the answer and the notification's name."""
        notice = compose(self.simulator.world, record, event)
        return self.notifier.send(notice, flaw=flaw).status, notice.event

    def line(self, provider: str, what: str, became: str, started: float) -> None:
        """Print one line of the story."""
        took = f"{(monotonic() - started) * 1000:.0f} ms"
        text = f"  [bold]{provider:<8}[/] {what:<56} → {became}  [dim]{took}[/]"
        self.console.print(text, highlight=False, soft_wrap=True)


@click.command(epilog="Example: verisink demo")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON document.")
def demo(as_json: bool) -> None:
    """The main job end to end against the simulator; leaves nothing behind."""
    status = run(Console(stderr=as_json))
    if as_json:
        click.echo(json.dumps({"ok": status == 0}))
    sys.exit(status)


def run(console: Console) -> int:
    """Play every scene. Returns the exit status."""
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="verisink-demo-") as folder, Simulator() as simulator:
        try:
            with _verisink(Path(folder), simulator, console) as stage:
                _play(stage)
                _show_results(stage)
        except NotArrived as failure:
            console.print(f"[bold red]Failed:[/] {failure}")
            return 1
    console.print(f"\nAll of it arrived, in {monotonic() - began:.1f} s. Nothing was left behind.")
    _say_what_next(console)
    return 0


def wait_for(look: Callable[[], Json | None], what: str) -> Json:
    """What `look` returns once it is something. Raises NotArrived."""
    ends = monotonic() + PATIENCE_SECONDS
    while monotonic() < ends:
        found = look()
        if found is not None:
            return found
        time.sleep(POLL_SECONDS)
    raise NotArrived(f"{what} did not arrive within {PATIENCE_SECONDS:.0f} s")


@contextmanager
def _verisink(folder: Path, simulator: Simulator, console: Console) -> Iterator[Stage]:
    token = secrets.token_urlsafe(16)
    write_settings(
        folder,
        simulator.url,
        simulator.credentials,
        database_url=f"sqlite:///{folder / 'demo.db'}",
        port=0,
        api_tokens=[f"demo:{token}"],
        # It asks many times a second whether something has come.
        api_rate_limit_per_minute=0,
        log_format="json",
    )
    environ = child_environment(folder / "verisink.toml")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "web.main", "up", "--json"], env=environ, stdout=subprocess.PIPE, stderr=log
        )
        try:
            url = _ready_url(process, folder / "log")
            console.print(f"`verisink up` is ready at {url}, with SQLite and nothing else.\n", highlight=False)
            headers = {"Authorization": f"Bearer {token}"}
            with (
                httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=5) as api,
                Notifier(url, simulator.credentials) as notifier,
            ):
                yield Stage(simulator, notifier, api, console)
        finally:
            _end(process)


def _ready_url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The first line that `verisink up --json` prints is said when it is ready."""
    output = process.stdout
    first = output.readline() if output is not None else b""
    if not first:
        process.wait(START_SECONDS)
        raise NotArrived(f"`verisink up` ended at its start:\n{log.read_text(errors='replace')[-2000:]}")
    ready: Json = httpx.Response(200, content=first).json()
    return str(ready["url"])


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        code = process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise NotArrived("`verisink up` did not end when it was told to") from None
    if code != 0 and sys.exc_info()[0] is None:
        raise NotArrived(f"`verisink up` ended with status {code}")


def _play(stage: Stage) -> None:
    stage.console.print("[bold]From a notification to a stored verdict[/]")
    for scene in (_persona, _verifik_face, _verifik_document, _gu1_face_match, _gu1_validation, _yoti):
        scene(stage)
    stage.console.print("\n[bold]And when things go wrong[/]")
    for scene in (_duplicate, _wrong_signature, _outage, _reversal):
        scene(stage)


def _verdict(result: Json) -> str:
    stage, outcome = result["stage"], result["outcome"]
    colour = {"approved": "green", "rejected": "red"}.get(str(outcome), "yellow")
    count = len(checks) if isinstance(checks := result.get("checks"), list) else 0
    return f"[{colour}]{outcome}[/] ({stage}, version {result['version']}, checks: {count})"


def _accepted(status: int | None, what: str) -> None:
    if status != 200:
        raise NotArrived(f"{what} was answered with {status}")


def _notified(stage: Stage, record: Record, target: Ref | None = None) -> Json:
    """Send a notification and wait for the decided result that it leads to."""
    started = monotonic()
    status, event = stage.tell(record)
    _accepted(status, event)
    ref = target or record.ref
    result = stage.result(ref, lambda found: found["stage"] in ("decided", "in_review"))
    name = event.removeprefix("onboarding_")
    stage.line(ref.provider, f"{name}: {ref.kind}", _verdict(result), started)
    return result


def _persona(stage: Stage) -> None:
    world = stage.simulator.world
    inquiry = world.create("persona", "inquiry", reference="customer-1001").ref
    selfie = world.create("persona", "verification/selfie", parent=inquiry).ref
    _notified(stage, world.change(selfie, "approve"))
    document = world.create("persona", "verification/government-id", parent=inquiry).ref
    world.change(document, "approve")
    world.change(inquiry, "complete")
    _notified(stage, world.change(inquiry, "approve"))
    started = monotonic()
    found = stage.result(document)
    stage.line("persona", "(found in the inquiry): verification/government-id", _verdict(found), started)


def _verifik_face(stage: Stage) -> None:
    world = stage.simulator.world
    face = world.create("verifik", "biometric-validation").ref
    _notified(stage, world.change(face, "approve"))


def _verifik_document(stage: Stage) -> None:
    """Verifik sends nothing about a document's liveness: it is found in the document validation."""
    world = stage.simulator.world
    liveness = world.create("verifik", "document-liveness", shape="nested").ref
    world.change(liveness, "approve")
    paper = world.create("verifik", "document-validation", liveness=liveness.external_id).ref
    started = monotonic()
    status, event = stage.tell(world.change(paper, "approve"))
    _accepted(status, event)
    found = stage.result(liveness)
    stage.line("verifik", f"{event.removeprefix('onboarding_')}: document-liveness", _verdict(found), started)


def _gu1_face_match(stage: Stage) -> None:
    """gu1 sends nothing about a face match: somebody asks for it."""
    world = stage.simulator.world
    match = world.create("gu1", "face-match").ref
    world.change(match, "approve")
    started = monotonic()
    body = {"source": "gu1", "kind": match.kind, "external_id": match.external_id}
    answer = stage.api.post("/api/v1/retrievals", json=body)
    if answer.status_code != 202:
        raise NotArrived(f"POST /api/v1/retrievals was answered with {answer.status_code}")
    stage.line("gu1", "POST /api/v1/retrievals: face-match", _verdict(stage.result(match)), started)


def _gu1_validation(stage: Stage) -> None:
    world = stage.simulator.world
    validation = world.create("gu1", "kyc-validation").ref
    _notified(stage, world.change(validation, "decline"))


def _yoti(stage: Stage) -> None:
    world = stage.simulator.world
    session = world.create("yoti", "session").ref
    _notified(stage, world.change(session, "approve"))


def _duplicate(stage: Stage) -> None:
    world = stage.simulator.world
    record = world.change(world.create("persona", "verification/selfie").ref, "approve")
    notice = compose(world, record)
    first = stage.notifier.send(notice)
    stage.result(record.ref)
    started = monotonic()
    second = stage.notifier.send(notice)
    if first.answer.find("accepted") < 0 or second.answer.find("duplicate") < 0:
        raise NotArrived(f"the same notification was answered {first.answer} and then {second.answer}")
    result = stage.result(record.ref)
    if result["version"] != 1:
        raise NotArrived("a duplicate notification made a second version")
    stage.line("persona", "the same notification again", "a duplicate: still version 1", started)


def _wrong_signature(stage: Stage) -> None:
    world = stage.simulator.world
    record = world.change(world.create("persona", "verification/selfie").ref, "approve")
    started = monotonic()
    status, _ = stage.tell(record, flaw=Flaw.WRONG_SIGNATURE)
    if status != 401:
        raise NotArrived(f"a wrong signature was answered with {status}")
    stage.line("persona", "a wrong signature", "refused with 401, kept in quarantine", started)


def _outage(stage: Stage) -> None:
    world = stage.simulator.world
    stage.simulator.faults.set("verifik", Faults(outage=True))
    face = world.change(world.create("verifik", "biometric-validation").ref, "decline")
    started = monotonic()
    status, _ = stage.tell(face)
    _accepted(status, "a notification during the provider's outage")
    before = len([call for call in stage.simulator.world.calls("verifik") if call.status == 503])
    wait_for(lambda: {} if _refused_calls(stage) > max(before - 1, 0) else None, "a call during the outage")
    stage.line("verifik", "answers 503 for a while", "accepted; the retrieve is tried again", started)
    stage.simulator.faults.clear("verifik")
    healed = monotonic()
    stage.line("verifik", "is back", _verdict(stage.result(face.ref)), healed)


def _refused_calls(stage: Stage) -> int:
    return sum(call.status == 503 for call in stage.simulator.world.calls("verifik"))


def _reversal(stage: Stage) -> None:
    world = stage.simulator.world
    inquiry = world.create("persona", "inquiry", reference="customer-1002").ref
    world.change(inquiry, "complete")
    _accepted(stage.tell(world.change(inquiry, "approve"))[0], "inquiry.approved")
    stage.result(inquiry, lambda found: found["outcome"] == "approved")
    started = monotonic()
    _accepted(stage.tell(world.change(inquiry, "reverse"))[0], "inquiry.declined")
    result = stage.result(inquiry, lambda found: found["outcome"] == "rejected")
    wait_for(lambda: _reversed(stage, inquiry), "the event verification.result.reversed")
    stage.line("persona", "an approved inquiry is declined by a reviewer", _verdict(result), started)


def _reversed(stage: Stage, ref: Ref) -> Json | None:
    found = [
        event
        for event in stage.events()
        if event["type"] == "verification.result.reversed" and event["external_id"] == ref.external_id
    ]
    return found[0] if found else None


def _show_results(stage: Stage) -> None:
    listed: list[Json] = stage.api.get("/api/v1/results", params={"limit": 100}).json()["items"]
    table = Table(title="\nThe results database (view v1_results)", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("source", "kind"):
        table.add_column(column, no_wrap=True)
    table.add_column("id", no_wrap=True, max_width=10)
    table.add_column("verdict", no_wrap=True)
    table.add_column("v", justify="right")
    table.add_column("+ / - / ?", no_wrap=True, justify="right")
    for row in sorted(listed, key=lambda item: (str(item["source"]), str(item["kind"]))):
        path = f"/api/v1/results/{row['source']}/{row['kind']}/{row['external_id']}"
        checks: list[Json] = stage.api.get(path).json()["checks"]
        cells = [str(row[name]) for name in ("source", "kind", "external_id", "outcome", "version")]
        table.add_row(*cells, _counts([str(check["outcome"]) for check in checks]))
    stage.console.print(table)
    stage.console.print("  + / - / ?: checks that passed, failed, or say neither", style="dim", highlight=False)
    stage.console.print(f"\n{len(stage.events())} events in v1_events, each of them once.")


def _counts(outcomes: list[str]) -> str:
    passed, failed = outcomes.count("passed"), outcomes.count("failed")
    return f"{passed} / {failed} / {len(outcomes) - passed - failed}" if outcomes else "none"


def _say_what_next(console: Console) -> None:
    console.print(
        "\n[bold]What to do next[/]\n"
        "  make up          serves it here, fed by a simulator: run `make simulate` in a second terminal\n"
        "  README.md        'Point a provider at it' says what to set for a real provider\n"
        "  verisink doctor  checks settings, database, broker and credentials",
        highlight=False,
        soft_wrap=True,
    )
