"""The policy server as a process: `python -m lapa serve - '{"bundle": "work/…/policy"}'`."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

import uvicorn
from pydantic import ValidationError

from lapa.config.run import RunConfig
from lapa.config.serving import ServingConfig
from lapa.errors import ConfigError, ServingError
from lapa.serving.access import load_tokens
from lapa.serving.app import build_app
from lapa.serving.patience import impatient
from lapa.serving.service import PolicyService, Status
from lapa.serving.sessions import Sessions

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.05


def main(run: RunConfig | None, arguments: Sequence[str] = ()) -> None:
    """Serve until a signal. Raises what kept the bundle from being served."""
    if run is not None or len(arguments) != 1:
        raise ConfigError("`python -m lapa serve` takes its settings: python -m lapa serve - '{\"bundle\": …}'")
    try:
        config = ServingConfig.model_validate_json(arguments[0])
    except ValidationError as error:
        raise ConfigError(f"the server's settings are not valid: {error}") from None
    serve(config)


def serve(config: ServingConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises PolicyError, ConfigError, ServingError."""
    tokens = load_tokens(config)
    service = PolicyService(config)
    sessions = Sessions(service)
    app = build_app(service, sessions, tokens, when_failed=lambda: server.stop())
    server = DrainingServer(uvicorn_config(app, config), service, sessions)
    if not tokens:
        logger.warning("event=open_server host=%s message='no token is asked for'", config.host)
    try:
        server.run()
    except SystemExit as error:  # uvicorn's word for an address in use
        raise ServingError(
            f"the server cannot listen on {config.host}:{config.port}; the line above says why. Take another --port."
        ) from error
    if service.error is not None:
        raise service.error


def uvicorn_config(app: Any, config: ServingConfig) -> uvicorn.Config:
    """uvicorn without what a robot's server must not have: compression bombs, banners, endless request heads."""
    server_log = logging.getLogger("uvicorn.error")
    server_log.setLevel(logging.WARNING)
    server_log.addFilter(_is_news)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)  # its lines hold whole addresses
    return uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        http=impatient(config.header_seconds),
        ws="websockets-sansio",
        ws_max_size=config.max_request_bytes,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=5,
    )


def _is_news(record: logging.LogRecord) -> bool:
    """uvicorn takes a handshake that was answered with an error for one that was forgotten; the guard logs those."""
    return "without completing handshake" not in record.getMessage()


class DrainingServer(uvicorn.Server):
    """Ends in order: readiness off, what runs is answered, sockets closed with "connect again", then the process.

    A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, service: PolicyService, sessions: Sessions) -> None:
        super().__init__(config)
        self._service, self._sessions = service, sessions
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """End without ceremony."""
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                logger.info("event=listening host=%s port=%d", host, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.status is not Status.READY or self._loop is None:
            self.should_exit, self.force_exit = True, self._service.status is Status.DRAINING
            return
        logger.info("event=draining signal=%s seconds=%g", signal.Signals(sig).name, self._service.config.drain_seconds)
        self._service.status = Status.DRAINING
        self._loop.call_soon_threadsafe(self._begin_drain)  # the loop may be asleep

    def _begin_drain(self) -> None:
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        config = self._service.config
        await asyncio.sleep(config.drain_seconds)
        await self._sessions.close()
        try:
            async with asyncio.timeout(config.grace_seconds):
                while self._service.running or len(self._sessions):
                    await asyncio.sleep(TICK_SECONDS)
        except TimeoutError:
            logger.warning("event=drain_timeout running=%d sessions=%d", self._service.running, len(self._sessions))
        logger.info("event=drained")
        self.should_exit = True
