"""The media host: public files behind unguessable URLs, in parts if asked for, and its faults."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from runner.sandbox import results
from runner.sandbox.answers import html_answer
from runner.sandbox.book import Accepted
from runner.sandbox.request import Request
from runner.sandbox.simulation import Simulation
from runner.sandbox.studio import MediaFile

_NAME = re.compile(r"(moved-)?(\d)\.\w+")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_TERABYTE = 1 << 40
_DRIPS = 40
_HUGE_CHUNK = bytes(65536)
_PRIVATE_URL = "http://169.254.169.254/latest/meta-data/"


async def serve(
    simulation: Simulation, request: Request, token: str, name: str
) -> web.StreamResponse:
    """Answer `GET /media/{token}/{name}`."""
    record = simulation.book.by_token.get(token)
    found = _NAME.fullmatch(name)
    if record is None or found is None or not _there(simulation, record, int(found[2])):
        return _missing(404, "NoSuchKey")
    n = int(found[2])
    # A HEAD only looks: it uses no fault up, and suffers none.
    looks = request.method == "HEAD"
    fetches = simulation.fetches[token, n] + (0 if looks else 1)
    simulation.fetches[token, n] = fetches
    markers = frozenset() if looks else record.markers
    if "media-500-once" in markers and fetches == 1:
        return _missing(500, "InternalError")
    if "media-redirect" in markers and not found[1]:
        return _moved(f"/media/{token}/moved-{name}")
    file = await simulation.studio.file(record, n)
    for marker, fault in _FAULTS.items():
        if marker in markers and (fetches == 1 or not marker.endswith("-once")):
            return await fault(simulation, request, file)
    extra = {}
    if "evil-name" in markers:
        extra["Content-Disposition"] = f'attachment; filename="{results.EVIL_NAME}"'
    return _part(request, file, extra)


def _there(simulation: Simulation, record: Accepted, n: int) -> bool:
    now = simulation.now()
    if record.state(now) != "COMPLETED" or n >= len(results.file_names(record)):
        return False
    return now < record.finished_at + simulation.options.media_retention_s


def _missing(status: int, code: str) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return web.Response(text=text, status=status, content_type="application/xml")


def _moved(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location})


def _part(request: Request, file: MediaFile, extra: Mapping[str, str]) -> web.Response:
    total = len(file.content)
    headers = {
        "Content-Type": file.content_type,
        "Accept-Ranges": "bytes",
        "ETag": file.etag,
        **extra,
    }
    bounds = _bounds(request, file)
    if bounds is None:
        return web.Response(body=file.content, headers=headers)
    first, end = bounds
    if first >= end:
        headers["Content-Range"] = f"bytes */{total}"
        return web.Response(status=416, headers=headers)
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{total}"
    return web.Response(status=206, body=file.content[first:end], headers=headers)


def _bounds(request: Request, file: MediaFile) -> tuple[int, int] | None:
    """The part asked for as a half-open interval; None is the whole file."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or found[0] == "bytes=-":
        return None
    if request.headers.get("If-Range", file.etag) != file.etag:
        return None
    total = len(file.content)
    if not found[1]:
        return max(total - int(found[2]), 0), total
    return int(found[1]), min(int(found[2]) + 1 if found[2] else total, total)


async def _page(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    return html_answer(200, "Sign in")


async def _absent(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    return _missing(404, "NoSuchKey")


async def _forbidden(
    simulation: Simulation, request: Request, file: MediaFile
) -> web.StreamResponse:
    return _missing(403, "AccessDenied")


async def _loop(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    return _moved(request.path)


async def _private(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    return _moved(_PRIVATE_URL)


async def _wrong_type(
    simulation: Simulation, request: Request, file: MediaFile
) -> web.StreamResponse:
    return _part(request, MediaFile(file.content, "text/plain"), {})


async def _empty(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    return _part(request, MediaFile(b"", file.content_type), {})


async def _garbage(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    # The head is right, so that only who decodes the whole file finds out.
    head = len(file.content) // 8
    broken = file.content[:head] + file.content[head:][::-1]
    return _part(request, MediaFile(broken, file.content_type), {})


async def _truncated(
    simulation: Simulation, request: Request, file: MediaFile
) -> web.StreamResponse:
    whole = _part(request, file, {})
    content = whole.body if isinstance(whole.body, bytes) else b""
    response = await _started(request, whole, len(content))
    await response.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def _hanging(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    response = await _started(request, _part(request, file, {}), len(file.content))
    await simulation.nap(simulation.options.hang_s)
    if request.transport is not None:
        request.transport.close()
    return response


async def _drip(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    whole = _part(request, file, {})
    content = whole.body if isinstance(whole.body, bytes) else b""
    response = await _started(request, whole, len(content))
    piece = max(len(content) // _DRIPS, 1)
    for start in range(0, len(content), piece):
        await response.write(content[start : start + piece])
        await simulation.nap(simulation.options.drip_s / _DRIPS)
    return response


async def _huge(simulation: Simulation, request: Request, file: MediaFile) -> web.StreamResponse:
    response = await _started(request, _part(request, file, {}), _TERABYTE)
    await response.write(file.content)
    for _ in range(_DRIPS):
        await response.write(_HUGE_CHUNK)
        await simulation.nap(simulation.options.hang_s / _DRIPS)
    if request.transport is not None:
        request.transport.close()
    return response


async def _started(request: Request, like: web.Response, length_bytes: int) -> web.StreamResponse:
    """Send the head of a response that is not going to be sent as it should."""
    response = web.StreamResponse(status=like.status, headers=like.headers)
    response.content_length = length_bytes
    await response.prepare(request)
    return response


_Fault = Callable[[Simulation, Request, MediaFile], Awaitable[web.StreamResponse]]
_FAULTS: Mapping[str, _Fault] = {
    "media-403": _forbidden,
    "media-404": _absent,
    "media-drip": _drip,
    "media-empty": _empty,
    "media-garbage": _garbage,
    "media-hang": _hanging,
    "media-html": _page,
    "media-huge": _huge,
    "media-redirect-loop": _loop,
    "media-redirect-private": _private,
    "media-truncated": _truncated,
    "media-truncated-once": _truncated,
    "media-wrong-type": _wrong_type,
}
