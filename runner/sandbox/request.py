"""The request as the routes see it: room for large bodies, and for the id that it led to."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

_MAX_BODY_BYTES = 64 * 1024 * 1024


class Request(web.BaseRequest):
    """A request that remembers the id of the job it started."""

    ATTRS = web.BaseRequest.ATTRS | frozenset({"accepted_id"})
    accepted_id: str | None = None


def make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> Request:
    """Build a request for the server; bodies may carry whole pictures."""
    loop = asyncio.get_running_loop()
    return Request(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY_BYTES)
