"""Starts Rasa's own server as a worker: `python -m kefu worker`, from the root of the project."""

import logging
import os
from pathlib import Path

# Set before TensorFlow and Rasa are imported, because they read these variables once, and their imports warn about each
# other's deprecations.
logging.captureWarnings(True)  # a warnings filter would not be enough, because some packages set their own filters
logging.getLogger("py.warnings").setLevel(logging.ERROR)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RASA_TELEMETRY_ENABLED", "false")

from kefu import logs  # noqa: E402
from kefu.errors import SettingsError  # noqa: E402
from kefu.settings import WorkerSettings  # noqa: E402
from kefu.worker.start import collector, lean  # noqa: E402

CREDENTIALS = "credentials.yml"
ENDPOINTS = "endpoints.yml"


def main() -> None:
    """Serve until SIGTERM. Blocks. Raises SettingsError before anything is started."""
    settings = WorkerSettings.from_env()
    look_here(settings)
    collector.hold()
    lean.begin(settings.model)
    _serve(settings)


def look_here(settings: WorkerSettings) -> None:
    """Raise SettingsError if credentials.yml, endpoints.yml or the model is missing."""
    for path in (CREDENTIALS, ENDPOINTS):
        if not Path(path).is_file():
            raise SettingsError("working directory", f"has no {path}: start the worker from the project's root")
    if not Path(settings.model).exists():
        raise SettingsError("KEFU_MODEL", f"names {settings.model}, where no model is: run `make train`")


def _serve(settings: WorkerSettings) -> None:
    # Imported after `lean.begin`, which decides which modules an import of Rasa loads for this model.
    from rasa.core.run import serve_application
    from rasa.core.utils import AvailableEndpoints

    _log_through_kefu()
    serve_application(
        settings.model,
        interface=settings.host,
        port=settings.port,
        credentials=CREDENTIALS,
        endpoints=AvailableEndpoints.read_endpoints(ENDPOINTS),
        auth_token=settings.api_token or None,
        enable_api=True,
    )


def _log_through_kefu() -> None:
    """Send Rasa's log lines, which go through structlog, to Kefu's logging."""
    import structlog

    logs.configure("worker")
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
