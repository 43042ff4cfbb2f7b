"""What the settings of each type of sink must be besides being of the right kind. Part of the settings."""

import base64
import binascii
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from worker.addresses import literal, refused
from worker.settings_source import is_loopback

SECRET_PREFIX = "whsec_"  # noqa: S105 - this is how secrets begin, and no secret

SHORTEST_KEY, LONGEST_KEY = 24, 64
"""Bytes of a signing key, as Standard Webhooks has them."""

MOST_SECRETS = 4
"""Two are enough to change a secret. Each adds a signature to every call."""

_URL = re.compile(r"[\x21-\x7e]{1,2000}")


def redis_problems(url: str | None) -> list[str]:
    """What is wrong with a Redis stream's URL; it may be left out."""
    if url is None or url.startswith(("redis://", "rediss://")):
        return []
    return ["url must begin with redis:// or rediss://"]


def webhook_problems(url: str | None, secrets: Sequence[str], *, allow_http: bool, allow_private: bool) -> list[str]:
    """What is wrong with a webhook's URL and secrets, without quoting either."""
    problems = [] if url else ["url is required"]
    if url:
        problems += _url_problems(url, allow_http=allow_http, allow_private=allow_private)
    if not secrets:
        problems.append("secrets is required: without a signature nobody can tell who sends")
    if len(secrets) > MOST_SECRETS:
        problems.append(f"secrets holds more than {MOST_SECRETS}")
    if not all(_is_secret(secret) for secret in secrets):
        problems.append(
            f"secrets must each be {SECRET_PREFIX} and then {SHORTEST_KEY} to {LONGEST_KEY} random bytes in base64"
        )
    return problems


def celery_problems(broker_url: str | None, task: str | None) -> list[str]:
    """What is missing or wrong for a sink that sends tasks."""
    problems = [] if task else ["task is required"]
    if broker_url is None:
        problems.append("broker_url is required")
    elif not broker_url.startswith(("redis://", "rediss://", "amqp://", "amqps://")):
        problems.append("broker_url must begin with redis://, rediss://, amqp:// or amqps://")
    return problems


def file_problems(path: str | None) -> list[str]:
    """What is wrong with a file sink's path."""
    if path == "-" or (path and path.startswith("/") and not path.endswith("/") and "\0" not in path):
        return []
    return ["path is required: the whole path of a file, from / on, or - for standard output"]


def _url_problems(url: str, *, allow_http: bool, allow_private: bool) -> list[str]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if not _URL.fullmatch(url) or "\\" in url or parts.scheme not in ("http", "https") or not host:
        return ["url must be an https URL in plain characters; a name in another script is written as xn--…"]
    problems = []
    if "@" in parts.netloc or parts.fragment:
        problems.append("url must not hold a user name or a fragment")
    if host.endswith("."):
        problems.append("url must name its host without a dot at the end")
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        problems.append("url must use https, unless allow_http is set")
    address = "127.0.0.1" if host == "localhost" else literal(host)
    if address not in (None, host) and host != "localhost":
        problems.append(f"url must spell its address plainly, as {address}")
    if address is not None and refused([address], allow_private=allow_private):
        problems.append(
            "url leads to an address that no receiver has"
            if allow_private
            else "url leads to an address that is not public, unless allow_private is set"
        )
    return problems


def _is_secret(secret: str) -> bool:
    if not secret.startswith(SECRET_PREFIX):
        return False
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return SHORTEST_KEY <= len(key) <= LONGEST_KEY
