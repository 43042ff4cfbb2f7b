"""Receive signed webhooks in Flask. Needs: flask, standardwebhooks.

    WEBHOOK_SECRET=whsec_… DATABASE=inbox.db flask --app app run

The secret is the one in `[sinks.<name>] secrets`. While it is being changed, give both here, separated by a comma.
"""

import json
import os
import sqlite3

from flask import Flask, request
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRETS = [Webhook(secret) for secret in os.environ["WEBHOOK_SECRET"].split(",")]

app = Flask(__name__)


def inbox() -> sqlite3.Connection:
    database = sqlite3.connect(os.environ["DATABASE"], timeout=10)
    database.execute("CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, event TEXT NOT NULL)")
    return database


@app.post("/verisink")
def receive():
    # The signature is of the bytes as they came, so they are verified before anything reads them.
    body = request.get_data()
    if not any(is_genuine(secret, body) for secret in SECRETS):
        return {"error": "the signature does not match"}, 400
    event = json.loads(body)
    with inbox() as database:
        # The same event may come twice, and then has the same id. Work on it after the answer, from the inbox.
        database.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?)", (event["id"], json.dumps(event)))
    database.close()
    return "", 204


def is_genuine(secret: Webhook, body: bytes) -> bool:
    try:
        # It also refuses what is older than five minutes, so that nobody can play an old event again.
        secret.verify(body, dict(request.headers))
    except WebhookVerificationError:
        return False
    return True
