"""The Celery application: queues, serializer and transport options, by role.

Celery carries nudges only. Results, retries, ETAs, beat and remote control are off: waits live in the database, and a
lost or repeated message changes nothing but latency.
"""

from typing import Literal

from celery import Celery as Celery

from worker.settings import Settings

DRAIN_TASK = "verisink.drain.v1"
"""Named with a version, because messages outlive a deploy."""

NUDGE_SECONDS = 60
"""A nudge that was not taken by then is thrown away unread: the sweep has rung again many times."""

MEMORY_BROKER = "memory://localhost/"

Role = Literal["publisher", "worker"]

_NO_RETRY = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}


def make_app(settings: Settings, role: Role) -> Celery:
    """The application for a process that only publishes nudges, or for one that works."""
    url = settings.broker_url.get_secret_value() if settings.broker_url else MEMORY_BROKER
    app = Celery("verisink", broker=url, set_as_current=role == "worker")
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue="verisink",
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_publish_retry=True,
        task_publish_retry_policy=_NO_RETRY,
        worker_prefetch_multiplier=16 if url == MEMORY_BROKER else 4,
        worker_pool="threads",
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(url, role),
    )
    return app


def worker_threads(settings: Settings) -> int:
    """How many nudges a worker process handles at once: one pump a source, and room for the rings that find it busy."""
    return max(8, 2 * len(settings.sources))


def ring(app: Celery, source: str) -> None:
    """Publish a nudge for `source`. Raises whatever the broker's client raises."""
    app.send_task(DRAIN_TASK, args=[source], expires=NUDGE_SECONDS)


def broker_trouble(app: Celery) -> str:
    """One sentence if the broker cannot be reached within about a second, else an empty text."""
    try:
        with app.connection_for_write(connect_timeout=1) as connection:
            connection.ensure_connection(max_retries=0, timeout=1)
    except Exception as error:  # noqa: BLE001 - every broker's client has errors of its own
        return f"the broker is not available ({type(error).__name__}); work goes on by the sweep, more slowly"
    return ""


def _transport_options(url: str, role: Role) -> dict[str, object]:
    if url.startswith("memory"):
        # The default of one second makes an embedded worker look asleep.
        return {"polling_interval": 0.01}
    if url.startswith(("amqp", "pyamqp")):
        # Without confirms, a broker in trouble drops what it was sent without a word.
        return {"confirm_publish": True}
    options: dict[str, object] = {
        "visibility_timeout": 600,
        "health_check_interval": 10,
        "socket_keepalive": True,
        "socket_connect_timeout": 1,
        "socket_timeout": 1 if role == "publisher" else 5,
    }
    return {**options, **_NO_RETRY} if role == "publisher" else options
