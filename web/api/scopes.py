"""Which scope each route of the API needs, in one place. A route that is not listed here is refused to everybody."""

from collections.abc import Mapping

from worker.domain.scopes import Scope

NEEDED: Mapping[str, Scope] = {
    "api.list_results": Scope.RESULTS_READ,
    "api.one_result": Scope.RESULTS_READ,
    "api.list_versions": Scope.RESULTS_READ,
    "api.list_events": Scope.RESULTS_READ,
    "api.retrieve": Scope.RETRIEVALS_WRITE,
    "api.add_expectation": Scope.RETRIEVALS_WRITE,
    "api.cancel_expectation": Scope.RETRIEVALS_WRITE,
    "api.list_expectations": Scope.OPS_READ,
    "api.one_expectation": Scope.OPS_READ,
    "api.list_sources": Scope.OPS_READ,
    "api.hold_source": Scope.OPS_WRITE,
    "api.release_source": Scope.OPS_WRITE,
    "api.list_sinks": Scope.OPS_READ,
    "api.hold_sink": Scope.OPS_WRITE,
    "api.release_sink": Scope.OPS_WRITE,
    "api.list_lanes": Scope.OPS_READ,
    "api.list_replays": Scope.OPS_READ,
    "api.one": Scope.OPS_READ,
    "api.list_items": Scope.OPS_READ,
    "api.start": Scope.REPLAYS_WRITE,
    "api.pause_replay": Scope.REPLAYS_WRITE,
    "api.resume_replay": Scope.REPLAYS_WRITE,
    "api.cancel_replay": Scope.REPLAYS_WRITE,
}
"""By the endpoint's name in Flask."""

OPEN: frozenset[str] = frozenset()
"""Endpoints that need no token, such as a description of the API that holds no data."""
