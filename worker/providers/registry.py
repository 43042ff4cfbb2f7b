"""Which providers there are. A new one is a module, a line here, its samples, and its page in `docs/providers/`.

Other packages bring theirs through the entry-point group `verisink.providers`: a name, and a class that is called
without arguments.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points

from worker.errors import ConfigurationError
from worker.providers.base import Provider
from worker.providers.gu1 import Gu1Provider
from worker.providers.persona import PersonaProvider
from worker.providers.verifik import VerifikProvider
from worker.providers.yoti import YotiProvider
from worker.settings import PROVIDER_PLUGINS

BUILT_IN: tuple[Provider, ...] = (PersonaProvider(), VerifikProvider(), Gu1Provider(), YotiProvider())


def providers(wanted: Iterable[str] = ()) -> Mapping[str, Provider]:
    """The built-in providers by their names, and those of the `wanted` ones that other packages bring.

    Raises ConfigurationError for a wanted provider that nobody brings, or whose package does not load.
    """
    found = {provider.name: provider for provider in BUILT_IN}
    return {**found, **{name: _plugin(name) for name in set(wanted) - found.keys()}}


def _plugin(name: str) -> Provider:
    for entry in entry_points(group=PROVIDER_PLUGINS, name=name):
        try:
            provider: Provider = entry.load()()
        except Exception as error:
            problem = f"provider {name} of the package {entry.value} does not load: {type(error).__name__}: {error}"
            raise ConfigurationError([problem]) from error
        return provider
    raise ConfigurationError([f"provider {name}: no installed package brings it"])
