"""Shim: what `celery -A worker` finds. It reads the environment when it is imported; nothing else may import it."""

# First, because it loads libraries that the others import.
from worker import lean

# isort: split
from worker import log, settings

_settings = settings.load()
log.configure(_settings.log_level, _settings.log_format)
app = lean.load("worker.tasks").make_worker_app(_settings)
