"""`POST /upload-asset`: files in, addresses out; and the files at these addresses."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from runner.sandbox.answers import auth_error, drop, error_answer, json_answer
from runner.sandbox.markers import MARKERS, texts
from runner.sandbox.request import Request
from runner.sandbox.simulation import Simulation
from runner.sandbox.vault import Medium, medium_of

_MARKER = re.compile(rb"\[\[(upload-[a-z0-9-]+)\]\]")
_NOWHERE = "0" * 40
_REFUSALS = {
    "upload-404": (404, "Not found"),
    "upload-413": (413, "File too large"),
    "upload-500": (500, "Internal server error"),
}
_FIRST_ONLY = {"upload-500-once": (500, "Internal server error")}


async def take(simulation: Simulation, request: Request) -> web.Response:
    """Answer one upload of one file or several."""
    raw = await request.read()
    try:
        given = json.loads(raw)["data_urls"]
    except (ValueError, TypeError, KeyError):
        given = None
    if not isinstance(given, list) or not given:
        return error_answer(400, "data_urls must be a list of data URLs")
    media = []
    for number, text in enumerate(given):
        medium = await asyncio.to_thread(medium_of, text)
        if medium is None:
            return error_answer(400, f"data_urls[{number}] is no data URL of a file in base64")
        media.append(medium)
    markers = {m.decode() for each in media for m in _MARKER.findall(each.content)} & set(MARKERS)
    first = simulation.vault.uploads[media[0].digest] == 0
    simulation.vault.uploads.update(each.digest for each in media)
    return _answered(simulation, request, media, markers, first)


def _answered(
    simulation: Simulation, request: Request, media: list[Medium], markers: set[str], first: bool
) -> web.Response:
    refusals = {**_REFUSALS, **(_FIRST_ONLY if first else {})}
    for marker in markers & set(refusals):
        return error_answer(*refusals[marker])
    if "upload-401" in markers:
        return auth_error("The API key is not valid")
    if "upload-429" in markers and first:
        return simulation.rate_limited()
    if "upload-no-url" in markers:
        return json_answer({"message": "Files uploaded successfully"})
    gone = "upload-gone-once" in markers and first
    urls = [
        _url(simulation, each, _NOWHERE if gone else simulation.vault.put(each)) for each in media
    ]
    if "upload-lost-once" in markers and first:
        return drop(request)
    return json_answer({"file_urls": urls, "message": "Files uploaded successfully"})


def _url(simulation: Simulation, medium: Medium, token: str) -> str:
    suffix = mimetypes.guess_extension(medium.content_type) or ".bin"
    return f"{simulation.origin}/uploads/{token}/file{suffix}"


async def serve(simulation: Simulation, request: Request, token: str, name: str) -> web.Response:
    """Answer `GET /uploads/{token}/{name}`."""
    medium = await asyncio.to_thread(simulation.vault.get, token)
    if medium is None:
        return error_answer(404, "No such file")
    return web.Response(body=medium.content, content_type=medium.content_type)


def unusable_input(simulation: Simulation, body: Mapping[str, Any]) -> str | None:
    """Why a job of this body fails for its files: those that it names have to be there."""
    for text in texts(body):
        if text.startswith(f"{simulation.origin}/uploads/"):
            token = text.removeprefix(f"{simulation.origin}/uploads/").partition("/")[0]
            if token not in simulation.vault:
                return f"Failed to download the input from {text}: 404"
        elif text.startswith("data:") and medium_of(text) is None:
            return "The input is no file in base64"
    return None
