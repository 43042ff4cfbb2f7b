"""Every error that Verisink raises on purpose, in one tree.

VerisinkError
├── ConfigurationError        the settings are wrong; says every problem and what to do
├── CannotListen              the address is taken, not allowed, or none of this machine
├── StoreError
│   ├── SchemaMismatch        the database's schema is not the one this release knows
│   ├── SpoolUnusable         the receiver's spool cannot be read or written
│   ├── ValueRefused          the database will never take one of the values
│   └── ClaimLost             somebody else owns the resource now; throw the work away
├── ReceiveError              the receiver refuses a request; `status` is the HTTP answer
│   ├── UnknownSource         404
│   ├── AuthenticationFailed  401
│   ├── BodyTooLarge          413
│   ├── BodyIncomplete        400
│   └── IntakeUnavailable     503
│       └── NotCommitted      503, and whether it will be committed after all is not known
├── ReconcileRunning          somebody else reconciles this source right now
├── ReplayError
│   ├── BadSelection          the selection chooses nothing, too much, or what its level does not know
│   ├── UnknownReplay         there is no replay of this id
│   └── ReplayIsOver          it has finished or was cancelled, so nothing can be changed
├── TokenNotMade              a token of the API cannot be made as asked
├── SinkError
│   ├── UnknownSink           there is no sink of this name
│   └── SinkRefuses           what is asked of the sink makes no sense as it stands
├── UnreadableJson            bytes that are not strict JSON
├── UnreadableNotification    an authenticated body that does not say what to retrieve
└── UnexpectedDocument        a provider's answer is JSON, but not the resource that was asked for
    └── NothingFound          a provider's answer says that there is no such thing
"""

from collections.abc import Sequence
from typing import ClassVar


class VerisinkError(Exception):
    """Root of the tree."""


class ConfigurationError(VerisinkError):
    """The settings cannot be used. `problems` has one sentence for each thing to mend."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{len(self.problems)} problem(s) in the settings:\n{lines}")


class CannotListen(VerisinkError):
    """No socket can listen on the configured host and port."""


class StoreError(VerisinkError):
    """The database cannot be used as asked."""


class SchemaMismatch(StoreError):
    """The database's schema is older or newer than this release knows."""


class SpoolUnusable(StoreError):
    """The spool's disk is full, its folder is missing, or its file is damaged or in use for too long."""


class ValueRefused(StoreError):
    """A value is over one of the database's limits, so the same statement will fail again."""


class ClaimLost(StoreError):
    """The claim ended before the work did, and somebody else may own the resource now."""


class ReceiveError(VerisinkError):
    """The receiver refuses a request."""

    status: ClassVar[int] = 400


class UnknownSource(ReceiveError):
    """No such source, or a path that this source's provider does not use."""

    status = 404


class AuthenticationFailed(ReceiveError):
    """The request does not prove that the provider sent it. The reason never quotes a secret."""

    status = 401


class BodyTooLarge(ReceiveError):
    """The body is over the source's limit."""

    status = 413


class BodyIncomplete(ReceiveError):
    """The connection ended before the announced length had arrived."""

    status = 400


class IntakeUnavailable(ReceiveError):
    """The delivery could not be stored: our own trouble, and the provider should send it again."""

    status = 503


class NotCommitted(IntakeUnavailable):
    """The commit did not end in time. It may yet succeed: whoever keeps the delivery elsewhere keeps its id too."""


class ReconcileRunning(VerisinkError):
    """Another process reconciles this source right now. There is nothing to do but to wait for it."""


class ReplayError(VerisinkError):
    """A replay cannot be made or changed as asked."""


class BadSelection(ReplayError):
    """The selection chooses nothing, too much, or what its level does not know; says what to change."""


class UnknownReplay(ReplayError):
    """There is no replay of this id."""


class ReplayIsOver(ReplayError):
    """The replay has finished or was cancelled."""


class TokenNotMade(VerisinkError):
    """A token of the API cannot be made: its name is taken or no name, or its life is none. Says what to change."""


class SinkError(VerisinkError):
    """A sink cannot be treated as asked."""


class UnknownSink(SinkError):
    """There is no sink of this name."""


class SinkRefuses(SinkError):
    """What is asked of a sink makes no sense as it stands; says what to do instead."""


class UnreadableJson(VerisinkError):
    """The bytes are not strict JSON: see `worker.domain.strict_json`."""


class UnreadableNotification(VerisinkError):
    """The body is authentic but does not say what to retrieve; it is stored and parked for operators."""


class UnexpectedDocument(VerisinkError):
    """A provider answered with JSON that is not the resource asked for. The message quotes nothing of it."""


class NothingFound(UnexpectedDocument):
    """A provider answered with success, and its answer says that there is no such thing."""
