"""Shim: the WSGI application for a server of one's own choosing. It reads the environment when it is imported."""

from web.app import create_app
from worker import log, settings
from worker.runtime import Runtime

_settings = settings.load()
log.configure(_settings.log_level, _settings.log_format)
_runtime = Runtime(_settings)
_runtime.start_receiving()
app = create_app(_runtime)
