"""Webhook sinks for receivers on this machine, closed when the test ends."""

import base64

import pytest
from pydantic import SecretStr

from worker.settings import SinkSettings
from worker.sinks.webhook import WebhookSink

OLD, NEW, FOREIGN = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
SHORT = 0.4
"""Seconds of patience where a test waits for the end of it."""


@pytest.fixture
def webhook():
    """Makes sinks. The settings' own limits are those of another test."""
    made = []

    def make(url, *, secrets=(NEW,), seconds=5.0, allow=True, **more):
        settings = SinkSettings.model_construct(
            name="billing",
            type="webhook",
            url=SecretStr(url),
            secrets=tuple(map(SecretStr, secrets)),
            timeout_seconds=seconds,
            allow_private=allow,
        )
        made.append(WebhookSink("billing", settings, **more))
        return made[-1]

    yield make
    for sink in made:
        sink.close()
