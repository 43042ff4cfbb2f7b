"""The webhook sink: each event is a signed POST, as Standard Webhooks has it.

A receiver knows a repeated event by `webhook-id`, which is the event's id, and a forged one by its signature. The call
goes to the address that was judged, follows no redirect, and nothing of an answer but its status and `Retry-After` is
believed or kept.
"""

import json
import ssl
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook

from worker.addresses import refused
from worker.clock import unix_seconds
from worker.http.deadline import DeadlineBackend, Resolver, deadline, system_addresses
from worker.http.headers import retry_after
from worker.http.transport import Transport
from worker.settings import SinkSettings
from worker.sinks.base import CannotDeliver, CloudEvent, EventRefused, SinkDisabled, TryLater

ANSWER_BYTES = 16 * 1024
"""How much of an answer is read, to be thrown away: a connection is only used again when its answer has ended."""

REST_SECONDS = 1.0
"""How long the rest of an answer is waited for. Its status has said all; only the connection is lost."""

LONGEST_PAUSE = 24 * 3600.0
"""A receiver that asks for more is asked again after a day: deliveries are given up after three."""

ENDPOINT_STATUSES = frozenset({401, 405, 407, 408, 421, 425})
"""Refusals that are about the address, the secret or the moment, and would meet every event. What is about the event,
such as 400 or 422, lets the others pass. 403 and 404 can mean either, and count as the latter."""

_HEADERS = {
    "User-Agent": "verisink",
    "Content-Type": "application/cloudevents+json; charset=utf-8",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class ReceiverAway(Exception):
    """The receiver took nothing, and may take it later. The text says why, in words that may be shown."""

    def __init__(self, why: str, http_status: int | None = None) -> None:
        self.http_status = http_status
        super().__init__(why)


class NoConnection(ReceiverAway):
    """The name was not found, nobody listens there, or the certificate is not the receiver's."""


class TimedOut(ReceiverAway):
    """The whole call took longer than it may."""


class BadAnswer(ReceiverAway):
    """The connection ended early, or what came is no HTTP."""


class Redirected(ReceiverAway):
    """The receiver has moved. Nothing follows a redirect, since it could lead anywhere."""


class AddressRefused(ReceiverAway):
    """The receiver's name leads to an address that is not public."""


class WebhookSink:
    """Posts one event at a time, so that what is about one resource arrives in order."""

    at_once = 1

    def __init__(
        self,
        name: str,
        settings: SinkSettings,
        *,
        resolver: Resolver = system_addresses,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if settings.url is None or not settings.secrets:
            raise ValueError("a webhook needs its URL and a secret")
        self.name = name
        self.call_seconds = settings.timeout_seconds + REST_SECONDS
        self._timeout = settings.timeout_seconds
        self._url = httpx.URL(settings.url.get_secret_value())
        self._signers = [Webhook(secret.get_secret_value()) for secret in settings.secrets]
        self._allow_private = settings.allow_private
        self._transport = Transport(DeadlineBackend(resolver, self._judge), most_kept=1, tls=tls)

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Post each event. Raises ReceiverAway, and what the port says."""
        for event in events:
            self._post(event)

    def check(self) -> str:
        """Whether the receiver can be reached; nothing is sent. Raises CannotDeliver."""
        origin = f"{self._url.scheme}://{self._url.netloc.decode('ascii')}"
        try:
            with deadline(self._timeout):
                self._transport.try_connecting(self._url)
        except AddressRefused as error:
            raise CannotDeliver(f"{origin}: {error}", "set allow_private if it is in a network of your own") from None
        except httpx.HTTPError as error:
            why = f"{origin} cannot be reached ({_away(error)}); its events wait in the database"
            raise CannotDeliver(why, "check the sink's url, and the receiver's certificate", fails=False) from None
        return f"{origin} can be reached"

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _post(self, event: CloudEvent) -> None:
        request = self._request(event)
        try:
            with deadline(self._timeout):
                response = self._transport.handle_request(request)
        except httpx.HTTPError as error:
            raise _away(error) from None
        with closing(response):
            self._read_rest(response)
        _judge_answer(response)

    def _request(self, event: CloudEvent) -> httpx.Request:
        # In ASCII, so that no receiver can read it in a wrong encoding before it checks the signature.
        body = json.dumps(event, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        number = str(event["id"])
        seconds = unix_seconds()
        moment = datetime.fromtimestamp(seconds, UTC)
        signed = {
            "webhook-id": number,
            "webhook-timestamp": str(seconds),
            "webhook-signature": " ".join(signer.sign(number, moment, body) for signer in self._signers),
        }
        return httpx.Request("POST", self._url, headers=_HEADERS | signed, content=body.encode("ascii"))

    def _judge(self, addresses: Sequence[str]) -> None:
        if refused(addresses, allow_private=self._allow_private):
            raise AddressRefused("its name leads to an address that is not public")

    def _read_rest(self, response: httpx.Response) -> None:
        """Read what is left of the answer, if it is short and comes soon, so that the connection can be kept."""
        read = 0
        with suppress(httpx.HTTPError, httpx.StreamError), deadline(REST_SECONDS):
            for chunk in response.iter_raw():
                read += len(chunk)
                if read > ANSWER_BYTES:
                    return


def _away(error: httpx.HTTPError) -> ReceiverAway:
    """The same without the error's own text, which could name the host."""
    kind: type[ReceiverAway] = BadAnswer
    if isinstance(error, httpx.TimeoutException):
        kind = TimedOut
    elif isinstance(error, httpx.ConnectError):
        kind = NoConnection
    return kind(f"no answer: {type(error).__name__}")


def _judge_answer(response: httpx.Response) -> None:
    """Raise unless the event was taken."""
    status = response.status_code
    if response.is_success:
        return
    said = f"the receiver answered {status}"
    if status == 410:
        raise SinkDisabled(said)
    if status in (429, 503):
        pause = retry_after({name.lower(): value for name, value in response.headers.items()})
        if pause is not None:
            raise TryLater(min(pause.total_seconds(), LONGEST_PAUSE))
    if response.is_redirect or 300 <= status < 400:
        raise Redirected(f"{said}: redirects are not followed, so configure where it leads", status)
    if status == 429 or status >= 500 or status in ENDPOINT_STATUSES:
        raise ReceiverAway(said, status)
    raise EventRefused(said)
