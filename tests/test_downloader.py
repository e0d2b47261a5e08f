"""The downloader: what is half stays out of sight, what is wrong is not kept, what is odd is said."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from ledgers import NOW, StillGovernor, get, job, plan, sql
from mediahost import MediaHost, reply, rest
from PIL import Image

from runner import downloader as downloading
from runner import fetcher as fetching
from runner import media
from runner.disk import on_disk
from runner.downloader import MEDIA_RETENTION_S, Downloader
from runner.events import Noted
from runner.fetcher import Fetcher
from runner.job import Consequence, State, StepResult
from runner.ledger import Event, Ledger
from runner.ledger.reading import Selection, attempts, retry
from runner.policy.names import part_name

LOOPBACK = "http://127.0.0.1:1"
TAG = {"ETag": '"v1"'}


def picture(seed: int = 1, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    data = Random(seed).randbytes(40 * 30 * 3)
    Image.frombytes("RGB", (40, 30), data).save(buffer, kind)
    return buffer.getvalue()


FOX = picture()
INLINE = "data:image/png;base64," + base64.b64encode(FOX).decode()


class Desk:
    """A ledger, an output folder and a downloader between them."""

    def __init__(self, ledger: Ledger, fetcher: Fetcher, output: Path) -> None:
        self.ledger, self.output = ledger, output
        self.governor = StillGovernor()
        self.seen: list[Any] = []
        self.downloader = Downloader(ledger, fetcher, self.governor, output, self.seen.append)

    async def completed(self, *outputs: str, id_: str = "j0") -> int:
        """Leads a job to completed; its result has these outputs."""
        record = await get(self.ledger, id_)
        await self.ledger.begin_submit(record, NOW, NOW + 3600)
        await self.ledger.accept(await get(self.ledger, id_), f"r-{id_}", Event(NOW))
        body = json.dumps({"status": "COMPLETED", "output": list(outputs)})
        await self.ledger.complete(await get(self.ledger, id_), body, Event(NOW + 10), 0.02)
        return (await get(self.ledger, id_)).key

    async def save(self, key: int, last: bool = False) -> StepResult:
        return (await self.downloader.save(key, last))[1]

    @property
    def files(self) -> list[str]:
        found = (path for path in self.output.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.output).as_posix() for path in found)

    async def story(self, id_: str = "j0") -> list[str]:
        found = await attempts(self.ledger, (await get(self.ledger, id_)).key)
        return [f"{attempt.action}: {attempt.detail}" for attempt in found]

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.seen if isinstance(event, Noted) and event.warning]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        await Ledger.open(tmp_path / "runner.db", durable=False) as ledger,
        Fetcher(LOOPBACK) as fetcher,
    ):
        await plan(ledger, [job(number) for number in range(3)])
        yield Desk(ledger, fetcher, tmp_path / "output")


def half(body: bytes = FOX, **headers: str) -> Any:
    return reply(body[: len(body) // 2], length=len(body), headers=headers or TAG, hang_s=0.05)


# Between the tries of a run.


async def test_a_transfer_that_broke_off_is_continued_by_the_next_try(desk: Desk) -> None:
    async with MediaHost(half(), rest(FOX, len(FOX) // 2)) as host:
        key = await desk.completed(host.origin + "/a.png")
        result = await desk.save(key)
        assert (result.state, result.consequence) == (State.COMPLETED, Consequence.NONE)
        assert desk.files == [part_name("j0.{ext}", 0, key)]
        assert (await desk.save(key)).state is State.SAVED
    assert host.headers[1]["range"] == f"bytes={len(FOX) // 2}-"
    assert desk.files == ["j0.png"]
    assert (desk.output / "j0.png").read_bytes() == FOX
    assert "bytes came" in (await desk.story())[-2]


async def test_a_small_file_is_written_checked_and_named_in_one_visit_to_the_disk(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits: list[Any] = []

    async def counted(work: Any, *arguments: Any) -> Any:
        visits.append(work)
        return await on_disk(work, *arguments)

    monkeypatch.setattr(fetching, "on_disk", counted)
    monkeypatch.setattr(downloading, "on_disk", counted)
    async with MediaHost(reply(FOX)) as host:
        key = await desk.completed(host.origin + "/a.png")
        # Only what an earlier run left needs a look.
        desk.downloader._began_at = 0.0
        assert (await desk.save(key)).state is State.SAVED
    assert desk.files == ["j0.png"]
    assert len(visits) == 1


async def test_the_last_try_of_a_run_leaves_nothing(desk: Desk) -> None:
    async with MediaHost(half()) as host:
        key = await desk.completed(host.origin + "/a.png")
        await desk.save(key)
        assert len(desk.files) == 1
        assert (await desk.save(key, last=True)).state is State.COMPLETED
    assert desk.files == []


async def test_files_of_a_killed_run_are_gone_before_anything_is_fetched(desk: Desk) -> None:
    async with MediaHost(reply(status=500)) as host:
        key = await desk.completed(host.origin + "/a.png", host.origin + "/b.png")
        desk.output.mkdir()
        for n in range(2):
            (desk.output / part_name("j0.{ext}", n, key)).write_bytes(b"half")
        other = desk.output / part_name("j0.{ext}", 0, key + 1)
        other.write_bytes(b"of another job")
        await desk.save(key)
    assert desk.files == [other.name]


async def test_what_a_killed_run_left_is_never_taken_for_the_beginning(desk: Desk) -> None:
    async with MediaHost(reply(FOX, headers=TAG)) as host:
        key = await desk.completed(host.origin + "/a.png")
        desk.output.mkdir()
        (desk.output / part_name("j0.{ext}", 0, key)).write_bytes(b"half of something else")
        assert (await desk.save(key)).state is State.SAVED
    assert "range" not in host.headers[0]
    assert (desk.output / "j0.png").read_bytes() == FOX


async def test_a_rest_that_does_not_fit_is_found_out_and_fetched_anew(desk: Desk) -> None:
    # The same tag for another picture: only who decodes the whole finds out.
    lie = rest(picture(2)[: len(FOX)].ljust(len(FOX), b"."), len(FOX) // 2)
    async with MediaHost(half(), lie, reply(FOX)) as host:
        key = await desk.completed(host.origin + "/a.png")
        await desk.save(key)
        assert "is broken" in (await desk.save(key)).reason
        assert desk.files == []
        assert (await desk.save(key)).state is State.SAVED
    assert ["range" in headers for headers in host.headers] == [False, True, False]
    assert (desk.output / "j0.png").read_bytes() == FOX


async def test_files_that_came_are_not_fetched_again_for_one_that_did_not(desk: Desk) -> None:
    replies = reply(FOX), half(), rest(FOX, len(FOX) // 2)
    async with MediaHost(*replies) as host:
        key = await desk.completed(host.origin + "/a.png", host.origin + "/b.png")
        await desk.save(key)
        assert (await desk.save(key)).state is State.SAVED
    assert [path for path, _ in host.asked] == ["/a.png", "/b.png", "/b.png"]
    assert desk.files == ["j0-1.png", "j0.png"]


async def test_a_file_that_vanished_between_the_tries_is_fetched_again(desk: Desk) -> None:
    async with MediaHost(reply(FOX), half(), reply(FOX)) as host:
        key = await desk.completed(host.origin + "/a.png", host.origin + "/b.png")
        await desk.save(key)
        (desk.output / "j0.png").unlink()
        assert (await desk.save(key)).state is State.SAVED
    assert desk.files == ["j0-1.png", "j0.png"]


async def test_a_download_that_is_stopped_leaves_nothing(desk: Desk) -> None:
    async with MediaHost(reply(FOX[:99], length=len(FOX), hang_s=9)) as host:
        key = await desk.completed(host.origin + "/a.png")
        with anyio.move_on_after(0.2):
            await desk.save(key)
        assert desk.files == []
    assert (await get(desk.ledger)).state is State.COMPLETED


async def test_media_that_are_gone_for_good_leave_nothing_and_end_the_job(desk: Desk) -> None:
    async with MediaHost(half(), reply(status=404)) as host:
        key = await desk.completed(host.origin + "/a.png")
        await desk.save(key)
        desk.governor.time += MEDIA_RETENTION_S + 1
        assert (await desk.save(key)).state is State.EXPIRED
    assert desk.files == []


async def test_how_old_media_are_is_told_by_the_servers_clock_where_it_is_known(desk: Desk) -> None:
    async with MediaHost(reply(status=404)) as host:
        key = await desk.completed(host.origin + "/a.png")
        await sql(desk.ledger, "UPDATE jobs SET server_at = ?", desk.governor.time)
        # A week has passed there, and our own clock was set back.
        server_now = desk.governor.time + MEDIA_RETENTION_S + 60
        desk.governor.server.hear(server_now, desk.governor.time, 0.0)
        assert (await desk.save(key)).state is State.EXPIRED


# Wrong media.

PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    ("body", "declared", "words"),
    [
        (PAGE, "text/html; charset=utf-8", "HTML page"),
        (PAGE, "image/png", "HTML page"),
        (b'{"error": "no"}', "image/png", "holds no picture"),
        (b'{"error": "no"}', "application/json", "holds no picture"),
        (b"<?xml version='1.0'?><Error/>", "application/xml", "holds no picture"),
        (b"", "image/png", "empty"),
        (FOX[: len(FOX) // 2], "image/png", "is broken"),
        (FOX[:300] + bytes(len(FOX) - 300), "image/png", "is broken"),
    ],
)
async def test_what_is_no_picture_is_not_saved_as_one(
    desk: Desk, body: bytes, declared: str, words: str
) -> None:
    headers = {"Content-Type": declared, **TAG}
    async with MediaHost(reply(body, headers=headers), reply(FOX)) as host:
        key = await desk.completed(host.origin + "/a.png")
        result = await desk.save(key)
        assert (result.state, words in result.reason) == (State.COMPLETED, True)
        assert desk.files == []
        # Nothing of it is continued: it was whole, and wrong.
        assert (await desk.save(key)).state is State.SAVED
    assert "range" not in host.headers[1]


@pytest.mark.parametrize("declared", ["text/html", "text/plain", "application/json", "video/mp4"])
async def test_a_whole_picture_is_saved_whatever_it_is_declared_as(
    desk: Desk, declared: str
) -> None:
    async with MediaHost(reply(FOX, headers={"Content-Type": declared})) as host:
        key = await desk.completed(host.origin + "/a.jpg")
        assert (await desk.save(key)).state is State.SAVED
    assert desk.files == ["j0.png"]


# Data URLs.


async def test_a_file_that_is_not_what_its_url_says_gets_the_name_of_what_it_is(desk: Desk) -> None:
    async with MediaHost(reply(picture(kind="JPEG"))) as host:
        key = await desk.completed(host.origin + "/a.png")
        assert (await desk.save(key)).state is State.SAVED
    assert desk.files == ["j0.jpg"]


async def test_a_data_url_is_saved_without_asking_anybody(desk: Desk) -> None:
    key = await desk.completed("data:image/jpeg;base64," + base64.b64encode(FOX).decode())
    assert (await desk.save(key)).state is State.SAVED
    assert (desk.output / "j0.png").read_bytes() == FOX
    ((url,),) = await sql(desk.ledger, "SELECT url FROM files")
    assert url is None


@pytest.mark.parametrize(
    "url",
    ["data:image/png;base64,###", "data:image/png;base64,AAA", "data:image/png,x", "data:,",
     "data:image/png;base64," + base64.b64encode(FOX[:500]).decode()],
)  # fmt: skip
async def test_a_broken_data_url_is_not_saved(desk: Desk, url: str) -> None:
    key = await desk.completed(url)
    assert (await desk.save(key)).state is State.COMPLETED
    assert desk.files == []


@pytest.mark.parametrize(
    ("url", "content"),
    [
        ("data:text/plain,a%20fox", b"a fox"),
        ("data:text/plain,füchse", "füchse".encode()),
        ("data:text/plain;base64,YSBmb3g%3D", b"a fox"),
        ("data:text/plain;BASE64,YSBmb3g=", b"a fox"),
    ],
)
async def test_a_data_url_is_written_as_it_reads(desk: Desk, url: str, content: bytes) -> None:
    assert (await desk.save(await desk.completed(url))).state is State.SAVED
    assert (desk.output / "j0.txt").read_bytes() == content


@pytest.mark.parametrize("wrong", ["data:image/png;base64,ü", "data:image/png;base64,AA=A"])
async def test_a_data_url_that_is_not_base64_is_said_as_such(desk: Desk, wrong: str) -> None:
    result = await desk.save(await desk.completed(wrong))
    assert result.state is State.COMPLETED
    assert result.reason


async def test_half_a_character_in_a_text_costs_that_character_alone(desk: Desk) -> None:
    assert (await desk.save(await desk.completed("a \ud83d fox"))).state is State.SAVED
    assert (desk.output / "j0.txt").read_bytes() == b"a ? fox"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (reply(b"\x00\x01", headers={"Content-Type": "application/\xff"}), State.SAVED),
        (reply(b"\x00\x01", headers={"Content-Type": "image/\xff"}), State.COMPLETED),
        (reply(status=302, headers={"Location": "http://\xff/a.png"}), State.COMPLETED),
        (reply(status=302, headers={"Location": "http://[\xff"}), State.COMPLETED),
    ],
)
async def test_what_is_no_text_in_a_header_ends_no_run(
    desk: Desk, answer: Any, state: State
) -> None:
    async with MediaHost(answer) as host:
        assert (await desk.save(await desk.completed(host.origin + "/a.bin"))).state is state
    assert all(story.isprintable() for story in await desk.story())


async def test_an_address_that_is_none_as_a_whole_may_be_one_of_a_file(desk: Desk) -> None:
    async with MediaHost(reply(FOX)) as host:
        desk.downloader._fetcher._api_origin = host.origin
        assert (await desk.save(await desk.completed("//[x.png"))).state is State.SAVED


@pytest.mark.parametrize("error", [ValueError("Invalid IPv6 URL"), RecursionError("too deep")])
async def test_what_nobody_thought_of_in_one_result_is_no_end_of_the_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def stumbles(*_: Any) -> None:
        raise error

    monkeypatch.setattr(downloading, "check", stumbles)
    async with MediaHost(reply(FOX), reply(FOX)) as host:
        key = await desk.completed(host.origin + "/a.png")
        result = await desk.save(key)
        assert (result.state, result.reason) == (State.COMPLETED, f"it cannot be read: {error}")
        assert desk.files == []
        monkeypatch.undo()
        assert (await desk.save(key)).state is State.SAVED


# A result that takes the place of another.


@pytest.mark.parametrize("kind", ["inline", "fetched"])
async def test_a_job_that_was_sent_anew_has_the_files_of_its_new_result(
    desk: Desk, kind: str
) -> None:
    old, new = [picture(1), picture(2)], [picture(11), picture(12)]
    async with MediaHost(*map(reply, [*old, *new])) as host:

        def urls(pictures: list[bytes], name: str) -> list[str]:
            if kind == "inline":
                return [inline(content) for content in pictures]
            return [f"{host.origin}/{name}{n}.png" for n in range(2)]

        key = await desk.completed(*urls(old, "old"))
        assert (await desk.save(key)).state is State.SAVED
        (desk.output / "j0-1.png").unlink()
        await desk.ledger.reopen(key, NOW, "a file is gone")
        await desk.ledger.end(await get(desk.ledger, "j0"), State.EXPIRED, Event(NOW, 404, "gone"))
        chosen = Selection(states=(State.EXPIRED,))
        assert await retry(desk.ledger, chosen, NOW) == 1
        await desk.completed(*urls(new, "new"))
        assert (await desk.save(key)).state is State.SAVED
    assert desk.files == ["j0-1.png", "j0.png"]
    assert (desk.output / "j0.png").read_bytes() == new[0]
    assert (desk.output / "j0-1.png").read_bytes() == new[1]


# The disk.


async def test_a_file_larger_than_the_room_pauses_the_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WRITE_BYTES", 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    async with MediaHost(reply(FOX)) as host:
        key = await desk.completed(host.origin + "/a.png")
        result = await desk.save(key)
    assert (result.state, result.consequence) == (State.COMPLETED, Consequence.PAUSE)
    assert "is full" in result.reason
    assert "make room and run again" in result.reason
    assert desk.files == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_that_fills_up_pauses_the_run_and_keeps_nothing_half(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write = os.write

    def full(file: int, data: Any) -> int:
        if os.fstat(file).st_size:
            raise OSError(code, os.strerror(code))
        return write(file, data[:100])

    async with MediaHost(reply(FOX, headers=TAG)) as host:
        key = await desk.completed(host.origin + "/a.png")
        with monkeypatch.context() as patched:
            patched.setattr(fetching, "os", SimpleNamespace(**{**vars(os), "write": full}))
            result = await desk.save(key)
        assert result.consequence is Consequence.PAUSE
        assert desk.files == []
        assert "is full" in (await desk.story())[-1]
        assert (await desk.save(key)).state is State.SAVED
    assert "range" not in host.headers[1]


async def test_a_disk_that_takes_too_long_is_not_taken_for_the_server(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(file: int) -> None:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    async with MediaHost(reply(FOX)) as host:
        key = await desk.completed(host.origin + "/a.png")
        with monkeypatch.context() as patched:
            patched.setattr(fetching, "os", SimpleNamespace(**{**vars(os), "fsync": slow}))
            reason = (await desk.save(key)).reason
        assert reason.startswith(f"cannot write to {desk.output}")
        assert (await desk.save(key)).state is State.SAVED


@pytest.mark.parametrize("output", ["a text", INLINE])
async def test_a_full_disk_pauses_the_run_for_what_is_not_fetched_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    key = await desk.completed(output)
    monkeypatch.setattr(media, "os", SimpleNamespace(**{**vars(os), "fsync": full}))
    assert (await desk.save(key)).consequence is Consequence.PAUSE
    assert desk.files == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
async def test_a_folder_that_cannot_be_written_pauses_the_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def closed(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    key = await desk.completed("a text")
    monkeypatch.setattr(Path, "mkdir", closed)
    result = await desk.save(key)
    assert result.consequence is Consequence.PAUSE
    assert "make it writable" in result.reason


async def test_another_trouble_of_the_disk_is_this_jobs_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    key = await desk.completed("a text")
    monkeypatch.setattr("runner.downloader.put_in_place", broken)
    result = await desk.save(key)
    assert (result.state, result.consequence) == (State.COMPLETED, Consequence.NONE)
    assert desk.files == []


# The same file again.


async def test_one_file_for_different_prompts_is_flagged_once_and_saved(desk: Desk) -> None:
    async with MediaHost(reply(FOX)) as host:
        for number in range(3):
            key = await desk.completed(host.origin + f"/{number}.png", id_=f"j{number}")
            assert (await desk.save(key)).state is State.SAVED
    assert desk.files == ["j0.png", "j1.png", "j2.png"]
    assert desk.warnings == ["2 different prompts gave the same file j1.png: a placeholder?"]
    flags = [[line for line in await desk.story(f"j{n}") if "flagged" in line] for n in range(3)]
    assert flags[0] == []
    assert flags[1] == ["flagged: the file of another request, job j0: perhaps a placeholder"]
    assert len(flags[2]) == 1


async def test_repeats_of_one_request_may_give_one_file(desk: Desk) -> None:
    same = {"prompt": "the same", "seed": 7}
    repeats = [job(n, id=f"r{n}", params=same, repeat=n) for n in range(3)]
    await plan(desk.ledger, repeats)
    async with MediaHost(reply(FOX)) as host:
        for number in range(3):
            key = await desk.completed(host.origin + f"/{number}.png", id_=f"r{number}")
            await desk.save(key)
        assert desk.warnings == []
        key = await desk.completed(host.origin + "/9.png", id_="j0")
        await desk.save(key)
    assert desk.warnings == ["2 different prompts gave the same file j0.png: a placeholder?"]


async def test_equal_texts_are_no_placeholders(desk: Desk) -> None:
    for number in range(2):
        await desk.save(await desk.completed("yes", id_=f"j{number}"))
    assert desk.files == ["j0.txt", "j1.txt"]
    assert desk.warnings == []


async def test_the_same_file_twice_in_one_job_is_no_placeholder(desk: Desk) -> None:
    async with MediaHost(reply(FOX)) as host:
        await desk.save(await desk.completed(host.origin + "/a", host.origin + "/b"))
    assert desk.warnings == []


async def test_files_of_different_prompts_that_come_together_are_flagged(desk: Desk) -> None:
    async with MediaHost(reply(FOX)) as host:
        keys = [await desk.completed(host.origin + "/a.png", id_=f"j{n}") for n in range(3)]
        async with anyio.create_task_group() as group:
            for key in keys:
                group.start_soon(desk.save, key)
    assert len(desk.warnings) == 1
    stories = [line for n in range(3) for line in await desk.story(f"j{n}") if "flagged" in line]
    assert len(stories) == 2


def with_provenance(desk: Desk) -> None:
    """From here on the desk's downloader writes provenance into what it saves."""
    desk.downloader = Downloader(
        desk.ledger,
        desk.downloader._fetcher,
        desk.governor,
        desk.output,
        desk.seen.append,
        embed=True,
    )


def inline(data: bytes, content_type: str = "image/png") -> str:
    return f"data:{content_type};base64," + base64.b64encode(data).decode()


async def test_provenance_is_in_the_file_and_the_ledger_knows_the_file_as_it_is(desk: Desk):
    await plan(desk.ledger, [job(0)])
    with_provenance(desk)

    await desk.downloader.save(await desk.completed(INLINE))

    found = await sql(desk.ledger, "SELECT sha256, size_bytes, received_sha256 FROM files")
    ((sha256, size_bytes, received_sha256),) = found
    path = desk.output / "j0.png"
    assert (sha256, size_bytes) == (media.digest(path), path.stat().st_size)
    assert received_sha256 == hashlib.sha256(FOX).hexdigest()
    with Image.open(path) as image, Image.open(io.BytesIO(FOX)) as fox:
        assert image.tobytes() == fox.tobytes()
        packet = str(image.info["XML:com.adobe.xmp"])
    assert "prompt 0" in packet
    assert "r-j0" in packet
    assert desk.files == ["j0.png"]


async def test_a_placeholder_is_told_although_each_file_has_other_provenance(desk: Desk):
    await plan(desk.ledger, [job(0), job(1), job(2)])
    with_provenance(desk)

    for number in range(3):
        await desk.downloader.save(await desk.completed(INLINE, id_=f"j{number}"))

    assert len({media.digest(desk.output / name) for name in desk.files}) == 3
    (warning,) = desk.warnings
    assert "different prompts gave the same file" in warning
    assert any("flagged" in line for line in await desk.story("j1"))


async def test_a_placeholder_from_before_provenance_was_asked_for_is_told_as_well(desk: Desk):
    await plan(desk.ledger, [job(0), job(1)])
    await desk.downloader.save(await desk.completed(INLINE))
    with_provenance(desk)

    await desk.downloader.save(await desk.completed(INLINE, id_="j1"))

    assert len(desk.warnings) == 1


async def test_a_file_that_cannot_hold_provenance_is_saved_as_it_came_and_that_is_said_once(
    desk: Desk,
):
    await plan(desk.ledger, [job(0), job(1), job(2)])
    with_provenance(desk)
    signature = bytes(4) + b"caBX" + zlib.crc32(b"caBX").to_bytes(4)
    signed = [fox[:33] + signature + fox[33:] for fox in (FOX, picture(2))]

    for number, data in enumerate(signed):
        await desk.downloader.save(await desk.completed(inline(data), id_=f"j{number}"))
    gif = picture(3, "GIF")
    await desk.downloader.save(await desk.completed(inline(gif, "image/gif"), id_="j2"))

    assert [(desk.output / f"j{number}.png").read_bytes() for number in (0, 1)] == signed
    assert (desk.output / "j2.gif").read_bytes() == gif
    notes = [event.text for event in desk.seen if isinstance(event, Noted)]
    assert len([note for note in notes if "Content Credentials" in note]) == 1
    assert desk.files == ["j0.png", "j1.png", "j2.gif"]


async def test_a_file_with_provenance_that_was_named_before_a_kill_is_known_again(desk: Desk):
    await plan(desk.ledger, [job(0)])
    with_provenance(desk)
    key = await desk.completed(INLINE)
    await desk.downloader.save(key)
    before = (desk.output / "j0.png").read_bytes()
    # As if the run had died between the rename and its commit.
    await sql(desk.ledger, "UPDATE jobs SET state = 'completed'")
    await sql(desk.ledger, "DELETE FROM files")

    await desk.downloader.save(key)

    assert desk.files == ["j0.png"]
    assert (desk.output / "j0.png").read_bytes() == before
