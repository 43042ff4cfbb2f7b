"""What must never be in a log line, an event, a metric or an error: the secrets, and what the simulator's people are
called and numbered."""

import base64
import re
from collections.abc import Iterator
from dataclasses import fields

from tests.support.processes import API_TOKEN
from web.simulator import people
from web.simulator.credentials import Credentials
from worker.domain.documents import MASK, Path, mask
from worker.domain.strict_json import Json

OPEN_NAMES = frozenset({"yoti_sdk_id", "gu1_organization_id", "gu1_signature_encoding", "yoti_notification_auth"})
PEOPLE = re.compile(r"\b(" + "|".join([*people.FIRST_NAMES, *people.LAST_NAMES]) + r")\b")
NUMBERS = re.compile(r"\bX\d{8}\b|\+1555\d{7}|[\w.]+@example\.com|access_token=")


def secrets_of(credentials: Credentials) -> set[str]:
    """Every secret, and the parts of those that travel in another form."""
    found = {API_TOKEN}
    for field in fields(credentials):
        if field.name not in OPEN_NAMES:
            value = getattr(credentials, field.name)
            found.update(value if isinstance(value, tuple) else value.splitlines())
    token = credentials.yoti_notification_token
    found |= {base64.b64encode(token.encode()).decode(), token.partition(":")[2]}
    return {secret for secret in found if len(secret) > 8 and "PRIVATE KEY" not in secret}


def leaks(text: str, credentials: Credentials, *more: str) -> list[str]:
    """What must not be in `text`, and is, each with what is around it; `more` are words to look for besides."""
    return list(
        _found(text, [*map(re.escape, sorted({*secrets_of(credentials), *more})), PEOPLE.pattern, NUMBERS.pattern])
    )


def _found(text: str, patterns: list[str]) -> Iterator[str]:
    for pattern in patterns:
        # Logs are long: what is around is looked at only where something was found.
        if match := re.search(pattern, text):
            yield text[max(0, match.start() - 60) : match.end() + 60].replace("\n", " ")


def planted(document: Json, plain: tuple[Path, ...], canary: str) -> Json:
    """The document with `canary` in place of everything personal, and in a new member of every object."""
    return _planted(document, mask(document, plain), canary)


def _planted(value: Json, shown: Json, canary: str) -> Json:
    if isinstance(value, dict):
        below = shown if isinstance(shown, dict) else dict.fromkeys(value, MASK)
        return {"brandNew": canary, **{name: _planted(item, below[name], canary) for name, item in value.items()}}
    if isinstance(value, list):
        items = shown if isinstance(shown, list) else [MASK] * len(value)
        return [_planted(item, other, canary) for item, other in zip(value, items, strict=True)]
    return canary if shown == MASK and value else value
