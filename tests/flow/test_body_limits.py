"""How long a body the server reads before the application sees the request: long ones only of who may be right."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.door import configured, migrate
from web.app import create_app
from web.http_server import serve
from web.serving import STRANGERS_BODY_LIMIT, body_limit
from web.simulator.credentials import Credentials
from worker.runtime import Runtime
from worker.settings import MEBIBYTE, Settings

pytestmark = pytest.mark.flow

API_LIMIT = 64 * 1024
TOKENS = ("first-token", "second.token~2")
LIMITS = {"signed": 200_000, "verifik-live": 10 * MEBIBYTE, "verifik-none": 300_000}
SETTINGS = Settings.model_validate(
    {
        "sources": {
            "signed": {"slug": "signed", "provider": "gu1", "max_body_bytes": LIMITS["signed"]},
            "verifik-live": {"slug": "verifik-live", "provider": "verifik", "webhook_tokens": TOKENS},
            "verifik-none": {"slug": "verifik-none", "provider": "verifik", "max_body_bytes": LIMITS["verifik-none"]},
        }
    }
)


def wsgi_path(path: str) -> str:
    """As the server hands it over: each byte a character."""
    return path.encode("utf-8").decode("latin-1")


@pytest.mark.parametrize(
    ("path", "longest"),
    [
        ("/webhooks/signed", LIMITS["signed"]),
        ("//webhooks/signed", LIMITS["signed"]),
        *((f"/webhooks/verifik-live/{token}", LIMITS["verifik-live"]) for token in TOKENS),
        ("/webhooks/verifik-live", STRANGERS_BODY_LIMIT),
        ("/webhooks/verifik-live/", STRANGERS_BODY_LIMIT),
        ("/webhooks/verifik-live/first-toke", STRANGERS_BODY_LIMIT),
        ("/webhooks/verifik-live/first-token/", STRANGERS_BODY_LIMIT),
        ("/webhooks/verifik-live/x/first-token", STRANGERS_BODY_LIMIT),
        ("/webhooks/verifik-live/FIRST-TOKEN", STRANGERS_BODY_LIMIT),
        ("/webhooks/verifik-none/", STRANGERS_BODY_LIMIT),
        ("/webhooks/verifik-none/None", STRANGERS_BODY_LIMIT),
        ("/webhooks/nobody", STRANGERS_BODY_LIMIT),
        ("/webhooks/nobody/first-token", STRANGERS_BODY_LIMIT),
        ("/webhooks/", STRANGERS_BODY_LIMIT),
        ("/webhooks", STRANGERS_BODY_LIMIT),
        ("/api/v1/retrievals", API_LIMIT),
        ("/readyz", API_LIMIT),
        ("", API_LIMIT),
    ],
)
def test_only_who_may_be_right_has_the_source_s_limit(path: str, longest: int) -> None:
    assert body_limit(SETTINGS)(wsgi_path(path)) == longest


def test_a_path_that_is_no_text_is_a_stranger_s() -> None:
    assert body_limit(SETTINGS)("/webhooks/verifik-live/\xff\xfe") == STRANGERS_BODY_LIMIT


# Through the server.


@pytest.fixture(scope="module")
def port(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("limits")
    url = f"sqlite:///{folder / 'verisink.db'}"
    migrate(credentials, url)
    settings = configured(credentials, url)
    verifik = settings.sources["verifik"].model_copy(
        update={"webhook_tokens": SETTINGS.sources["verifik-live"].webhook_tokens}
    )
    settings = settings.model_copy(update={"sources": {**settings.sources, "verifik": verifik}})
    runtime = Runtime(settings, ring_with=lambda _source: None)
    listener = socket.create_server(("127.0.0.1", 0))
    server = serve(create_app(runtime), listener=listener, threads=2, body_limit=body_limit(settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield listener.getsockname()[1]
    server.stop()
    thread.join(10)
    runtime.database.dispose()


def status(port: int, path: str, length: int, body: bytes = b"") -> int:
    """What a POST that announces this length is answered, of whose body so much is sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head.encode() + body)
        return int(sock.recv(65536).split()[1])


@pytest.mark.parametrize("path", ["/webhooks/verifik/wrong", "/webhooks/verifik", "/webhooks/nobody", "/api/v1/x"])
def test_a_stranger_s_long_body_is_refused_before_it_is_sent(port: int, path: str) -> None:
    started = time.monotonic()
    assert status(port, path, 250_000) == 413
    assert time.monotonic() - started < 2


def test_a_stranger_s_short_body_is_refused_by_the_application_and_so_seen(port: int) -> None:
    body = b"x" * STRANGERS_BODY_LIMIT
    assert status(port, "/webhooks/verifik/wrong", len(body), body) == 401
    assert status(port, "/webhooks/nobody", len(body), body) == 404


@pytest.mark.parametrize("token", [*TOKENS, "".join(f"%{byte:02x}" for byte in TOKENS[0].encode())])
def test_a_long_body_with_the_token_is_taken_however_it_is_written(port: int, token: str) -> None:
    body = b"x" * 250_000
    assert status(port, f"/webhooks/verifik/{token}", len(body), body) == 200
