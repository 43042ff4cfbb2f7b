"""Which providers there are. A new one is a module, a line here, its samples, and its page in `docs/providers/`."""

from collections.abc import Mapping

from worker.providers.base import Provider
from worker.providers.gu1 import Gu1Provider
from worker.providers.persona import PersonaProvider
from worker.providers.verifik import VerifikProvider
from worker.providers.yoti import YotiProvider

BUILT_IN: tuple[Provider, ...] = (PersonaProvider(), VerifikProvider(), Gu1Provider(), YotiProvider())


def providers() -> Mapping[str, Provider]:
    """Every provider by its name in the settings."""
    return {provider.name: provider for provider in BUILT_IN}
