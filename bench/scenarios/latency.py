"""How long one webhook takes when nothing else happens: to its answer, to its row, to its event downstream."""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench.children import end
from bench.embedded import installed
from bench.journey import STREAM, Journeys
from bench.protocol import Bar, Contenders, Sample, Scenario, value
from bench.provider import fast_provider
from bench.stage import Stage
from bench.verisink import verisink
from tests.support.processes import Installation, eventually

PER_SECOND = 12
"""Webhooks for each second of a round: a tenth of a second is a long time for a service that is idle."""

PAUSES = (0.06, 0.14)
"""Between two of them, drawn evenly, so that they fall into step with nothing that happens each second."""

OPEN_WORK = "SELECT count(*) FROM resources WHERE due_at IS NOT NULL"
START_SECONDS = 60.0

DISTRIBUTED_DATABASE, DISTRIBUTED_STREAM, EMBEDDED_STREAM = 4, 5, 6
"""Redis databases: the broker's, and one for each stream."""


def stream_settings(url: str) -> dict[str, str]:
    """The environment of a process that delivers to the stream."""
    return {
        "VERISINK_SINKS__BENCH__TYPE": "redis_stream",
        "VERISINK_SINKS__BENCH__URL": url,
        "VERISINK_SINKS__BENCH__STREAM": STREAM,
    }


@contextmanager
def open_latency(stage: Stage) -> Iterator[Contenders]:
    """Both ways to run Verisink, side by side and idle but for the webhook that is measured."""
    with ExitStack() as stack:
        provider = stack.enter_context(fast_provider(stage))
        ours = stack.enter_context(verisink(stage, provider.url, broker=DISTRIBUTED_DATABASE))
        ours.start_web()
        url = stage.redis_url(DISTRIBUTED_STREAM)
        worker = ours.installation.start("worker", **stream_settings(url))
        stack.callback(end, worker)
        # The receivers were warmed up with some webhooks, and those come first.
        eventually(lambda: not ours.count(OPEN_WORK), "the warm-up is worked off", START_SECONDS)
        alone = stack.enter_context(installed(stage, provider.url))
        stack.callback(end, alone.up(**stream_settings(stage.redis_url(EMBEDDED_STREAM))))
        yield {
            "distributed": stack.enter_context(rounds(stage, ours.installation, url)),
            "embedded": stack.enter_context(rounds(stage, alone, stage.redis_url(EMBEDDED_STREAM))),
        }


@contextmanager
def rounds(stage: Stage, installation: Installation, redis_url: str) -> Iterator[Callable[[], Sample]]:
    """Rounds of one contender, after a webhook or two that are not counted."""
    secret = stage.credentials.persona_webhook_secrets[0]
    count = max(5, int(PER_SECOND * stage.effort.seconds))
    rng, numbers = random.Random(installation.folder.name), itertools.count(1)
    with Journeys(installation.port, secret, redis_url, installation.database_url) as journeys:
        journeys.travel(f"{installation.folder.name} first", [0.0, 0.1, 0.1])

        def one_round() -> Sample:
            batch = f"{installation.folder.name} latency {next(numbers)}"
            return journeys.travel(batch, [rng.uniform(*PAUSES) for _ in range(count)]).sample()

        yield one_round


SCENARIO = Scenario(
    name="latency",
    measures=(
        "One webhook at a time, some ten a second, and a provider that answers at once: milliseconds from sending it "
        "until its row is in `v1_results`, and until XREAD returns its event. Distributed: two receivers, two workers."
    ),
    figures=(
        value("row visible, p50 ms", ("distributed", "row_p50_ms"), Bar(15, at_least=False)),
        value("row visible, p99 ms", ("distributed", "row_p99_ms"), Bar(60, at_least=False)),
        value("event in the stream, p50 ms", ("distributed", "event_p50_ms"), Bar(25, at_least=False)),
        value("embedded: row visible, p50 ms", ("embedded", "row_p50_ms"), Bar(30, at_least=False)),
        value("embedded: row visible, p99 ms", ("embedded", "row_p99_ms"), Bar(120, at_least=False)),
        value("embedded: event in the stream, p50 ms", ("embedded", "event_p50_ms"), Bar(50, at_least=False)),
    ),
    open=open_latency,
)
