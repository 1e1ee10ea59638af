"""What every protocol of the server stands on: one policy, whether it may be asked, and answers that may leave."""

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float32

from lapa.config.serving import ServingConfig
from lapa.errors import LapaError, PolicyError
from lapa.serving.batching import Batcher, Timed
from lapa.serving.bounds import ActionBounds, NotFinite, OutOfBounds
from lapa.serving.metrics import Metrics
from lapa.serving.model import ServedModel
from lapa.serving.observations import Asked
from lapa.serving.recording import CLOSE_SECONDS, Recorder
from lapa.serving.recording_format import Seen
from lapa.serving.refusals import Refusal

logger = logging.getLogger(__name__)


class Status(StrEnum):
    """Where the server is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An action chunk that was looked at, and what is told about it."""

    actions: Float32[np.ndarray, "k a"]
    clamped: int
    """Numbers that were outside the recorded range."""
    request_id: str
    timing: dict[str, float]
    """Milliseconds by phase."""


class PolicyService:
    """Loads a bundle, answers observations, counts. Lives in one event loop."""

    def __init__(self, config: ServingConfig) -> None:
        self.config, self.metrics = config, Metrics()
        self.status = Status.LOADING
        self.error: LapaError | None = None
        self.running = 0
        """Requests under way, in every protocol."""
        self._model: ServedModel | None = None
        self._bounds: ActionBounds | None = None
        self._recorder: Recorder | None = None
        self._batcher: Batcher[Asked, np.ndarray] = Batcher(
            self._propose, max_batch=config.max_batch, queue=config.queue
        )
        self.metrics.queue_depth.set_function(lambda: self._batcher.depth)
        self.metrics.ready.set_function(lambda: self.status is Status.READY)

    @property
    def model(self) -> ServedModel:
        """Raises Refusal until the bundle is loaded."""
        if self._model is None:
            raise Refusal("unready", f"the server is {self.status}; ask again when /v2/health/ready says so.")
        return self._model

    async def load(self) -> None:
        """Load, warm up, replay; then take requests. What goes wrong is kept in `error`."""
        try:
            self._model = await asyncio.to_thread(ServedModel.load, self.config)
        except LapaError as error:
            self.status, self.error = Status.FAILED, error
            return
        except Exception as error:
            logger.exception("event=load_failed bundle=%s", self.config.bundle)
            self.status = Status.FAILED
            self.error = PolicyError(f"{self.config.bundle} cannot be loaded: {type(error).__name__}: {error}")
            return
        self._bounds = ActionBounds(self._model.policy.space, self.config.bounds)
        card = self._model.card
        self.metrics.info.labels(card["name"], card["version"], card["digest"]).set(1)
        if self.config.record:
            self._recorder = Recorder(self.config, self.config.record, card, self.metrics)
            self._recorder.start()
        self._batcher.start()
        self.status = Status.READY
        logger.info("event=ready name=%s version=%s digest=%s", card["name"], card["version"] or "-", card["digest"])

    async def close(self) -> None:
        await self._batcher.close()
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.close, CLOSE_SECONDS)

    def check_ready(self) -> None:
        """Raises Refusal where new work should go elsewhere."""
        if self.status is not Status.READY:
            raise Refusal("unready", f"the server is {self.status}; ask again when /v2/health/ready says so.")

    async def act(
        self,
        payload: Any,
        *,
        protocol: str,
        request_id: str | None = None,
        seconds: float | None = None,
        episode: str | None = None,
    ) -> Answer:
        """The actions for one observation. Raises Refusal for whatever keeps them from leaving.

        `episode`: what a recording puts it under; it stands alone without one.
        """
        request_id = request_id or uuid.uuid4().hex
        self.running += 1
        try:
            asked, answer = await self._act(payload, request_id, seconds)
        except Refusal as refusal:
            self._note_refusal(protocol, request_id, refusal)
            raise
        except PolicyError as error:
            complaint = Refusal("malformed", str(error))
            self._note_refusal(protocol, request_id, complaint)
            raise complaint from error
        except Exception as error:
            logger.exception("event=request_failed protocol=%s request=%s", protocol, request_id)
            self.metrics.requests.labels(protocol, "internal").inc()
            raise Refusal("internal", f"the server failed on request {request_id}; its log has the details.") from error
        finally:
            self.running -= 1
        self.metrics.requests.labels(protocol, "ok").inc()
        total_ms = answer.timing["total_ms"]
        logger.debug("event=answered protocol=%s request=%s total_ms=%.1f", protocol, request_id, total_ms)
        self._record(asked, answer, protocol, episode or "")
        return answer

    def reset(self) -> str:
        """Begin an episode; returns its id. Today's policies remember nothing, so counting is all there is to do."""
        self.metrics.episodes.inc()
        return uuid.uuid4().hex

    def _record(self, asked: Asked, answer: Answer, protocol: str, episode: str) -> None:
        if self._recorder is None or not self._recorder.wants(episode or answer.request_id):
            return
        self._recorder.offer(
            Seen(
                episode=episode,
                protocol=protocol,
                request_id=answer.request_id,
                time=time.time(),
                observation=asked.observation,
                instruction=asked.instruction,
                actions=answer.actions,
                clamped=answer.clamped,
            )
        )

    async def _act(self, payload: Any, request_id: str, seconds: float | None) -> tuple[Asked, Answer]:
        if self.status is Status.LOADING or self.status is Status.FAILED:
            self.check_ready()
        started = asyncio.get_running_loop().time()
        # Decoding a large picture takes a while, and probes are answered meanwhile.
        asked = await asyncio.to_thread(self.model.reader.read, payload)
        limit = min(seconds or self.config.deadline_seconds, self.config.deadline_seconds)
        timed = await self._batcher.ask(asked, seconds=limit)
        actions, clamped = self._checked(timed)
        total = asyncio.get_running_loop().time() - started
        self._observe(timed, total)
        return asked, Answer(
            actions=actions,
            clamped=clamped,
            request_id=request_id,
            timing={
                "queue_ms": timed.queue_seconds * 1000,
                "infer_ms": timed.infer_seconds * 1000,
                "total_ms": total * 1000,
                "batch": float(timed.batch_size),
            },
        )

    def _checked(self, timed: Timed[np.ndarray]) -> tuple[np.ndarray, int]:
        assert self._bounds is not None, "made when the model was loaded"
        try:
            chunk = self._bounds.check(timed.answer)
        except NotFinite:
            self.metrics.not_finite.inc()
            raise
        except OutOfBounds as error:
            self._count_outside(error.outside, "refused")
            raise
        self._count_outside(chunk.outside, "clamped")
        return chunk.actions, sum(chunk.outside)

    def _count_outside(self, outside: Sequence[int], handling: str) -> None:
        assert self._bounds is not None
        for name, count in zip(self._bounds.names, outside, strict=True):
            if count:
                self.metrics.out_of_bounds.labels(name, handling).inc(count)

    def _observe(self, timed: Timed[np.ndarray], total: float) -> None:
        self.metrics.latency.labels("queue").observe(timed.queue_seconds)
        self.metrics.latency.labels("infer").observe(timed.infer_seconds)
        self.metrics.latency.labels("total").observe(total)
        self.metrics.batch_size.observe(timed.batch_size)

    def _note_refusal(self, protocol: str, request_id: str, refusal: Refusal) -> None:
        self.metrics.requests.labels(protocol, refusal.reason).inc()
        logger.info(
            "event=refused protocol=%s request=%s reason=%s message=%r",
            protocol, request_id, refusal.reason, str(refusal),
        )  # fmt: skip

    def _propose(self, asked: Sequence[Asked]) -> Sequence[np.ndarray]:
        """In the batcher's thread."""
        return list(self.model.policy.propose([one.observation for one in asked], [one.instruction for one in asked]))
