"""The HTTP side: actions, health, metadata, metrics."""

import asyncio
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lapa.client.wire import pack, to_json
from lapa.serving.bodies import Body, parse_body, read_body
from lapa.serving.refusals import Refusal
from lapa.serving.schemas import ACT_BODY, ActionRecord, EpisodeReply, ErrorReply, Health, Metadata
from lapa.serving.service import Answer, PolicyService, Status

RETRY_SECONDS = "1"


class Reply(StrEnum):
    """How much of the answer is sent."""

    RECORD = "record"
    """Actions, model, timing."""
    CHUNK = "chunk"
    """The actions alone, horizon x dimensions."""
    ACTION = "action"
    """The first action alone, as OpenVLA's and LAPA's own servers answer."""


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorReply, "description": "The request is not what it must be."},
    401: {"model": ErrorReply, "description": "No accepted token."},
    408: {"model": ErrorReply, "description": "The body came too slowly."},
    413: {"model": ErrorReply, "description": "The body or the image is too large."},
    429: {"model": ErrorReply, "description": "Too many requests are waiting."},
    500: {"model": ErrorReply, "description": "No safe action was found."},
    503: {"model": ErrorReply, "description": "Loading, or about to stop."},
    504: {"model": ErrorReply, "description": "No action in time."},
}


def _answers(model: type[Any], *refusals: int | str) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: what a route answers, and how it may refuse."""
    return {200: {"model": model}, **{status: _REFUSALS[status] for status in refusals}}


def routes(service: PolicyService) -> APIRouter:
    """Every HTTP route of one service."""
    router = APIRouter()

    @router.post("/act", response_model=None, responses=_answers(ActionRecord, *_REFUSALS), openapi_extra=ACT_BODY)
    async def act(
        request: Request,
        reply: Annotated[Reply, Query(description="How much of the answer to send.")] = Reply.RECORD,
        deadline_seconds: Annotated[
            float | None, Query(gt=0, le=3600, description="Refuse rather than answer later; the server's own at most.")
        ] = None,
        episode: Annotated[
            str | None,
            Query(pattern="^[A-Za-z0-9]{1,64}$", description="What `/reset` answered; recordings keep it together."),
        ] = None,
    ) -> Response:
        """Observation and instruction in, action chunk out."""
        config = service.config
        data = await read_body(request, max_bytes=config.max_request_bytes, seconds=config.body_seconds)
        body = await asyncio.to_thread(parse_body, data, request.headers.get("content-type", ""))
        answer = await service.act(
            body.payload,
            protocol="rest",
            request_id=request.scope["request_id"],
            seconds=deadline_seconds,
            episode=episode,
        )
        return _response(service, answer, body, reply)

    @router.post("/reset", response_model=None, responses=_answers(EpisodeReply, 401))
    async def reset() -> Response:
        """Begin an episode."""
        return JSONResponse({"episode": service.reset()})

    @router.get("/metadata", response_model=None, responses=_answers(Metadata, 401, 503))
    async def metadata() -> Response:
        """What the policy is, and what it looks at."""
        return JSONResponse(service.model.card)

    @router.get("/healthz", response_model=None, responses={200: {"model": Health}})
    @router.get("/v2/health/live", response_model=None, responses={200: {"model": Health}})
    async def live() -> Response:
        """The process answers; whatever the model does, which runs in a thread of its own."""
        return JSONResponse({"status": service.status.value})

    @router.get("/v2/health/ready", response_model=None, responses={200: {"model": Health}, 503: {"model": Health}})
    async def ready() -> Response:
        """The model is loaded and warm, and the server is not about to stop."""
        code = 200 if service.status is Status.READY else 503
        return JSONResponse({"status": service.status.value}, status_code=code)

    @router.get("/metrics", response_class=PlainTextResponse, responses={401: _REFUSALS[401]})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def refused(request: Request, refusal: Refusal) -> Response:
    """A refusal as its status and an `ErrorReply`."""
    error = {"reason": refusal.reason, "message": str(refusal), "request_id": request.scope.get("request_id", "")}
    headers = {"retry-after": RETRY_SECONDS} if refusal.reason in ("overloaded", "unready") else {}
    if refusal.reason in ("too_large", "too_slow"):
        headers["connection"] = "close"  # the rest of the body is not read
    return JSONResponse({"error": error}, status_code=refusal.status, headers=headers)


def record(service: PolicyService, answer: Answer) -> dict[str, Any]:
    """The whole answer, its actions as an array: what every protocol sends in its own form."""
    card = service.model.card
    return {
        "actions": answer.actions,
        "clamped": answer.clamped,
        "request_id": answer.request_id,
        "model": {"name": card["name"], "version": card["version"], "digest": card["digest"]},
        "server_timing": answer.timing,
    }


def _response(service: PolicyService, answer: Answer, body: Body, reply: Reply) -> Response:
    content: Any
    match reply:
        case Reply.RECORD:
            content = record(service, answer)
        case Reply.CHUNK:
            content = answer.actions
        case Reply.ACTION:
            content = answer.actions[0]
    if body.is_msgpack:
        return Response(pack(content), media_type="application/msgpack")
    plain = _plain(content, has_arrays=body.has_arrays)
    response = JSONResponse(plain)
    # Who sends JSON as text inside JSON reads the answer the same way.
    return JSONResponse(response.body.decode()) if body.is_encoded else response  # type: ignore[union-attr]


def _plain(content: Any, *, has_arrays: bool) -> Any:
    if isinstance(content, np.ndarray):
        return to_json(content) if has_arrays else content.tolist()
    if isinstance(content, dict):
        return {key: _plain(value, has_arrays=has_arrays) for key, value in content.items()}
    return content
