"""Read a provider's document: the same for what a call just brought and for what was stored long ago."""

import hashlib
import json
from dataclasses import replace

from worker.domain.documents import Path, Paths, content_digest, may_hold, redact_object
from worker.domain.model import Drift, Reading, ResourceRef
from worker.domain.strict_json import Json, parse_object
from worker.providers.base import Provider
from worker.settings import Source
from worker.store.results import Document

MOST_CHECKS = 500
"""No provider makes more than a few dozen."""

MOST_DRIFT = 20
"""Unknown values noted for one document. A changed provider shows with the first."""


def read_document(provider: Provider, source: Source, ref: ResourceRef, body: bytes) -> tuple[Reading, Document]:
    """Read a provider's answer, and prepare it for keeping. Raises UnreadableJson or UnexpectedDocument."""
    content = parse_object(body)
    paths = provider.paths(ref)
    reading, kept, redacted = _read(provider, source, ref, content, _secrets(paths, body))
    document = Document(
        body=json.dumps(kept, ensure_ascii=True).encode() if redacted else body,
        redacted=redacted,
        content=kept,
        document_sha256=hashlib.sha256(body).hexdigest(),
        content_sha256=content_digest(content, paths.volatile + paths.secrets),
        api_version=provider.api_version(source),
        mapping_version=provider.mapping_version,
    )
    return reading, document


def read_again(provider: Provider, source: Source, ref: ResourceRef, body: bytes) -> Reading:
    """What the present mapping reads in a body that was stored. Raises UnreadableJson or UnexpectedDocument."""
    return _read(provider, source, ref, parse_object(body), _secrets(provider.paths(ref), body))[0]


def _secrets(paths: Paths, body: bytes) -> tuple[Path, ...]:
    """The paths of secrets that the document may hold; hardly any holds one."""
    return paths.secrets if may_hold(body, paths.secrets) else ()


def _read(
    provider: Provider, source: Source, ref: ResourceRef, content: dict[str, Json], secrets: tuple[Path, ...]
) -> tuple[Reading, dict[str, Json], bool]:
    # It is read without its secrets, so that no check carries one.
    kept, redacted = redact_object(content, secrets)
    return _bounded(provider.read(source, ref, kept)), kept, redacted


def _bounded(reading: Reading) -> Reading:
    """The reading, with no more checks and drift than a person could look at; a document may be hostile."""
    if len(reading.checks) > MOST_CHECKS:
        drift = (Drift("checks", f"more than {MOST_CHECKS}"), *reading.drift)
        reading = replace(reading, checks=reading.checks[:MOST_CHECKS], drift=drift)
    return reading if len(reading.drift) <= MOST_DRIFT else replace(reading, drift=reading.drift[:MOST_DRIFT])
