"""The Celery application of the naive application, and its one task."""

import os

import httpx
from celery import Celery

from bench.naive.models import Session, Verification

API_URL = os.environ["NAIVE_API_URL"]
API_KEY = os.environ["NAIVE_API_KEY"]
PATHS = {"verification/government-id": "verification/government-ids", "inquiry": "inquiries"}

celery = Celery("naive", broker=os.environ["NAIVE_REDIS_URL"])
client = httpx.Client(
    headers={"Authorization": f"Bearer {API_KEY}", "Persona-Version": "2025-12-08", "Key-Inflection": "kebab"},
    timeout=10,
)


@celery.task(autoretry_for=(httpx.HTTPError,), retry_backoff=True, max_retries=5)
def retrieve(kind: str, verification_id: str) -> None:
    response = client.get(f"{API_URL}/{PATHS[kind]}/{verification_id}")
    response.raise_for_status()
    data = response.json()["data"]
    with Session() as session:
        session.merge(
            Verification(id=data["id"], kind=data["type"], status=data["attributes"]["status"], document=data)
        )
        session.commit()
