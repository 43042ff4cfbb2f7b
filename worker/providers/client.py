"""The HTTP client for retrieve calls: one per worker process, shared by all its calls.

No redirects (a credential must not follow one), no proxies from the environment, a deadline on the whole call, and a
cap on the answer's size. Nothing that a provider sends is quoted in an error.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self, cast

import httpx

from worker.domain.documents import plain_word
from worker.domain.retry import Failure
from worker.domain.states import FailureKind
from worker.http.deadline import DeadlineBackend, deadline
from worker.http.headers import retry_after, seconds
from worker.http.transport import Transport
from worker.providers.base import ErrorResponse, OutboundRequest, Provider
from worker.waiting import THREADS, Waiter

WAIT_TIMEOUT = 10.0
"""The longest silence within a call. Providers answer within a second; longer silence is an outage."""

ERROR_BODY_BYTES = 16 * 1024
"""Enough of an error's body to read its code."""

NOTHING_IN_IT = frozenset({204, 205})
"""Successes that bring no document; Verifik's older API says so for a record that it does not find."""

_HEADERS = {"User-Agent": "verisink", "Accept": "*/*", "Accept-Encoding": "identity"}

_FAILURES: tuple[tuple[type[Exception], FailureKind], ...] = (
    (httpx.TimeoutException, FailureKind.TIMEOUT),
    (httpx.DecodingError, FailureKind.UNREADABLE),
    (httpx.TransportError, FailureKind.NETWORK),
    (httpx.HTTPError, FailureKind.NETWORK),
    (httpx.InvalidURL, FailureKind.REJECTED),
    (httpx.StreamError, FailureKind.NETWORK),
)
"""What httpx raises, from the special to the general, and what each means. A test holds it complete."""


class RetrieveFailed(Exception):
    """A retrieve call gave no document; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.detail)


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's 2xx answer, whole. `exhausted_for` is how long it will refuse the next call, where it says so."""

    status: int
    body: bytes
    request_id: str | None
    exhausted_for: timedelta | None = None


class ProviderClient:
    """Makes retrieve calls. Thread-safe; close it when the process ends."""

    def __init__(
        self, *, call_deadline: float, max_bytes: int, connections: int = 100, waiter: Waiter = THREADS
    ) -> None:
        self._deadline = call_deadline
        self._max_bytes = max_bytes
        self._transport = Transport(DeadlineBackend(waiter=waiter), most_kept=connections)
        wait = min(WAIT_TIMEOUT, call_deadline)
        self._extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), wait)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def fetch(self, provider: Provider, request: OutboundRequest) -> Answer:
        """Make the call. Raises RetrieveFailed for everything but a whole 2xx answer."""
        try:
            with deadline(self._deadline):
                return self._fetch(provider, request)
        except zlib.error:
            raise RetrieveFailed(
                Failure(FailureKind.UNREADABLE, "the answer is not the gzip that it says it is")
            ) from None
        except tuple(kind for kind, _ in _FAILURES) as error:
            raise RetrieveFailed(_failure(error)) from None

    def _fetch(self, provider: Provider, request: OutboundRequest) -> Answer:
        """By way of the transport: a client would only add what is unwanted here, such as redirects, cookies and
        credentials from elsewhere, in half of the call's time."""
        url = httpx.URL(request.url)
        headers_sent = {"Host": url.netloc.decode("ascii"), **_HEADERS, **request.headers}
        # Made whole: what httpx adds to a request without a stream, it puts through the same steps once more.
        nothing = httpx.ByteStream(b"")
        response = self._transport.handle_request(
            httpx.Request("GET", url, headers=headers_sent, stream=nothing, extensions=self._extensions)
        )
        try:
            headers, status = _plain(response), response.status_code
            request_id = _request_id(headers)
            if not response.is_success or status in NOTHING_IN_IT:
                raise RetrieveFailed(_refusal(provider, status, headers, self._error_body(response, headers)))
            body = self._read(response, headers, self._max_bytes + 1)
        finally:
            response.close()
        if len(body) > self._max_bytes:
            detail = f"the answer is larger than {self._max_bytes} bytes"
            raise RetrieveFailed(Failure(FailureKind.UNREADABLE, detail, status, request_id=request_id))
        return Answer(status, body, request_id, _exhausted_for(headers))

    def _error_body(self, response: httpx.Response, headers: Mapping[str, str]) -> bytes:
        """The start of an error's body. The status says most of it, so one that cannot be decoded counts as empty."""
        try:
            return self._read(response, headers, ERROR_BODY_BYTES)
        except (RetrieveFailed, zlib.error):
            return b""

    @staticmethod
    def _read(response: httpx.Response, headers: Mapping[str, str], limit: int) -> bytes:
        """At most `limit` bytes of the answer, decoded. A few hundred compressed bytes can stand for gigabytes, so what
        is decoded is bounded as well, and only one coding that was not even asked for is put up with."""
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity", "gzip"):
            raise RetrieveFailed(
                Failure(FailureKind.UNREADABLE, "the answer is encoded in a way that was not asked for")
            )
        unzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if coding == "gzip" else None
        body = bytearray()
        # What is below the response's own iterators, which count bytes and cut them anew.
        for chunk in cast("httpx.SyncByteStream", response.stream):
            body += unzip.decompress(chunk, limit - len(body)) if unzip else chunk
            if len(body) >= limit:
                break
        return bytes(body[:limit])


def _plain(response: httpx.Response) -> dict[str, str]:
    """Its headers by their names in lower case, as httpx joins them. httpx's own look through all of them for each that
    is asked for."""
    plain: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.lower().decode("latin-1"), raw_value.decode("latin-1")
        plain[name] = f"{plain[name]}, {value}" if name in plain else value
    return plain


def _failure(error: Exception) -> Failure:
    kind = next(kind for special, kind in _FAILURES if isinstance(error, special))
    return Failure(kind, type(error).__name__)


def _refusal(provider: Provider, status: int, headers: dict[str, str], body: bytes) -> Failure:
    kind = provider.classify(ErrorResponse(status, headers, body))
    return Failure(
        kind,
        f"the provider answered {status}",
        http_status=status,
        retry_after=_retry_after(headers, limited=kind is FailureKind.RATE_LIMITED),
        request_id=_request_id(headers),
    )


def _retry_after(headers: dict[str, str], *, limited: bool) -> timedelta | None:
    """`Retry-After` in seconds or as a date; else, for calls over the limit, Persona's `RateLimit-Reset` in seconds.

    Persona sends that header with every answer, where it says nothing about when to try again.
    """
    if headers.get("retry-after"):
        return retry_after(headers)
    return seconds(headers.get("ratelimit-reset")) if limited else None


def _exhausted_for(headers: Mapping[str, str]) -> timedelta | None:
    """The time until a new window begins, if this answer was the last of the old one; Persona says so with every
    answer."""
    if headers.get("ratelimit-remaining", "").strip() != "0":
        return None
    return seconds(headers.get("ratelimit-reset"))


def _request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's name for the call, if it looks like one: operators read it, so it must be no sentence."""
    value = headers.get("request-id") or headers.get("x-request-id")
    cut = value[:128] if value else None
    return cut if plain_word(cut) == cut else None
