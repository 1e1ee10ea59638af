"""A proxy in front of the tests' S3 server that breaks a share of the requests, as a bad day of a real store does.

Own code on aiohttp, which s3fs brings: toxiproxy works on TCP streams, so it cannot answer 503 or change a header, and
is no Python package; mitmproxy could, with fifty packages of its own.
"""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import fsspec
import pytest
from aiohttp import web
from yarl import URL

from tests.s3_server import S3Server

FAULTS = ("timeout", "slow-down", "reset", "truncated", "wrong-tag")
IMPATIENT_SECONDS, PATIENT_SECONDS = 5, 240
"""How long the tests' S3 clients wait for bytes, where a fault of kind `timeout` sends none and where there is none."""
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"


class FaultyProxy:
    """Breaks `rate` of all requests, drawn from `seed`; `always` names objects, by the end of their key, that have
    one fault for ever: one of FAULTS, or `denied`."""

    def __init__(self, target: str, *, rate: float, seed: int) -> None:
        self.target, self.rate = target, rate
        self.always: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        """By `METHOD key`."""
        self.faults: Counter[str] = Counter()
        self.endpoint = ""
        self._random = random.Random(seed)

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=PATIENT_SECONDS)
        )
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{key:.*}", self._handle)
        # Not the access log: it formats a line for every request.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.endpoint = "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests[f"{request.method} {request.path}"] += 1
        fault = self._fault(request.path)
        if fault:
            self.faults[fault] += 1
        if fault == "timeout":
            await asyncio.sleep(3600)  # cancelled when the client goes
        if fault in ("slow-down", "denied"):
            status, body = (503, _SLOW_DOWN) if fault == "slow-down" else (403, _DENIED)
            return web.Response(status=status, body=body, content_type="application/xml")
        # The host is part of what the client signed.
        url = URL(self.target + request.raw_path, encoded=True)
        body = await request.read()
        async with self._session.request(request.method, url, headers=request.headers, data=body or None) as answer:
            return await self._pass_on(request, answer, await answer.read(), fault)

    def _fault(self, path: str) -> str | None:
        for end, fault in self.always.items():
            if path.endswith(end):
                return fault
        return self._random.choice(FAULTS) if self._random.random() < self.rate else None

    async def _pass_on(
        self, request: web.Request, answer: aiohttp.ClientResponse, body: bytes, fault: str | None
    ) -> web.StreamResponse:
        headers = answer.headers.copy()
        headers.popall("Transfer-Encoding", None)
        if request.method != "HEAD":
            headers["Content-Length"] = str(len(body))
        if fault == "wrong-tag" and "ETag" in headers:
            headers["ETag"] = f'"{self._random.getrandbits(128):032x}"'
        response = web.StreamResponse(status=answer.status, headers=headers)
        if fault in ("reset", "truncated"):
            assert request.transport is not None
            if fault == "truncated" and body:
                await response.prepare(request)
                await response.write(body[: len(body) // 2])
                request.transport.close()  # an end before the announced length
            else:
                request.transport.abort()
            return response
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(body)
        await response.write_eof()
        return response


@contextmanager
def faulty_proxy(
    server: S3Server, *, rate: float = 0.1, seed: int = 0, has_timeouts: bool | None = None
) -> Iterator[FaultyProxy]:
    """The proxy, with this process and its children sent to it; impatient where requests may hang."""
    proxy = FaultyProxy(server.endpoint, rate=rate, seed=seed)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(timeout=PATIENT_SECONDS)
    seconds = IMPATIENT_SECONDS if (rate > 0 if has_timeouts is None else has_timeouts) else PATIENT_SECONDS
    settings = {"config_kwargs": {"read_timeout": seconds, "retries": {"max_attempts": 0}}}
    try:
        with pytest.MonkeyPatch.context() as changes:
            changes.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            # Read once, when fsspec is imported: here it is there already, in children it is not.
            changes.setenv("FSSPEC_S3", json.dumps(settings))
            changes.setitem(fsspec.config.conf, "s3", settings)
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            yield proxy
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(timeout=PATIENT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=PATIENT_SECONDS)
        loop.close()
