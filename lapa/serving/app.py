"""The ASGI application: every route over one service, behind one door."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lapa.serving import openpi, vla_eval
from lapa.serving.access import OPEN_PATHS, Tokens
from lapa.serving.guard import Guard
from lapa.serving.refusals import Refusal
from lapa.serving.rest import refused, routes
from lapa.serving.service import PolicyService, Status
from lapa.serving.sessions import Sessions


def build_app(
    service: PolicyService, sessions: Sessions, tokens: Tokens, *, when_failed: Callable[[], None] = lambda: None
) -> Guard:
    """`when_failed` is called when the bundle cannot be served; the service then knows why."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Load beside serving, so that probes are answered from the first moment on."""

        async def load() -> None:
            await service.load()
            if service.status is Status.FAILED:
                when_failed()

        loading = asyncio.create_task(load())
        yield
        loading.cancel()
        await service.close()

    # Swagger's page would load scripts from elsewhere; the document itself is at /openapi.json.
    app = FastAPI(title="LAPA policy server", version=version("lapa"), docs_url=None, redoc_url=None, lifespan=lifespan)
    app.include_router(routes(service))
    app.exception_handler(Refusal)(_on_refusal)
    app.exception_handler(RequestValidationError)(_on_bad_parameter)
    app.exception_handler(HTTPException)(_on_no_route)

    @app.websocket("/")
    async def talk_openpi(websocket: WebSocket) -> None:
        await openpi.talk(service, sessions, websocket)

    @app.websocket("/vla-eval")
    async def talk_vla_eval(websocket: WebSocket) -> None:
        await vla_eval.talk(service, sessions, websocket)

    open_paths = OPEN_PATHS | ({"/metrics"} if service.config.has_open_metrics else frozenset())
    return Guard(app, tokens, open_paths)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(request, error)


async def _on_bad_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return refused(request, Refusal("malformed", f"{place}: {first['msg']}."))


async def _on_no_route(request: Request, error: Exception) -> Response:
    """404 and 405, in the same form as every other error."""
    assert isinstance(error, HTTPException)
    response = refused(request, Refusal("malformed", f"{error.detail}."))
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response
