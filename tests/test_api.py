"""The API client: one method, one request; the key to its own host only; every fault an Answer."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from yarl import URL

from runner import api as api_module
from runner.api import (
    HISTORY_PATH,
    REDACTED,
    TEXT_LIMIT,
    USER_AGENT,
    Access,
    Api,
    HistoryQuery,
)
from runner.job import Answer, Fault

KEY = "SG_0123456789abcdef"
BASE = "https://api.segmind.com"
HISTORY = "https://api.spotprod.segmind.com"
UPLOAD = "https://workflows-api.segmind.com"
ACCESS = Access(BASE, HISTORY, KEY, timeout_s=5.0, upload_url=UPLOAD)
PARAMS = {"prompt": "a fox", "seed": 7}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api(ACCESS) as api:
        yield api


class Response(aiohttp.ClientResponse):
    """What aioresponses 0.7.9 leaves out for aiohttp 3.14 (its issue 289)."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
            more["stream_writer"] = Mock(output_size=0)
        super().__init__(*arguments, **more)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    monkeypatch.setattr("aioresponses.core.ClientResponse", Response)
    with aioresponses() as web:
        yield web


CALLS: dict[str, tuple[str, str, Callable[[Api], Awaitable[Answer]]]] = {
    "submit": ("POST", f"{BASE}/v2/imagen", lambda api: api.submit("imagen", PARAMS)),
    "upload": ("POST", f"{UPLOAD}/upload-asset", lambda api: api.upload(io.BytesIO(b"{}"), 9.0)),
    "status": ("GET", f"{BASE}/v2/requests/r-1/status", lambda api: api.status("r-1")),
    "result": ("GET", f"{BASE}/v2/requests/r-1", lambda api: api.result("r-1")),
    "credits": ("GET", f"{BASE}/v1/get-user-credits", lambda api: api.credits()),
    "history_of": ("GET", f"{HISTORY}{HISTORY_PATH}/r-1", lambda api: api.history_of("r-1")),
    "history": (
        "GET",
        f"{HISTORY}{HISTORY_PATH}?page=1&per_page=100&from_date=2026-10-14&to_date=2026-10-15"
        "&sort_by=model_created&sort_order=desc",
        lambda api: api.history(HistoryQuery("2026-10-14", "2026-10-15")),
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_each_call_is_one_request_to_its_address_with_the_key(
    api: Api, web: aioresponses, name: str
):
    method, url, call = CALLS[name]
    web.add(url, method, payload={"status": "QUEUED"})
    assert (await call(api)).body == {"status": "QUEUED"}
    [((sent_method, _), [request])] = web.requests.items()
    assert sent_method == method
    assert request.kwargs["headers"]["x-api-key"] == KEY
    assert request.kwargs["allow_redirects"] is False


async def test_a_submit_sends_its_parameters_as_json(api: Api, web: aioresponses):
    params = {"prompt": "ein Füchslein 🦊", "seed": 7, "nested": {"a": [1.5, None, True]}}
    web.post(f"{BASE}/v2/imagen", payload={"request_id": "r"})
    await api.submit("imagen", params)
    request = web.requests["POST", URL(f"{BASE}/v2/imagen")][0]
    assert json.loads(request.kwargs["data"]) == params
    assert request.kwargs["headers"]["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "status", [200, 202, 400, 401, 403, 404, 406, 410, 422, 429, 500, 503, 504]
)
async def test_every_status_comes_back_with_its_body_and_unjudged(
    api: Api, web: aioresponses, status: int
):
    web.get(f"{BASE}/v2/requests/r", status=status, payload={"error": "words"})
    answer = await api.result("r")
    assert (answer.status, answer.body, answer.fault) == (status, {"error": "words"}, None)


async def test_the_headers_of_a_429_come_back_as_they_came(api: Api, web: aioresponses):
    headers = {"x-rate-limit-reset-at-utc": "soon", "Retry-After": "7", "Date": formatdate(99)}
    web.get(f"{BASE}/v2/requests/r", status=429, headers=headers)
    answer = await api.result("r")
    assert (answer.reset, answer.retry_after, answer.server_time) == ("soon", "7", 99.0)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +999999999999",
        "Mon, 32 Foo 2024",
    ],
)
async def test_an_odd_date_is_no_date(api: Api, web: aioresponses, date: str):
    web.get(f"{BASE}/v2/requests/r", payload={}, headers={"Date": date})
    assert (await api.result("r")).server_time is None


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (aiohttp.ConnectionTimeoutError("connect"), Fault.NEVER_LEFT),
        (aiohttp.InvalidURL("x"), Fault.NEVER_LEFT),
        (aiohttp.ServerFingerprintMismatch(b"a", b"b", "host", 1), Fault.NEVER_LEFT),
        (aiohttp.ServerDisconnectedError(), Fault.NO_ANSWER),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), Fault.NO_ANSWER),
        (aiohttp.SocketTimeoutError("read"), Fault.NO_ANSWER),
        (aiohttp.ClientPayloadError("half"), Fault.NO_ANSWER),
        (aiohttp.ClientConnectionError("closed"), Fault.NO_ANSWER),
        (aiohttp.ServerTimeoutError("slow"), Fault.NO_ANSWER),
        (TimeoutError(), Fault.NO_ANSWER),
        (ConnectionResetError(104, "reset"), Fault.NO_ANSWER),
        (BrokenPipeError(32, "broken"), Fault.NO_ANSWER),
        (OSError("anything"), Fault.NO_ANSWER),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_only_what_provably_never_left_is_called_so(
    api: Api, web: aioresponses, error: Exception, fault: Fault
):
    web.post(f"{BASE}/v2/imagen", exception=error)
    answer = await api.submit("imagen", PARAMS)
    assert (answer.status, answer.body, answer.fault) == (None, None, fault)
    assert answer.text


UNREADABLE = {
    "an empty body": "",
    "HTML": "<!DOCTYPE html><html><head><title>Bad Gateway</title></head></html>",
    "plain text": "OK",
    "half of a JSON": '{"status": "QUE',
    "two of them": "{}{}",
    "deep nesting": "[" * 50_000,
    "a very long number": "1" * 10_000,
    "null": "null",
    "binary": "\udcff\x00",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_200_that_is_not_readable_json_says_so(api: Api, web: aioresponses, text: str):
    web.get(f"{BASE}/v2/requests/r", body=text.encode("utf-8", "surrogateescape"))
    answer = await api.result("r")
    assert (answer.status, answer.body, answer.fault) == (200, None, Fault.UNREADABLE)
    assert len(answer.text) <= TEXT_LIMIT + 50


async def test_an_error_page_is_told_by_its_title(api: Api, web: aioresponses):
    web.get(f"{BASE}/v2/requests/r", status=502, body=f"  {UNREADABLE['HTML']}")
    answer = await api.result("r")
    assert (answer.status, answer.body, answer.fault) == (502, None, None)
    assert answer.text == "an HTML page (Bad Gateway)"


async def test_what_is_no_json_number_becomes_nothing(api: Api, web: aioresponses):
    body = '{"a": NaN, "b": Infinity, "c": -Infinity, "d": 1e999, "e": -1e999, "f": 1.5}'
    web.get(f"{BASE}/v2/requests/r", body=body)
    answer = await api.result("r")
    assert answer.body == {**dict.fromkeys("abcde"), "f": 1.5}
    assert json.loads(json.dumps(answer.body, allow_nan=False)) == answer.body


async def test_half_a_character_can_be_written_to_disk(api: Api, web: aioresponses):
    web.get(f"{BASE}/v2/requests/r", body=r'{"prompt": "a \ud800 b", "fox": "\ud83e\udd8a"}')
    body = (await api.result("r")).body
    assert body == {"prompt": "a ? b", "fox": "🦊"}
    json.dumps(body, ensure_ascii=False).encode()


# The key


async def test_an_echoed_key_is_redacted_in_text_and_body(api: Api, web: aioresponses):
    web.get(f"{BASE}/v2/requests/r", status=401, payload={"error": f"bad key {KEY}", KEY: [KEY]})
    answer = await api.result("r")
    assert KEY not in repr(answer)
    assert answer.body == {"error": f"bad key {REDACTED}", REDACTED: [REDACTED]}


@pytest.mark.parametrize("error", [aiohttp.ClientOSError, TimeoutError])
async def test_a_key_in_an_error_is_redacted(api: Api, web: aioresponses, error: type[Exception]):
    web.get(f"{BASE}/v2/requests/r", exception=error(f"cannot send {KEY}"))
    assert (await api.result("r")).text == f"cannot send {REDACTED}"


async def test_a_key_in_a_redirect_is_redacted(api: Api, web: aioresponses):
    headers = {"Location": f"https://evil.example/?key={KEY}"}
    web.get(f"{BASE}/v2/requests/r", status=302, headers=headers)
    assert (await api.result("r")).text == f"redirects to https://evil.example/?key={REDACTED}"


async def test_a_key_on_the_edge_of_an_excerpt_is_not_shown_in_part(api: Api, web: aioresponses):
    body = "x" * (TEXT_LIMIT - 8) + KEY
    web.get(f"{BASE}/v2/requests/r", status=500, body=body)
    assert "SG_" not in (await api.result("r")).text


@pytest.mark.parametrize("show", [repr, str, lambda value: f"{value}"])
def test_access_and_api_never_show_the_key(show: Callable[[Any], str]):
    assert KEY not in show(ACCESS) + show(Api(ACCESS))


async def test_the_api_is_used_as_a_block():
    with pytest.raises(RuntimeError, match="async with"):
        await Api(ACCESS).status("r")


# Over real sockets

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on loopback; gives its address."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}"


def replying(raw: bytes, heads: list[str] | None = None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head.decode())
        writer.write(raw)
        await writer.drain()

    return handler


def http(
    body: bytes = b"{}", status: str = "200 OK", length: int | None = None, more: str = ""
) -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n{more}\r\n"
    return head.encode() + body


def at(address: str, scheme: str = "http", timeout_s: float = 5.0, key: str = KEY) -> Api:
    origin = f"{scheme}://{address}"
    return Api(Access(origin, origin, key, timeout_s, origin))


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


async def test_the_request_on_the_wire_is_as_documented():
    heads: list[str] = []
    async with (
        serving(replying(http(b'{"request_id": "r"}'), heads)) as address,
        at(address) as api,
    ):
        answer = await api.submit("imagen", PARAMS)
    assert (answer.status, answer.body) == (200, {"request_id": "r"})
    assert answer.seconds > 0
    first, *headers = heads[0].strip().split("\r\n")
    assert first == "POST /v2/imagen HTTP/1.1"
    assert f"x-api-key: {KEY}" in headers
    assert "Content-Type: application/json" in headers
    assert f"User-Agent: {USER_AGENT}" in headers
    assert not [header for header in headers if header.lower().startswith("authorization")]


ODD = "a/b c?d#e%2F&ü+.."


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda api: api.status(ODD), "/v2/requests/{odd}/status"),
        (lambda api: api.result(ODD), "/v2/requests/{odd}"),
        (lambda api: api.history_of(ODD), HISTORY_PATH + "/{odd}"),
    ],
)
async def test_odd_characters_of_a_request_id_stay_in_their_place(call: Any, path: str):
    heads: list[str] = []
    async with serving(replying(http(), heads)) as address, at(address) as api:
        await call(api)
    odd = "a%2Fb%20c%3Fd%23e%252F&%C3%BC+.."
    sent = heads[0].split()[1].replace("%26", "&").replace("%2B", "+")
    assert sent == path.format(odd=odd)


@pytest.mark.parametrize(
    ("slug", "path"),
    [
        ("imagen", "/v2/imagen"),
        ("gpt-4.1_mini", "/v2/gpt-4.1_mini"),
        ("team/flow", "/v2/team/flow"),
        ("a b?c#d", "/v2/a%20b%3Fc%23d"),
        ("ü", "/v2/%C3%BC"),
    ],
)
async def test_a_model_slug_is_quoted(slug: str, path: str):
    heads: list[str] = []
    async with serving(replying(http(), heads)) as address, at(address) as api:
        await api.submit(slug, {})
    assert heads[0].split()[1] == path


async def test_the_history_is_asked_page_by_page_the_newest_first():
    heads: list[str] = []
    async with serving(replying(http(b"[]"), heads)) as address, at(address) as api:
        await api.history(HistoryQuery("2026-10-14", "2026-10-15", "a&b c+d", page=3, per_page=50))
    url = URL(f"http://x{heads[0].split()[1]}")
    assert url.path == HISTORY_PATH
    assert dict(url.query) == {
        "page": "3",
        "per_page": "50",
        "from_date": "2026-10-14",
        "to_date": "2026-10-15",
        "sort_by": "model_created",
        "sort_order": "desc",
        "model_name": "a&b c+d",
    }


async def test_a_body_with_a_whole_file_goes_out_as_it_is():
    bodies: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"Content-Length: (\d+)", head)
        assert found is not None
        bodies.append(await reader.readexactly(int(found[1])))
        writer.write(http(b'{"request_id": "r"}'))
        await writer.drain()
        writer.close()

    params = {"images": [{"deep": "data:image/png;base64," + "Zm94" * 500_000}], "prompt": "ü"}
    async with serving(take) as address, at(address) as api:
        assert (await api.submit("m", params)).status == 200
    assert json.loads(bodies[0]) == params


async def test_an_upload_has_a_time_of_its_own():
    async def still(*_: Any) -> None:
        await asyncio.sleep(60)

    async with serving(still) as address, at(address, timeout_s=60) as api:
        answer = await api.upload(io.BytesIO(b"{}"), 0.1)
    assert (answer.fault, answer.text) == (Fault.NO_ANSWER, "no answer within 0.1 s")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed_and_the_key_goes_nowhere(status: str):
    elsewhere: list[str] = []
    async with serving(replying(http(), elsewhere)) as other:
        raw = http(b"", status, more=f"Location: http://{other}/stolen\r\n")
        async with serving(replying(raw)) as address, at(address) as api:
            for answer in (
                await api.submit("imagen", {}),
                await api.upload(io.BytesIO(b"{}"), 5.0),
                await api.status("r"),
            ):
                assert answer.status == int(status.split()[0])
                assert answer.text == f"redirects to http://{other}/stolen"
    assert elsewhere == []


async def test_cookies_are_neither_kept_nor_sent():
    heads: list[str] = []
    raw = http(more="Set-Cookie: id=1; Path=/\r\n")
    async with serving(replying(raw, heads)) as address, at(address) as api:
        await api.status("r")
        await api.status("r")
    assert "cookie" not in heads[1].lower()


async def test_a_refused_connection_never_left():
    async with at(f"127.0.0.1:{free_port()}") as api:
        answer = await api.submit("imagen", PARAMS)
    assert (answer.status, answer.fault) == (None, Fault.NEVER_LEFT)
    assert "127.0.0.1" in answer.text


async def test_a_host_that_no_dns_knows_never_left():
    async with at("no-such-host.invalid") as api:
        assert (await api.submit("imagen", PARAMS)).fault is Fault.NEVER_LEFT


async def test_a_server_that_speaks_no_tls_never_got_the_request():
    heard = bytearray()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1000))
        writer.write(http())
        await writer.drain()

    async with serving(handler) as address, at(address, "https") as api:
        answer = await api.submit("imagen", PARAMS)
    assert answer.fault is Fault.NEVER_LEFT
    assert KEY.encode() not in heard


async def test_a_connection_closed_in_the_tls_handshake_never_left():
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)

    async with serving(handler) as address, at(address, "https") as api:
        assert (await api.submit("imagen", PARAMS)).fault is Fault.NEVER_LEFT


async def test_a_port_that_takes_no_connection_in_time_never_left(monkeypatch: pytest.MonkeyPatch):
    async def blackhole(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", blackhole)
    async with at("127.0.0.1:9", timeout_s=0.6) as api:
        answer = await api.submit("imagen", PARAMS)
    assert answer.fault is Fault.NEVER_LEFT


async def test_a_silent_server_is_no_answer():
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(handler) as address, at(address, timeout_s=0.3) as api:
        started = time.monotonic()
        answer = await api.submit("imagen", PARAMS)
        assert time.monotonic() - started < 3
    assert (answer.status, answer.fault) == (None, Fault.NO_ANSWER)
    assert answer.seconds >= 0.25
    assert answer.text


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
async def test_a_connection_lost_after_the_request_is_no_answer(reset: bool):
    requests = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        if reset:
            linger = struct.pack("ii", 1, 0)
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async with serving(handler) as address, at(address) as api:
        answer = await api.submit("imagen", PARAMS)
    assert (answer.status, answer.fault) == (None, Fault.NO_ANSWER)
    assert requests == 1, "a POST is never repeated in here"


async def test_a_connection_that_was_kept_open_and_dies_under_a_post_is_no_answer():
    requests: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            requests.append(head.split()[0])
            if head.startswith(b"POST"):
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with serving(handler) as address, at(address) as api:
        assert (await api.status("r")).status == 200
        assert (await api.submit("imagen", PARAMS)).fault is Fault.NO_ANSWER
    assert requests == [b"GET", b"POST"]


async def test_half_a_body_keeps_its_status_and_is_unreadable():
    raw = http(b'{"request_id": "r", "sta', length=1000)
    async with serving(replying(raw)) as address, at(address) as api:
        answer = await api.submit("imagen", PARAMS)
    assert (answer.status, answer.body, answer.fault) == (200, None, Fault.UNREADABLE)
    assert answer.text.startswith('the answer broke off: {"request_id"')


async def test_half_a_body_that_happens_to_be_json_is_not_taken_for_the_whole():
    raw = http(b'{"request_id": "r"}', length=1000)
    async with serving(replying(raw)) as address, at(address) as api:
        answer = await api.submit("imagen", PARAMS)
    assert (answer.body, answer.fault) == (None, Fault.UNREADABLE)


async def test_a_body_that_never_ends_is_unreadable_after_the_time_limit():
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(b'{"a"', length=1000))
        await writer.drain()
        await reader.read()

    async with serving(handler) as address, at(address, timeout_s=0.3) as api:
        answer = await api.submit("imagen", PARAMS)
    assert (answer.status, answer.fault) == (200, Fault.UNREADABLE)


async def test_a_body_without_end_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api_module, "BODY_LIMIT_BYTES", 100_000)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with serving(handler) as address, at(address) as api:
        answer = await api.result("r")
    assert (answer.status, answer.body, answer.fault) == (200, None, Fault.UNREADABLE)
    assert len(answer.text) < TEXT_LIMIT + 50


async def test_a_large_result_comes_whole():
    body = json.dumps({"output": "x" * 5_000_000}).encode()
    async with serving(replying(http(body))) as address, at(address) as api:
        answer = await api.result("r")
    assert answer.fault is None
    assert len(answer.body["output"]) == 5_000_000
    assert len(answer.text) <= TEXT_LIMIT


async def test_an_endless_error_page_does_not_hold_the_run_up():
    raw = http(b"<html>" + b"<title>" * 60_000, "502 Bad Gateway")
    async with serving(replying(raw)) as address, at(address) as api:
        started = time.monotonic()
        assert (await api.result("r")).text.startswith("an HTML page")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "raw",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 99999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 99_999,
    ],
    ids=["noise", "an impossible status", "an endless header"],
)
async def test_an_answer_that_is_not_http_is_no_answer(raw: bytes):
    async with serving(replying(raw)) as address, at(address) as api:
        answer = await api.submit("imagen", PARAMS)
    assert (answer.status, answer.fault) == (None, Fault.NO_ANSWER)


async def test_a_body_that_cannot_be_unpacked_is_unreadable():
    raw = http(b"this is no gzip", more="Content-Encoding: gzip\r\n")
    async with serving(replying(raw)) as address, at(address) as api:
        answer = await api.submit("imagen", PARAMS)
    assert (answer.status, answer.fault) == (200, Fault.UNREADABLE)


async def test_many_requests_at_once_do_not_wait_for_each_other():
    waiting = asyncio.Semaphore(0)
    arrived = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await reader.readuntil(b"\r\n\r\n")
        arrived += 1
        if arrived == 150:
            for _ in range(150):
                waiting.release()
        await waiting.acquire()
        writer.write(http())
        await writer.drain()

    async with serving(handler) as address, at(address) as api:
        answers = await asyncio.gather(*(api.status(str(n)) for n in range(150)))
    assert {answer.status for answer in answers} == {200}


def test_only_the_api_s_own_hosts_are_ever_built():
    source = Path(api_module.__file__).read_text("utf-8")
    assert not re.findall(r"poll_url|status_url|response_url", source)


async def test_no_address_is_taken_from_an_answer(api: Api, web: aioresponses):
    def reply(url: URL, **_: Any) -> CallbackResult:
        evil = "https://evil.example/status"
        return CallbackResult(payload={"request_id": "r", "status_url": evil, "poll_url": evil})

    web.post(f"{BASE}/v2/imagen", callback=reply)
    web.get(f"{BASE}/v2/requests/r/status", payload={"status": "QUEUED"})
    submitted = await api.submit("imagen", PARAMS)
    await api.status(submitted.body["request_id"])
    assert {url.host for _, url in web.requests} == {"api.segmind.com"}
