"""The few shapes that an answer can have, and the ways to give none."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

from aiohttp import web

_HTML = """<!DOCTYPE html>
<html><head><title>{status} {title}</title></head>
<body><center><h1>{status} {title}</h1></center><hr><center>nginx</center></body></html>
"""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Dropped(web.Response):
    """Stands for an answer on a connection that is already closed."""


def json_answer(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An answer in JSON."""
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def error_answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The API's own error body."""
    return json_answer({"error": text}, status, headers)


def auth_error(text: str) -> web.Response:
    """The body of a refused key, which has another shape than other errors."""
    body = {"error": "INVALID_API_KEY", "error_description": text, "status_code": 401}
    return json_answer(body, 401)


def html_answer(status: int, title: str) -> web.Response:
    """A page such as a gateway sends."""
    page = _HTML.format(status=status, title=title)
    return web.Response(text=page, status=status, content_type="text/html")


def transient_error(status: int) -> web.Response:
    """A 500 or 503 of the API's own, or the page of a gateway."""
    match status:
        case 502:
            return html_answer(502, "Bad Gateway")
        case 504:
            return html_answer(504, "Gateway Time-out")
        case 503:
            return error_answer(503, "Service temporarily unavailable")
    return error_answer(500, "Internal server error")


def drop(request: web.BaseRequest, *, reset: bool = False) -> Dropped:
    """Close the connection before any byte of an answer, with a TCP reset if asked to."""
    transport = request.transport
    if transport is not None:
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return Dropped()
