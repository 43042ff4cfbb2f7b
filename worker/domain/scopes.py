"""What a token of the API may do, and who asks with it."""

import re
from dataclasses import dataclass
from enum import StrEnum

MARK = "vsk_"
"""Every token that is made here begins so. Scanners of source code look for such a mark, and so can an operator."""

TOKEN = re.compile(MARK + r"[A-Za-z0-9_-]{43}")
"""The mark and 32 random bytes. Whatever looks different is in no database, so nobody needs to look."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""Names of tokens stand in audit entries, in log lines and on command lines, so they need no quoting anywhere."""


class Scope(StrEnum):
    """One thing that a token may do."""

    RESULTS_READ = "results:read"
    RESULTS_PII = "results:pii"
    RETRIEVALS_WRITE = "retrievals:write"
    REPLAYS_WRITE = "replays:write"
    OPS_READ = "ops:read"
    OPS_WRITE = "ops:write"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request to the API: the name of its token, and what that may do."""

    name: str
    scopes: frozenset[Scope]

    @property
    def actor(self) -> str:
        """What audit entries call it."""
        return f"api:{self.name}"

    def may(self, scope: Scope) -> bool:
        """Whether the token has this scope."""
        return scope in self.scopes


def known(names: str) -> frozenset[Scope]:
    """The scopes of stored names, which spaces part. A newer release may have stored one that means nothing here."""
    return frozenset(scope for scope in Scope if scope.value in names.split())


class TokenState(StrEnum):
    """Whether a token opens anything."""

    GOOD = "good"
    EXPIRED = "expired"
    REVOKED = "revoked"
