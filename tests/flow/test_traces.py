"""Traces as a collector gets them: one webhook's whole journey in one trace, and no harm where nobody listens."""

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.flow.conftest import Install
from tests.store import databases
from tests.support.collector import Collector, Seen
from tests.support.evidence import Flow, flow
from tests.support.processes import answers, eventually
from tests.support.services import free_port
from web.simulator.records import Ref
from web.simulator.server import Simulator

pytestmark = pytest.mark.flow

SENT_SECONDS = 40.0
"""The library sends every five seconds, and two processes take their turns."""

NAME = "canary-hyacinth"


def notify(running: Flow) -> Ref:
    """A webhook whose result is there."""
    world = running.simulator.world
    ref = world.create("persona", "inquiry", reference=NAME).ref
    receipt = running.tell(world.change(world.change(ref, "complete").ref, "approve"))
    assert receipt.status == 200, receipt.answer
    running.result(ref, stage="decided")
    return ref


def journeys(collector: Collector) -> list[dict[str, Seen]]:
    """The traces that a webhook began, each by the names of its spans."""
    began = {span.trace for span in collector.spans if span.name == "receive persona"}
    return [{span.name: span for span in collector.spans if span.trace == trace} for trace in began]


def whole(collector: Collector) -> dict[str, Seen] | None:
    """The first journey that has arrived whole."""
    wanted = {"receive persona", "retrieve persona", "call persona", "deliver log"}
    return next((journey for journey in journeys(collector) if wanted <= journey.keys()), None)


def assert_one_journey(collector: Collector, running: Flow) -> None:
    spans = eventually(lambda: whole(collector), "the journey's spans", SENT_SECONDS)
    receive, retrieve, call, event = (
        spans[f"{name}"] for name in ("receive persona", "retrieve persona", "call persona", "deliver log")
    )

    kinds = [receive.kind, retrieve.kind, call.kind, event.kind]
    assert kinds == [Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CONSUMER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER]
    assert [receive.parent, retrieve.parent, call.parent, event.parent] == [
        "",
        receive.span,
        retrieve.span,
        retrieve.span,
    ]
    assert receive.began <= receive.ended <= retrieve.ended
    assert retrieve.began <= call.began <= call.ended <= retrieve.ended
    [delivery] = running.rows("SELECT id FROM deliveries")
    assert str(receive.attributes["verisink.delivery"]).replace("-", "") == str(delivery["id"]).replace("-", "")
    assert retrieve.attributes["verisink.outcome"] == "stored"

    drains = [span for span in collector.spans if span.name == "drain persona"]
    assert {(span.trace, span.span) for span in drains} & retrieve.links
    assert retrieve.attributes["messaging.message.id"] in {span.attributes["messaging.message.id"] for span in drains}
    assert not any(span.failed for span in spans.values())
    assert {span.service for span in collector.spans} == {"verisink"}
    assert not any(NAME.encode() in body for body in collector.bodies)


def test_a_webhook_s_journey_is_one_trace(simulator: Simulator, install: Install) -> None:
    with Collector() as collector:
        installation = install(traces="otlp")
        child = installation.up(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        with flow(simulator, installation, child.url) as running:
            notify(running)
            eventually(
                lambda: any(span.name == "drain persona" for span in collector.spans), "the task's span", SENT_SECONDS
            )
            assert_one_journey(collector, running)
        assert child.stop() == 0


@pytest.mark.postgres
@pytest.mark.redis
def test_a_journey_through_several_processes_is_one_trace(
    simulator, install, postgres_server, redis_server_url
) -> None:
    url = postgres_server.create_database(postgres_server.template("migrated", databases.migrate))
    with Collector() as collector:
        installation = install(traces="otlp", database_url=url, broker_url=redis_server_url)
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        worker, web = installation.start("worker", **told), installation.start("web", **told)
        web.ready(lambda: answers(installation.url + "/readyz"))
        with flow(simulator, installation, installation.url) as running:
            notify(running)
            assert_one_journey(collector, running)
        assert [worker.stop(), web.stop()] == [0, 0]


def test_a_collector_that_is_away_delays_nothing(simulator, install) -> None:
    installation = install(traces="otlp")
    child = installation.up(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    with flow(simulator, installation, child.url) as running:
        notify(running)
    assert child.stop() == 0


def test_nothing_is_sent_of_a_share_of_none(simulator, install) -> None:
    with Collector() as collector:
        installation = install(traces="otlp", traces_sample=0.0)
        child = installation.up(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        with flow(simulator, installation, child.url) as running:
            notify(running)
        assert child.stop() == 0
        assert collector.spans == []
