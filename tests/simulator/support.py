"""Callers and receivers for these tests. Requests are signed here by hand, so that nothing checks itself."""

import base64
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from flask import Flask, Response, request
from werkzeug.serving import make_server

from web.simulator.credentials import Credentials
from web.simulator.records import Ref
from web.simulator.server import Simulator

CREDENTIALS = Credentials.generate(1)

VERIFIK = {"document-liveness": "document-liveness"}
GU1 = {
    "face-match": "/api/kyc/face-match/verifications",
    "kyc-validation": "/api/kyc/validations",
    "biometric-session": "/api/kyc/biometric/sessions",
    "id-verification": "/api/kyc/id-verification/verifications",
    "entity": "/entities",
}
PERSONA = {"inquiry": "inquiries", "account": "accounts"}


def yoti_target(external_id, credentials=CREDENTIALS, prefix="", **changes):
    """The path and query of a session, and the digest that belongs to them; `prefix` is signed but not sent."""
    query = {"sdkId": credentials.yoti_sdk_id, "nonce": str(uuid.uuid4()), "timestamp": str(int(time.time() * 1000))}
    query |= changes
    target = f"/sessions/{external_id}?" + "&".join(f"{name}={value}" for name, value in query.items() if value)
    key = load_pem_private_key(credentials.yoti_private_key.encode(), password=None)
    assert isinstance(key, RSAPrivateKey)
    digest = key.sign(f"GET&{prefix}{target}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return target, base64.b64encode(digest).decode()


class Caller:
    """Reads records as Verisink would, with good credentials unless told otherwise."""

    def __init__(self, simulator: Simulator, client: httpx.Client) -> None:
        self.simulator = simulator
        self.client = client

    def read(self, ref: Ref, query: str = "", **headers: str | None) -> httpx.Response:
        path, usual = getattr(self, f"_{ref.provider}")(ref)
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in {**usual, **wanted}.items() if value is not None}
        return self.client.get(self.simulator.url + path + query, headers=sent)

    def persona(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {CREDENTIALS.persona_api_key}", "Persona-Version": "2025-12-08"}
        return self.client.get(f"{self.simulator.url}/persona/api/v1{path}", headers=headers)

    def verifik(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {CREDENTIALS.verifik_access_token}"}
        return self.client.get(f"{self.simulator.url}/verifik{path}", headers=headers)

    def gu1(self, path: str) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {CREDENTIALS.gu1_api_key}",
            "X-Organization-Id": CREDENTIALS.gu1_organization_id,
        }
        return self.client.get(f"{self.simulator.url}/gu1{path}", headers=headers)

    def _persona(self, ref):
        headers = {"Authorization": f"Bearer {CREDENTIALS.persona_api_key}", "Persona-Version": "2025-12-08"}
        return f"/persona/api/v1/{PERSONA.get(ref.kind, 'verifications')}/{ref.external_id}", headers

    def _verifik(self, ref):
        collection = VERIFIK.get(ref.kind, ref.kind + "s")
        headers = {"Authorization": f"Bearer {CREDENTIALS.verifik_access_token}"}
        return f"/verifik/v2/{collection}/{ref.external_id}", headers

    def _gu1(self, ref):
        headers = {
            "Authorization": f"Bearer {CREDENTIALS.gu1_api_key}",
            "X-Organization-Id": CREDENTIALS.gu1_organization_id,
        }
        return f"/gu1{GU1[ref.kind]}/{ref.external_id}", headers

    def _yoti(self, ref):
        target, digest = yoti_target(ref.external_id)
        return f"/yoti/idverify/v1{target}", {"X-Yoti-Auth-Digest": digest}


class Receiver:
    """A webhook target that keeps what arrives, and refuses as often as it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.refusals = 0
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self._lock = threading.Lock()

    def answer(self) -> Response:
        with self._lock:
            self.received.append((request.path, dict(request.headers), request.get_data()))
            if self.refusals:
                self.refusals -= 1
                return Response("not now", status=503)
        return Response('{"status": "accepted"}', status=200)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    app = Flask("receiver")
    app.add_url_rule("/webhooks/<path:rest>", view_func=lambda rest: receiver.answer(), methods=["POST"])
    app.add_url_rule("/livez", endpoint="livez", view_func=lambda: "alive")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
