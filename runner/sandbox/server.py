"""The server: starts and stops, and notes what it was asked and what it answered."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import formatdate
from types import MappingProxyType
from typing import Any, Self, cast

from aiohttp import web

from runner.sandbox.answers import Dropped
from runner.sandbox.book import Accepted
from runner.sandbox.gate import Way, lead, way_of
from runner.sandbox.options import Options
from runner.sandbox.request import Request, make_request
from runner.sandbox.requestlog import NO_ANSWER, Seen
from runner.sandbox.simulation import Simulation

_GRACE_S = 0.5
_DEFAULTS = Options()


class Sandbox:
    """A simulated API on a port of its own; `clock` gives the real time, for tests that jump."""

    def __init__(
        self, options: Options = _DEFAULTS, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.options = options
        self._clock = clock
        self._simulation: Simulation | None = None
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one."""
        simulation = self._simulation = Simulation(self.options, self._clock)
        server = web.Server(
            self._answer,
            request_factory=make_request,
            handler_cancellation=True,
            access_log=None,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=_GRACE_S)
        try:
            simulation.remember()
            await self._runner.setup()
            await web.TCPSite(self._runner, host, port, backlog=1024).start()
        except BaseException:
            await self.stop()
            raise
        simulation.origin = _origin(host, self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close everything; what was seen can still be read."""
        if self._simulation is not None:
            self._simulation.wake()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._simulation is not None:
            self._simulation.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The origin of API, history and media alike."""
        return self._state.origin

    @property
    def accepted(self) -> Mapping[str, Accepted]:
        """Every accepted request by its id."""
        return MappingProxyType(self._state.book.accepted)

    @property
    def requests(self) -> deque[Seen]:
        """The most recent requests, in the order of their answers."""
        return self._state.log.recent

    @property
    def key_leaks(self) -> list[str]:
        """Requests to the media host that carried a key."""
        return self._state.log.key_leaks

    def stats(self) -> dict[str, Any]:
        """What `GET /sandbox/stats` tells."""
        return self._state.log.stats(self._state.book)

    @property
    def _state(self) -> Simulation:
        if self._simulation is None:
            raise RuntimeError("the sandbox was not started")
        return self._simulation

    async def _answer(self, plain_request: web.BaseRequest) -> web.StreamResponse:
        request = cast("Request", plain_request)
        simulation = self._state
        came_at = simulation.now()
        way = way_of(request.path)
        response: web.StreamResponse | None = None
        try:
            response = await lead(simulation, request, way)
        finally:
            # Also when the client went away in the middle of it.
            if way.name != "sandbox":
                simulation.log.add(_seen(came_at, request, way, response))
        if simulation.options.clock_skew_s and not response.prepared:
            response.headers["Date"] = formatdate(simulation.now(), usegmt=True)
        return response


def _seen(came_at: float, request: Request, way: Way, response: web.StreamResponse | None) -> Seen:
    answered = response is not None and not isinstance(response, Dropped)
    return Seen(
        time=came_at,
        method=request.method,
        path=request.path,
        route=way.name,
        status=response.status if response is not None and answered else NO_ANSWER,
        request_id=way.request_id or request.accepted_id,
        has_key="x-api-key" in request.headers,
    )


def _origin(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
