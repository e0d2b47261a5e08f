"""The API, one method for one request; the only place that sends the key, and only to its own hosts.

It follows no redirect, retries nothing and judges nothing: whatever happens becomes an Answer.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import IO, Any
from urllib.parse import quote

import aiohttp
import anyio.to_thread

from runner import __version__
from runner.characters import mended
from runner.clock import steady_s
from runner.job import Answer, Fault

USER_AGENT = f"segmind-runner/{__version__} (python aiohttp)"
CONNECT_TIMEOUT_S = 15.0
BODY_LIMIT_BYTES = 64 * 1024 * 1024
# An excerpt is taken from the beginning: searching all of a large body would hold up the run.
EXCERPT_LIMIT = 5000
TEXT_LIMIT = 300
LARGE_TEXT = 200_000
REDACTED = "[key redacted]"
HISTORY_PATH = "/inference-request/request-history"


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API is and with which key; origins without a path, times in seconds."""

    base_url: str
    history_url: str
    key: str = field(repr=False)
    timeout_s: float = 60.0
    upload_url: str = ""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which page of the request history; dates are `YYYY-MM-DD`, both ends included."""

    from_date: str
    to_date: str
    model: str | None = None
    page: int = 1
    per_page: int = 100


class Api:
    """The API's requests; use as `async with`."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._usual_timeout = self._timeout(access.timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Api:
        self._session = aiohttp.ClientSession(
            # The engine bounds what is in flight; a queue in here would make time-outs ambiguous.
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def submit(self, model: str, params: Mapping[str, Any]) -> Answer:
        """`POST /v2/{model}`: starts a billable job when it is accepted. Never repeated in here."""
        url = f"{self._access.base_url}/v2/{quote(model, safe='/')}"
        if not _is_large(params):
            return await self._send("POST", url, _encoded(params))
        # Files that are sent inline: to write and copy them would hold up the run.
        body = await anyio.to_thread.run_sync(_encoded, params)
        return await self._send("POST", url, io.BytesIO(body))

    async def upload(self, body: IO[bytes], timeout_s: float) -> Answer:
        """`POST /upload-asset` with `{"data_urls": […]}` as JSON; costs nothing and may be repeated."""
        url = f"{self._access.upload_url}/upload-asset"
        return await self._send("POST", url, body, self._timeout(timeout_s))

    async def status(self, request_id: str) -> Answer:
        """`GET /v2/requests/{id}/status`."""
        return await self._send("GET", f"{self._request_url(request_id)}/status")

    async def result(self, request_id: str) -> Answer:
        """`GET /v2/requests/{id}`."""
        return await self._send("GET", self._request_url(request_id))

    async def credits(self) -> Answer:
        """`GET /v1/get-user-credits`: the balance; costs nothing."""
        return await self._send("GET", f"{self._access.base_url}/v1/get-user-credits")

    async def history(self, query: HistoryQuery) -> Answer:
        """One page of the request history, the newest first."""
        values = {
            "page": str(query.page),
            "per_page": str(query.per_page),
            "from_date": query.from_date,
            "to_date": query.to_date,
            "sort_by": "model_created",
            "sort_order": "desc",
        }
        if query.model is not None:
            values["model_name"] = query.model
        pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())
        return await self._send("GET", f"{self._access.history_url}{HISTORY_PATH}?{pairs}")

    async def history_of(self, request_id: str) -> Answer:
        """The history's row of one own request, of any age."""
        path = f"{HISTORY_PATH}/{quote(request_id, safe='')}"
        return await self._send("GET", f"{self._access.history_url}{path}")

    def _request_url(self, request_id: str) -> str:
        # Built here and never taken from an answer: a foreign status URL would be handed the key.
        return f"{self._access.base_url}/v2/requests/{quote(request_id, safe='')}"

    def _timeout(self, total_s: float) -> aiohttp.ClientTimeout:
        # Ends well before the whole time, which would leave in doubt what was never sent.
        connect_s = min(CONNECT_TIMEOUT_S, self._access.timeout_s / 2)
        return aiohttp.ClientTimeout(total=total_s, connect=connect_s)

    async def _send(
        self,
        method: str,
        url: str,
        body: bytes | IO[bytes] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> Answer:
        if self._session is None:
            raise RuntimeError("the API is used outside `async with`")
        headers = {"x-api-key": self._access.key}
        if body is not None:
            headers["Content-Type"] = "application/json"
        timeout = timeout or self._usual_timeout
        started = steady_s()
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                raw, whole = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            seconds = steady_s() - started
            text = self._redact(str(error) or self._words(error, timeout.total))
            return Answer(None, text=_shorten(text), fault=_fault_of(error), seconds=seconds)
        return self._answer(response, raw, whole, steady_s() - started)

    def _answer(
        self, response: aiohttp.ClientResponse, raw: bytes, whole: bool, seconds: float
    ) -> Answer:
        text = self._redact(raw.decode("utf-8", "replace"))
        body = _decode(text) if whole else None
        location = response.headers.get("Location") if 300 <= response.status < 400 else None
        excerpt = f"redirects to {self._redact(mended(location))}" if location else _excerpt(text)
        return Answer(
            status=response.status,
            body=body,
            text=excerpt if whole else f"the answer broke off: {excerpt}",
            fault=None
            if whole and (body is not None or not 200 <= response.status < 300)
            else Fault.UNREADABLE,
            reset=response.headers.get("x-rate-limit-reset-at-utc"),
            retry_after=response.headers.get("Retry-After"),
            server_time=_server_time(response.headers.get("Date")),
            seconds=seconds,
        )

    def _words(self, error: BaseException, timeout_s: float | None) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {timeout_s:g} s"
        return type(error).__name__

    def _redact(self, text: str) -> str:
        return text.replace(self._access.key, REDACTED)


def _is_large(value: Any) -> bool:
    """Whether a text in a body is one that takes time to write."""
    if isinstance(value, str):
        return len(value) > LARGE_TEXT
    if isinstance(value, Mapping):
        return any(map(_is_large, value.values()))
    return isinstance(value, list | tuple) and any(map(_is_large, value))


def _encoded(params: Mapping[str, Any]) -> bytes:
    return json.dumps(params, ensure_ascii=False).encode()


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body and whether it came whole; what came before it broke off still has its status."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > BODY_LIMIT_BYTES:
                return b"".join(chunks), False
    except (aiohttp.ClientError, TimeoutError, OSError):
        return b"".join(chunks), False
    return b"".join(chunks), True


def _fault_of(error: BaseException) -> Fault:
    """Whether the request provably never reached the server."""
    # A certificate that is refused ends the handshake before anything is sent.
    never_left = (
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.InvalidURL,
        aiohttp.ServerFingerprintMismatch,
    )
    return Fault.NEVER_LEFT if isinstance(error, never_left) else Fault.NO_ANSWER


def _decode(text: str) -> Any:
    try:
        body = _DECODER.decode(text)
        if "\\ud" in text.lower():
            # Half a character, as `\ud800` alone, is no text that a file or database takes.
            body = json.loads(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return body


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


# NaN and Infinity are not JSON and could not be written again.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite)


def _excerpt(text: str) -> str:
    text = text[:EXCERPT_LIMIT]
    if re.match(r"\s*<(!doctype|html|head|body)", text, re.IGNORECASE):
        title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return f"an HTML page ({_shorten(title.group(1))})" if title else "an HTML page"
    return _shorten(text)


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


# The header is the same for a second, and reading it is slow.
@lru_cache(maxsize=4)
def _server_time(date: str | None) -> float | None:
    try:
        stamp = parsedate_to_datetime(date or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
