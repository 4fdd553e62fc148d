"""The gateway process: `create_app` builds its Sanic app, `main` runs it until SIGTERM.

In: HTTP requests of customers and of the desk. Out: events on `user.query`; replies read from Redis.
"""

import gc
from typing import Any, Callable, Optional

from sanic import HTTPResponse, Request, Sanic

from kefu import logs
from kefu.gateway.problems import ProblemHandler
from kefu.gateway.receive.acceptance import Sender
from kefu.gateway.responses import SECURITY, Answer
from kefu.gateway.routes import pages
from kefu.gateway.routes.desk import desk
from kefu.gateway.routes.messages import messages
from kefu.gateway.routes.probes import probes
from kefu.gateway.routes.sessions import sessions
from kefu.gateway.routes.streams import streams
from kefu.gateway.service import Gateway
from kefu.kafka import EventProducer
from kefu.settings import MAX_BODY_BYTES, GatewaySettings, KafkaSettings, RedisSettings

RESPONSE_MARGIN_S = 30  # how much longer a response may take than its waits for Kafka and for the outcome


def create_app(
    settings: GatewaySettings,
    kafka: KafkaSettings,
    redis: RedisSettings,
    producer: Optional[Callable[[], Sender]] = None,
    name: str = "kefu-gateway",
) -> Sanic[Any, Any]:
    """Return the gateway's Sanic app. It connects to Kafka and Redis when its server starts.

    Args:
        settings: tenants, limits, times.
        kafka: where accepted messages are sent.
        redis: where replies are read.
        producer: makes the producer. The default producer gives a record up after `accept_timeout_s`; the sender's
            request fails at the same time.
        name: the app's name; Sanic wants a different one for each app of a process.
    """
    app = Sanic(name, error_handler=ProblemHandler(), configure_logging=False, env_prefix="KEFU_SANIC_")
    _configure(app, settings)
    app.ctx.assets = pages.load(settings)
    app.blueprint([sessions, messages, streams, desk, probes, pages.pages])
    app.on_response(_finish)
    make = producer or (lambda: EventProducer(kafka, settings.accept_timeout_s))

    @app.before_server_start
    async def start(app: Sanic[Any, Any], *_: Any) -> None:
        sender = make()
        app.ctx.gateway = Gateway(settings, kafka, redis, sender)
        app.ctx.gateway.start()
        await sender.connect()  # now, because a connect at the first message might exceed that message's time limit

    @app.before_server_stop
    async def drain(app: Sanic[Any, Any], *_: Any) -> None:
        await app.ctx.gateway.drain()

    @app.after_server_stop
    async def stop(app: Sanic[Any, Any], *_: Any) -> None:
        await app.ctx.gateway.stop()

    return app


def _configure(app: Sanic[Any, Any], settings: GatewaySettings) -> None:
    longest_s = settings.wait_limit_s + settings.accept_timeout_s + RESPONSE_MARGIN_S
    app.config.update(
        {
            "REQUEST_MAX_SIZE": MAX_BODY_BYTES,
            # Counts from the last byte written, so it also ends a stream whose client reads nothing.
            "RESPONSE_TIMEOUT": longest_s,
            "REQUEST_TIMEOUT": 20,
            "KEEP_ALIVE_TIMEOUT": 75,
            "GRACEFUL_SHUTDOWN_TIMEOUT": 3.0,
            "PROXIES_COUNT": settings.proxies or None,
            "ACCESS_LOG": False,
            "MOTD": False,
        }
    )


def _finish(request: Request, response: HTTPResponse) -> None:
    """Count and log a response. A response that Sanic made itself gets the security headers here."""
    if not isinstance(response, Answer):
        for header, value in SECURITY.items():
            response.headers.setdefault(header, value)
    request.app.ctx.gateway.access.note(request, response)


async def _freeze(_: Sanic[Any, Any]) -> None:
    """Exempt the objects of the start from garbage collection: 60,000, which cost each full collection 35 ms."""
    gc.collect()
    gc.freeze()


def main() -> None:
    """Serve until SIGTERM or SIGINT; then drain, flush and return. Raises SettingsError."""
    settings = GatewaySettings.from_env()
    kafka, redis = KafkaSettings.from_env(), RedisSettings.from_env()
    logs.configure("gateway")
    app = create_app(settings, kafka, redis)
    app.after_server_start(_freeze)
    app.run(settings.host, settings.port, single_process=True, access_log=False, motd=False, debug=False)
