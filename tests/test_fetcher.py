"""Fetching one file from a host that does it wrong in every way that hosts do."""

# ruff: noqa: ASYNC240  tests look at small files

from __future__ import annotations

import errno
import gzip
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mediahost import MediaHost, Reply, moved, reply, rest

from runner import fetcher as module
from runner.fetcher import Fetcher, FetchFailed, Limits


def declared(found: str | None, _: bytes | None) -> str | None:
    """What a fetch returns here: the content type as the server declares it."""
    return found


BODY = Random(7).randbytes(300_000)
HALF = len(BODY) // 2
TAG = {"ETag": '"version-1"'}
LOOPBACK = "http://127.0.0.1:1"
QUICK = Limits(connect_timeout_s=2.0, read_timeout_s=0.2, slowest_bytes_s=10_000, slow_window_s=0.2)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "a.png.7.part"


async def tried(fetcher: Fetcher, host: MediaHost, part: Path, path: str = "/a.png") -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetcher.fetch(host.origin + path, part, declared)
    return caught.value


def broken(headers: dict[str, str] | None = None, share: int = HALF) -> Reply:
    # What was not read yet when the connection closes is lost to the reader.
    headers = TAG if headers is None else headers
    return reply(BODY[:share], length=len(BODY), headers=headers, hang_s=0.05)


# Continuing what broke off.


async def test_a_transfer_that_broke_off_goes_on_where_it_was(part: Path) -> None:
    replies = broken(), rest(BODY, HALF, headers={**TAG, "Content-Type": "image/png"})
    async with MediaHost(*replies) as host, Fetcher(LOOPBACK) as fetcher:
        failure = await tried(fetcher, host, part)
        assert failure.can_go_on
        assert str(failure) == "only 150,000 of 300,000 bytes came"
        assert part.read_bytes() == BODY[:HALF]
        assert await fetcher.fetch(host.origin + "/a.png", part, declared) == "image/png"
    assert part.read_bytes() == BODY
    assert "range" not in host.headers[0]
    assert host.headers[1]["range"] == "bytes=150000-"
    assert host.headers[1]["if-range"] == '"version-1"'


async def test_a_transfer_goes_on_as_often_as_it_breaks_off(part: Path) -> None:
    steps = [broken(share=1000)]
    for start in (1000, 2000, 3000):
        span = {"Content-Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}", **TAG}
        piece = BODY[start : start + 1000]
        steps.append(reply(piece, 206, length=9999, headers=span, hang_s=0.05))
    async with MediaHost(*steps, rest(BODY, 4000)) as host, Fetcher(LOOPBACK) as fetcher:
        for came in (1000, 2000, 3000, 4000):
            failure = await tried(fetcher, host, part)
            assert str(failure).startswith(f"only {came:,} of 300,000")
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert part.read_bytes() == BODY


async def test_a_rest_that_comes_in_shorter_ranges_is_asked_for_again(part: Path) -> None:
    span = {"Content-Range": f"bytes {HALF}-{HALF + 99}/{len(BODY)}"}
    replies = broken(), reply(BODY[HALF : HALF + 100], 206, headers=span), rest(BODY, HALF + 100)
    async with MediaHost(*replies) as host, Fetcher(LOOPBACK) as fetcher:
        await tried(fetcher, host, part)
        assert (await tried(fetcher, host, part)).can_go_on
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert part.read_bytes() == BODY


async def test_the_date_of_the_last_change_stands_in_for_a_weak_tag(part: Path) -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    replies = broken({"ETag": 'W/"x"', "Last-Modified": date}), rest(BODY, HALF)
    async with MediaHost(*replies) as host, Fetcher(LOOPBACK) as fetcher:
        await tried(fetcher, host, part)
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert host.headers[1]["if-range"] == date
    assert part.read_bytes() == BODY


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}, {**TAG, "Accept-Ranges": "none"}])
async def test_what_cannot_be_continued_begins_anew(part: Path, headers: dict[str, str]) -> None:
    async with MediaHost(broken(headers), reply(BODY)) as host, Fetcher(LOOPBACK) as fetcher:
        assert not (await tried(fetcher, host, part)).can_go_on
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert "range" not in host.headers[1]
    assert part.read_bytes() == BODY


async def test_a_200_to_a_range_request_starts_over(part: Path) -> None:
    # Shorter than what is there already: nothing of the old beginning may stay behind.
    new = BODY[::-1][:1000]
    async with MediaHost(broken(), reply(new)) as host, Fetcher(LOOPBACK) as fetcher:
        await tried(fetcher, host, part)
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert "range" in host.headers[1]
    assert part.read_bytes() == new


OTHER = {
    "a 416": reply(status=416, headers={"Content-Range": "bytes */1000"}),
    "another place": rest(BODY, HALF + 1),
    "the beginning": rest(BODY, 0),
    "another version": rest(BODY, HALF, headers={"ETag": '"version-2"'}),
    "another length": rest(BODY + b"more", HALF),
    "no range": reply(BODY[HALF:], 206),
    "several ranges": reply(
        BODY, 206, headers={"Content-Type": "multipart/byteranges; boundary=x"}
    ),
}


@pytest.mark.parametrize("answer", OTHER.values(), ids=OTHER)
async def test_an_answer_that_is_not_the_rest_starts_over_in_the_same_try(
    part: Path, answer: Reply
) -> None:
    async with MediaHost(broken(), answer, reply(BODY)) as host, Fetcher(LOOPBACK) as fetcher:
        await tried(fetcher, host, part)
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert ["range" in headers for headers in host.headers] == [False, True, False]
    assert part.read_bytes() == BODY


async def test_an_error_between_the_tries_does_not_cost_the_beginning(part: Path) -> None:
    replies = broken(), reply(status=503), rest(BODY, HALF)
    async with MediaHost(*replies) as host, Fetcher(LOOPBACK) as fetcher:
        await tried(fetcher, host, part)
        failure = await tried(fetcher, host, part)
        assert (failure.status, failure.can_go_on) == (503, True)
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert part.read_bytes() == BODY


async def test_a_beginning_of_another_address_is_not_continued(part: Path) -> None:
    async with MediaHost(broken(), reply(b"other")) as host, Fetcher(LOOPBACK) as fetcher:
        await tried(fetcher, host, part)
        await fetcher.fetch(host.origin + "/b.png", part, declared)
    assert "range" not in host.headers[1]
    assert part.read_bytes() == b"other"


@pytest.mark.parametrize("left", [None, b"", BODY[:10]])
async def test_a_beginning_that_somebody_removed_is_not_continued(
    part: Path, left: bytes | None
) -> None:
    async with MediaHost(broken(), reply(BODY)) as host, Fetcher(LOOPBACK) as fetcher:
        await tried(fetcher, host, part)
        part.unlink()
        if left is not None:
            part.write_bytes(left)
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert "range" not in host.headers[1]
    assert part.read_bytes() == BODY


async def test_what_a_killed_run_left_is_overwritten_and_not_continued(part: Path) -> None:
    part.parent.mkdir()
    part.write_bytes(BODY + b"and more of an older file")
    async with MediaHost(reply(BODY, headers=TAG)) as host, Fetcher(LOOPBACK) as fetcher:
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert "range" not in host.headers[0]
    assert part.read_bytes() == BODY


async def test_beginnings_do_not_outlive_the_run(part: Path) -> None:
    async with MediaHost(broken()) as host:
        async with Fetcher(LOOPBACK) as fetcher:
            await tried(fetcher, host, part)
            assert part.exists()
        assert not part.exists()


async def test_a_fetch_that_is_stopped_leaves_nothing(part: Path) -> None:
    async with MediaHost(reply(BODY[:9], length=2 << 20, hang_s=9)) as host:
        async with Fetcher(LOOPBACK) as fetcher:
            with anyio.move_on_after(0.2):
                await fetcher.fetch(host.origin + "/a.png", part, declared)
            assert part.exists()
        assert not part.exists()


# What breaks a transfer.


async def test_a_fetch_that_is_stopped_while_its_file_is_opened_closes_it(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    closed: list[int] = []
    really_open, really_close = module._open, os.close

    def slow(*found: Any) -> int:
        time.sleep(0.2)
        opened.append(really_open(*found))
        return opened[0]

    def close(file: int) -> None:
        closed.append(file)
        really_close(file)

    monkeypatch.setattr(module, "_open", slow)
    monkeypatch.setattr(os, "close", close)
    async with (
        MediaHost(reply(BODY, length=9 << 20, hang_s=9)) as host,
        Fetcher(LOOPBACK) as fetcher,
    ):
        with anyio.move_on_after(0.1):
            await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert opened
    assert set(opened) <= set(closed)


async def test_a_file_that_ends_early_is_not_taken_for_whole(part: Path) -> None:
    async with MediaHost(broken({})) as host, Fetcher(LOOPBACK) as fetcher:
        assert str(await tried(fetcher, host, part)) == "only 150,000 of 300,000 bytes came"


async def test_chunks_that_end_early_are_not_taken_for_whole(part: Path) -> None:
    chunked = {"Transfer-Encoding": "chunked"}
    half = reply(b"8\r\n12345678\r\n8\r\n1234", length=None, headers=chunked)
    async with MediaHost(half) as host, Fetcher(LOOPBACK) as fetcher:
        assert str(await tried(fetcher, host, part)).endswith(" of all bytes came")


async def test_a_file_without_a_length_is_what_comes(part: Path) -> None:
    async with MediaHost(reply(BODY, length=None)) as host, Fetcher(LOOPBACK) as fetcher:
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert part.read_bytes() == BODY


async def test_a_file_that_was_compressed_on_the_way_comes_whole(part: Path) -> None:
    packed = reply(gzip.compress(BODY), headers={"Content-Encoding": "gzip", **TAG})
    async with MediaHost(packed) as host, Fetcher(LOOPBACK) as fetcher:
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert host.headers[0]["accept-encoding"] == "identity"
    assert part.read_bytes() == BODY


async def test_a_stalled_read_ends(part: Path) -> None:
    stalled = reply(BODY[:1000], length=len(BODY), headers=TAG, hang_s=9)
    replies = stalled, rest(BODY, 1000)
    async with MediaHost(*replies) as host, Fetcher(LOOPBACK, QUICK) as fetcher:
        failure = await tried(fetcher, host, part)
        assert str(failure) == "only 1,000 of 300,000 bytes came, then nothing for 0.2 s"
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert part.read_bytes() == BODY


async def test_an_answer_that_never_begins_ends(part: Path) -> None:
    async def silence(writer: Any) -> None:
        await writer.drain()
        await anyio.sleep(0.5)

    async with MediaHost(silence) as host, Fetcher(LOOPBACK, QUICK) as fetcher:
        assert "did not come" in str(await tried(fetcher, host, part))


async def test_a_head_that_drips_ends(part: Path) -> None:
    async def drip(writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100):
            writer.write(f"X-Header-{number}: drop\r\n".encode())
            await writer.drain()
            await anyio.sleep(0.05)

    limits = Limits(connect_timeout_s=0.2, read_timeout_s=0.2)
    async with MediaHost(drip) as host, Fetcher(LOOPBACK, limits) as fetcher:
        with anyio.fail_after(2):
            assert "took too long" in str(await tried(fetcher, host, part))


async def test_a_slow_drip_ends_by_its_rate_and_goes_on_later(part: Path) -> None:
    drip = reply(BODY, headers=TAG, pieces=10_000, every_s=0.02)
    async with MediaHost(drip, drip) as host, Fetcher(LOOPBACK, QUICK) as fetcher:
        with anyio.fail_after(3):
            failure = await tried(fetcher, host, part)
        assert "too slowly" in str(failure)
        assert failure.can_go_on
        assert BODY.startswith(part.read_bytes())
        assert part.stat().st_size > 0


async def test_a_slow_line_above_the_rate_is_waited_for(part: Path) -> None:
    slow = reply(BODY, pieces=20, every_s=0.05)
    async with MediaHost(slow) as host, Fetcher(LOOPBACK, QUICK) as fetcher:
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert part.read_bytes() == BODY


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 401, 403, 404, 410, 429, 500, 503])
async def test_any_other_answer_is_not_a_file(part: Path, status: int) -> None:
    body = b"" if status in (204, 304) else BODY
    async with MediaHost(reply(body, status)) as host, Fetcher(LOOPBACK) as fetcher:
        failure = await tried(fetcher, host, part)
    assert str(failure) == f"the media server answered HTTP {status}"
    assert failure.gone == (status in (403, 404, 410))
    assert not part.exists()


async def test_what_is_no_http_is_not_a_file(part: Path) -> None:
    async def noise(writer: Any) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    async with MediaHost(noise) as host, Fetcher(LOOPBACK) as fetcher:
        assert "did not come" in str(await tried(fetcher, host, part))


async def test_a_connection_that_closes_at_once_is_a_failure(part: Path) -> None:
    async def nothing(writer: Any) -> None:
        writer.close()

    async with MediaHost(nothing) as host, Fetcher(LOOPBACK) as fetcher:
        assert "did not come" in str(await tried(fetcher, host, part))


# Too much of it.


async def test_a_file_over_the_limit_is_refused_before_it_comes(part: Path) -> None:
    huge = reply(BODY, length=1 << 40)
    async with MediaHost(huge) as host, Fetcher(LOOPBACK) as fetcher:
        failure = await tried(fetcher, host, part)
    assert str(failure) == (
        "the file has 1,099,511,627,776 bytes; more than 8,589,934,592 are not fetched"
    )
    assert not part.exists()


async def test_a_file_that_grows_over_the_limit_is_given_up(part: Path) -> None:
    endless = reply(BODY, length=None, headers=TAG)
    async with MediaHost(endless) as host, Fetcher(LOOPBACK, Limits(size_bytes=1000)) as fetcher:
        failure = await tried(fetcher, host, part)
    assert str(failure) == "more than 1,000 bytes came"
    assert not failure.can_go_on


async def test_a_bomb_that_was_compressed_is_given_up(part: Path) -> None:
    bomb = reply(gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})
    limits = Limits(size_bytes=1_000_000)
    async with MediaHost(bomb) as host, Fetcher(LOOPBACK, limits) as fetcher:
        assert str(await tried(fetcher, host, part)) == "more than 1,000,000 bytes came"


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    room = SimpleNamespace(free=200_000)
    # Nobody asks for a file of less.
    monkeypatch.setattr(module, "WRITE_BYTES", 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    return


@pytest.mark.usefixtures("little_room")
async def test_a_file_larger_than_the_room_is_not_begun(part: Path) -> None:
    async with MediaHost(reply(BODY)) as host, Fetcher(LOOPBACK) as fetcher:
        with pytest.raises(OSError, match="300,000 bytes are to come, 200,000 are free") as caught:
            await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert caught.value.errno == errno.ENOSPC
    assert not part.exists()


@pytest.mark.usefixtures("little_room")
async def test_only_the_rest_of_a_file_needs_room(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        MediaHost(broken(), rest(BODY, HALF)) as host,
        Fetcher(LOOPBACK) as fetcher,
    ):
        with monkeypatch.context() as more:
            more.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
            await tried(fetcher, host, part)
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert part.read_bytes() == BODY


async def test_a_disk_that_fills_up_in_the_middle_is_said_and_nothing_is_continued(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(file: int, data: Any) -> int:
        if part.exists() and part.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:1000])

    async with MediaHost(reply(BODY, headers=TAG)) as host, Fetcher(LOOPBACK) as fetcher:
        with monkeypatch.context() as patched:
            patched.setattr(module.os, "write", full)
            with pytest.raises(OSError, match="No space left"):
                await fetcher.fetch(host.origin + "/a.png", part, declared)
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert "range" not in host.headers[1]
    assert part.read_bytes() == BODY


# Where it leads.


async def test_redirects_are_followed_without_any_credentials(part: Path) -> None:
    replies = moved("/b.png", 301), moved("c.png", 307), reply(BODY)
    async with MediaHost(*replies) as host, Fetcher(LOOPBACK) as fetcher:
        await fetcher.fetch(host.origin + "/x/a.png", part, declared)
    assert [path for path, _ in host.asked] == ["/x/a.png", "/b.png", "/c.png"]
    known = {"host", "user-agent", "accept", "accept-encoding"}
    assert all(set(headers) <= known for headers in host.headers)
    assert part.read_bytes() == BODY


async def test_a_rest_is_asked_for_through_redirects(part: Path) -> None:
    replies = broken(), moved("/b.png"), rest(BODY, HALF)
    async with MediaHost(*replies) as host, Fetcher(LOOPBACK) as fetcher:
        await tried(fetcher, host, part)
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert host.headers[2]["range"] == "bytes=150000-"
    assert part.read_bytes() == BODY


async def test_cookies_are_not_kept(part: Path) -> None:
    replies = reply(b"x", headers={"Set-Cookie": "a=b; Path=/"}), reply(b"x")
    async with MediaHost(*replies) as host, Fetcher(LOOPBACK) as fetcher:
        for _ in range(2):
            await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert all("cookie" not in headers for headers in host.headers)


async def test_a_signed_address_is_sent_as_it_is_written(part: Path) -> None:
    path = "/a%2Fb%7E.png?Signature=a%2Fb%2B+c~%3D&x=%c3%a9;y"
    async with MediaHost(moved(path), reply(BODY)) as host, Fetcher(LOOPBACK) as fetcher:
        await fetcher.fetch(host.origin + path, part, declared)
    assert [asked for asked, _ in host.asked] == [path, path]


async def test_an_address_with_blanks_or_other_scripts_is_quoted(part: Path) -> None:
    async with MediaHost(reply(BODY)) as host, Fetcher(LOOPBACK) as fetcher:
        await fetcher.fetch(host.origin + "/red fox/狐.png", part, declared)
    assert host.asked[0][0] == "/red%20fox/%E7%8B%90.png"


async def test_a_loop_of_redirects_ends(part: Path) -> None:
    async with MediaHost(moved("/a.png")) as host, Fetcher(LOOPBACK) as fetcher:
        assert "redirects" in str(await tried(fetcher, host, part))
    assert len(host.asked) == 6


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://169.254.169.254/latest/meta-data/", "private address"),
        ("http://10.0.0.1/", "private address"),
        ("http://[fd00::1]/", "private address"),
        ("http://[::ffff:10.0.0.1]/", "private address"),
        ("http://[fe80::1%25eth0]/", "private address"),
        ("http://0.0.0.0/", "private address"),
        ("//192.168.0.1/a.png", "private address"),
        ("http://167772161/", "a number"),
        ("http://012.0.0.1/", "a number"),
        ("http://0xa.1/", "a number"),
        ("http://１０.0.0.1/", "private address"),
        ("http://10。0。0。1/", "private address"),
        ("http://user@10.0.0.1/", "private address"),
        ("http://example.com@10.0.0.1/", "private address"),
        ("ftp://example.com/a.png", "redirects to ftp"),
        ("file:///etc/passwd", "redirects to file"),
        ("data:image/png;base64,AAAA", "redirects to data"),
        ("http://[broken", "no address"),
        ("http://example.com:99999/", "no address"),
    ],
)
async def test_a_redirect_inside_or_nowhere_is_not_followed(
    part: Path, location: str, words: str
) -> None:
    # As UTF-8, as servers send it.
    sent = location.encode().decode("latin-1")
    async with MediaHost(moved(sent)) as host, Fetcher(LOOPBACK) as fetcher:
        assert words in str(await tried(fetcher, host, part))
    assert len(host.asked) == 1
    assert not part.exists()


async def test_a_redirect_to_plain_http_is_followed_only_where_the_api_is_plain(
    part: Path,
) -> None:
    async with MediaHost(moved("/b.png")) as host, Fetcher("https://127.0.0.1") as fetcher:
        assert "redirects to http, not to https" in str(await tried(fetcher, host, part))
    assert len(host.asked) == 1


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A DNS of the test's own."""
    known: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [
            (families[":" in a], socket.SOCK_STREAM, 6, "", (a, port, *[0, 0][: 2 * (":" in a)]))
            for a in known[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "::1", "::ffff:127.0.0.1",  # noqa: S104
     "fd00::1", "fe80::1", "64:ff9b::7f00:1"],
)  # fmt: skip
async def test_a_name_that_leads_inside_is_not_connected_to(
    part: Path, names: dict[str, list[str]], address: str
) -> None:
    names["cdn.example"] = [address]
    async with Fetcher("https://api.segmind.com") as fetcher:
        with pytest.raises(FetchFailed, match="leads to a private address"):
            await fetcher.fetch("https://cdn.example/a.png", part, declared)
    assert not part.exists()


async def test_a_redirect_to_a_name_that_leads_inside_is_not_followed(
    part: Path, names: dict[str, list[str]]
) -> None:
    names["inside.example"] = ["10.0.0.1"]
    async with MediaHost(moved("http://inside.example/")) as host, Fetcher(LOOPBACK) as fetcher:
        assert "leads to a private address" in str(await tried(fetcher, host, part))


async def test_of_several_addresses_of_a_name_only_the_allowed_are_used(
    part: Path, names: dict[str, list[str]]
) -> None:
    names["cdn.example"] = ["10.255.255.1", "127.0.0.1"]
    async with MediaHost(reply(BODY)) as host, Fetcher(LOOPBACK, QUICK) as fetcher:
        with anyio.fail_after(1):
            await fetcher.fetch(f"http://cdn.example:{host.port}/a.png", part, declared)
    assert part.read_bytes() == BODY


async def test_a_name_that_does_not_exist_is_a_failure(
    part: Path, names: dict[str, list[str]]
) -> None:
    async with Fetcher(LOOPBACK) as fetcher:
        with pytest.raises(FetchFailed, match="did not come"):
            await fetcher.fetch("https://nowhere.example/a.png", part, declared)


async def test_a_file_is_written_in_pieces_and_not_held_whole(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_BYTES", 10_000)
    async with MediaHost(reply(BODY)) as host, Fetcher(LOOPBACK) as fetcher:
        await fetcher.fetch(host.origin + "/a.png", part, declared)
    assert part.read_bytes() == BODY
