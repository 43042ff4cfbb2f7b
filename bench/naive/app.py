"""The Flask application of the naive application: check the signature, queue a task, answer."""

import hashlib
import hmac
import os

from flask import Flask, Response, abort, jsonify, request

from bench.naive.tasks import retrieve

SECRET = os.environ["NAIVE_WEBHOOK_SECRET"].encode()

app = Flask(__name__)


def verify_signature(header: str, body: bytes) -> bool:
    parts = dict(part.split("=", 1) for part in header.split(",") if "=" in part)
    expected = hmac.new(SECRET, f"{parts.get('t')}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, parts.get("v1", ""))


@app.post("/webhooks/persona")
def webhook() -> Response:
    if not verify_signature(request.headers.get("Persona-Signature", ""), request.get_data()):
        abort(401)
    subject = request.get_json()["data"]["attributes"]["payload"]["data"]
    retrieve.delay(subject["type"], subject["id"])
    return jsonify(status="ok")
