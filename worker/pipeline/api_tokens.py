"""Tokens of the API: making and revoking them, and knowing them again without asking the database for every request.

A process knows every good token, and reads them again when what it knows is some seconds old. So whoever sends tokens
that nobody made costs neither queries nor memory, and what is revoked is refused everywhere within those seconds.
"""

import hmac
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from worker.clock import monotonic
from worker.domain.scopes import MARK, NAME, Caller, Scope, known
from worker.errors import TokenNotMade
from worker.settings import token_digest
from worker.store import api_tokens, audit
from worker.store.api_tokens import NewToken
from worker.store.audit import Deed
from worker.store.engine import UNAVAILABLE, Database, Session, database_time

KNOWN_SECONDS = 5.0
"""For so long a token that was good is taken as good. A revoked one works no longer than this; and each process reads
the tokens at most so often while only good ones are presented."""

UNKNOWN_SECONDS = 1.0
"""A token that is not known is looked for again when what is known is older than this: a new one works at once, or
nearly, and a stream of invented ones costs a query a second."""

AWAY_SECONDS = 1.0
"""For so long a database that did not answer is not asked again. Otherwise every request would wait for it in turn."""

WAIT_SECONDS = 2.0
"""So long a request waits for another one that reads the tokens. They are few, and are read in milliseconds."""

CLOSE_SECONDS = 5.0
"""So long the end of a process waits for a use that is being noted: as long as a connection may be waited for."""

USE_SECONDS = 60.0
"""The use of a token is noted at most so often. Who asks whether a token may go wants to know the day."""

MOST_TOKENS = 1000
"""Each process holds all of them. Tokens are for programs; whoever wants one for each of their customers' users wants
another thing."""

LONGEST_LIFE = timedelta(days=3650)
"""Ten years. What is to live longer need not expire."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """A token that somebody wants. Without `lifetime` it is good until it is revoked."""

    name: str
    scopes: frozenset[Scope]
    actor: str
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A token that is good until `ends_at` (of this host's monotonic clock), if that is not None."""

    id: UUID
    sha256: str
    caller: Caller
    ends_at: float | None


class TokensAway(Exception):
    """The database was not there to say which tokens are good. Its text is the class of the driver's error."""


def create(session: Session, order: Order, *, reserved: Iterable[str] = ()) -> str:
    """Make a token, and return it: it can be read nowhere later. Names that are `reserved` belong to tokens of the
    settings. Raises TokenNotMade."""
    _check(order, frozenset(reserved))
    if api_tokens.count(session) >= MOST_TOKENS:
        raise TokenNotMade(f"there are {MOST_TOKENS} tokens already: revoke some, `verisink token list` shows them")
    token = MARK + secrets.token_urlsafe(32)
    now = database_time(session)
    scopes = " ".join(sorted(order.scopes))
    expires_at = None if order.lifetime is None else now + order.lifetime
    if not api_tokens.add(session, NewToken(order.name, token_digest(token), scopes, order.actor, expires_at), now):
        raise TokenNotMade(f"there is a token {order.name} already: revoke it first, or choose another name")
    details = {"scopes": scopes, "expires_at": None if expires_at is None else expires_at.isoformat()}
    audit.note(session, Deed(order.actor, "create-token", order.name, details=details), now)
    return token


def _check(order: Order, reserved: frozenset[str]) -> None:
    if not NAME.fullmatch(order.name):
        raise TokenNotMade(
            "a token's name is 1 to 63 letters, digits, '.', '_' and '-'; it begins with a letter or digit"
        )
    if order.name in reserved:
        raise TokenNotMade(f"{order.name} is a token of the settings, and the audit could not tell the two apart")
    if not order.scopes:
        raise TokenNotMade("a token without a scope may do nothing")
    if order.lifetime is not None and not timedelta() < order.lifetime <= LONGEST_LIFE:
        raise TokenNotMade(f"a token lives for more than nothing and at most {LONGEST_LIFE.days} days")


def revoke(session: Session, name: str, *, actor: str) -> bool:
    """Make a token good for nothing, in every process within KNOWN_SECONDS. False if no good token has this name."""
    now = database_time(session)
    ended = api_tokens.revoke(session, name, now)
    if ended:
        audit.note(session, Deed(actor, "revoke-token", name), now)
    return ended


class TokenBook:
    """The good tokens, as this process knows them. Thread-safe. Building it asks nobody anything."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading = threading.Lock()
        self._page: tuple[Known, ...] = ()
        self._read_at = self._failed_at = float("-inf")
        self._failure = ""
        self._uses = _Uses(database)

    def find(self, sha256: str) -> Known | None:
        """The good token of this digest. Raises TokensAway."""
        asked = monotonic()
        found = _among(self._tokens(asked - KNOWN_SECONDS), sha256)
        if found is None:
            found = _among(self._tokens(asked - UNKNOWN_SECONDS), sha256)
        if found is not None:
            self._uses.note(found.id)
        return found

    def close(self) -> None:
        """Wait a little for uses that are being noted."""
        self._uses.close()

    def _tokens(self, since: float) -> tuple[Known, ...]:
        """The tokens that were good at `since` or later."""
        if self._read_at >= since:
            return self._page
        self._refuse_after_failure()
        # One of many requests reads, and the others take what it has read. A database that hangs must not keep all of
        # the process's threads, because anybody can ask here: since it failed, nobody waits for the one who tries.
        if not self._reading.acquire(timeout=0 if self._failure else WAIT_SECONDS):
            self._failed_at, self._failure = monotonic(), self._failure or "slow"
            raise TokensAway(self._failure)
        try:
            if self._read_at < since:
                self._read()
            return self._page
        finally:
            self._reading.release()

    def _refuse_after_failure(self) -> None:
        if monotonic() - self._failed_at < AWAY_SECONDS:
            raise TokensAway(self._failure)

    def _read(self) -> None:
        self._refuse_after_failure()
        # The time before the question: what is revoked while it is answered counts as not seen.
        began = monotonic()
        try:
            with self._database.read() as session:
                now = database_time(session)
                found = api_tokens.live(session, now, limit=2 * MOST_TOKENS)
        except UNAVAILABLE as error:
            self._failed_at, self._failure = monotonic(), type(error).__name__
            log.warning("api_tokens_unavailable", error=self._failure)
            raise TokensAway(self._failure) from None
        self._page = tuple(
            Known(
                token.id,
                token.sha256,
                Caller(token.name, known(token.scopes)),
                None if token.expires_at is None else began + (token.expires_at - now).total_seconds(),
            )
            for token in found
        )
        self._read_at = began
        self._failed_at, self._failure = float("-inf"), ""
        self._uses.forget_all_but({token.id for token in found})


def _among(tokens: Iterable[Known], sha256: str) -> Known | None:
    # All of them are compared, each in constant time, so that the time says nothing of what is stored.
    found = [token for token in tokens if hmac.compare_digest(token.sha256, sha256)]
    if not found or (found[0].ends_at is not None and found[0].ends_at <= monotonic()):
        return None
    return found[0]


class _Uses:
    """Notes that tokens are used, from a thread that lives only while there is something to note."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._noted: dict[UUID, float] = {}
        self._waiting: set[UUID] = set()
        self._thread: threading.Thread | None = None

    def note(self, token_id: UUID) -> None:
        """Returns at once. What cannot be written is tried again with the first use after a minute."""
        with self._lock:
            now = monotonic()
            if now - self._noted.get(token_id, float("-inf")) < USE_SECONDS:
                return
            self._noted[token_id] = now
            self._waiting.add(token_id)
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        """Begin to write; without a thread to be had the uses wait for the next one that is noted."""
        thread = threading.Thread(target=self._write, name="token-uses", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("token_use_not_noted", error=type(error).__name__)
        else:
            self._thread = thread

    def forget_all_but(self, ids: set[UUID]) -> None:
        """What was revoked or has expired is not remembered."""
        with self._lock:
            self._noted = {token_id: at for token_id, at in self._noted.items() if token_id in ids}

    def close(self) -> None:
        """Wait a little for the thread."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_SECONDS)

    def _write(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                token_id = self._waiting.pop()
            try:
                with self._database.write() as session:
                    span = timedelta(seconds=USE_SECONDS)
                    api_tokens.note_use(session, token_id, database_time(session), unless_within=span)
            except Exception as error:  # noqa: BLE001 - nobody's request may fail because its use was not noted
                log.warning("token_use_not_noted", error=type(error).__name__)
