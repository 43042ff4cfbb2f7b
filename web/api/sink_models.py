"""What the API says of sinks, as types."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from web.api.models import Place
from worker.settings_sink import SinkName


class SinkPlace(Place):
    """The sink that a path names."""

    noun = "sink"
    name: SinkName


class Sink(BaseModel):
    """How one sink stands. `state` is `active`, `held`, `away`, `refusing`, or `removed` from the settings."""

    model_config = ConfigDict(from_attributes=True)

    sink: str
    state: str
    position: int
    lag: int
    oldest_seconds: float | None
    waiting: int
    given_up: int
    held_at: datetime | None
    hold_reason: str | None
    away_since: datetime | None
    failures: int
    last_error: str | None


class Sinks(BaseModel):
    """Every sink."""

    items: list[Sink]


class SinkChanged(BaseModel):
    """A sink after it was to be held or released, and whether that changed anything."""

    changed: bool
    sink: Sink
