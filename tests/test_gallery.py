"""What a gallery is made of, and what serving it gives out and to whom."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from desk import Desk, Service
from exhibition import TRAP, Exhibit, a_night, hang, job, lead, many, picture
from PIL import Image

from runner.cli.gallery_server import GalleryServer
from runner.cli.visitors import Visitors, is_loopback
from runner.job import SavedFile, State
from runner.ledger import Ledger
from runner.ledger.showing import Cursor, changed_keys, cursor, newest_keys
from runner.report.gallery import Scope, Thumbnails, render_page, take_snapshot, write_gallery
from runner.report.gallery.rows import encode


async def gallery_of(folder: Path, exhibits: list[Exhibit], **scope: Any) -> Path:
    """Hangs the exhibits and writes their gallery; returns the output folder."""
    path = await hang(folder, exhibits)
    async with await Ledger.open(path) as ledger:
        await write_gallery(ledger, Scope(folder / "output", **scope))
    return folder / "output"


def rows_in(output: Path) -> list[dict[str, Any]]:
    """The rows of all data files that the page names, in its order."""
    head = head_in((output / "gallery.html").read_text("utf-8"))
    found = []
    for name in head["chunks"]:
        text = (output / ".gallery/data" / name).read_text("utf-8")
        body = re.fullmatch(r"galleryRows\(JSON\.parse\('(.*)'\)\);\n", text, re.DOTALL)
        assert body is not None
        found += json.loads(body[1].replace("\\'", "'").replace("\\\\", "\\"))
    return found


def head_in(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="head">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    head: dict[str, Any] = json.loads(found[1])
    return head


async def test_a_row_holds_what_is_known_of_a_job(tmp_path: Path):
    rows = rows_in(await gallery_of(tmp_path, a_night()))

    fox = rows[0]
    assert fox["params"] == {"prompt": "a fox in spring mist", "aspect_ratio": "1:1", "seed": 0}
    assert (fox["meta"], fox["tags"], fox["state"]) == ({"season": "spring"}, ["fox"], "saved")
    assert (fox["cost"], fox["completed"] - fox["submitted"]) == (0.04, 5.0)
    (file,) = fox["files"]
    assert (file["path"], file["w"], file["h"]) == ("night/j0.jpg", 320, 320)
    by_prompt = {row["params"]["prompt"]: row for row in rows}
    assert by_prompt["a poem of mist"]["files"][0]["text"] == "The mist <b>lifts</b>."
    assert by_prompt["a lost one"]["files"][0]["gone"] is True
    assert by_prompt["a broken one"]["error"] == "the model ran out of memory"
    assert by_prompt[TRAP]["state"] == "saved"
    assert len(rows) == len(a_night())


async def test_no_text_leaves_the_data_it_stands_in(tmp_path: Path):
    output = await gallery_of(tmp_path, a_night(), arguments="</script><script>alert(1)//")
    page = (output / "gallery.html").read_text("utf-8")
    data = "".join(path.read_text("utf-8") for path in (output / ".gallery/data").iterdir())

    assert "</script><script>alert" not in page
    assert not re.search("[<>&\u2028\u2029]", data)
    assert json.loads(encode({"a": TRAP + "\ud800"}).encode()) == {"a": TRAP + "\ud800"}


async def test_the_title_is_text_as_well(tmp_path: Path):
    path = await hang(tmp_path, a_night())
    async with await Ledger.open(path) as ledger:
        snapshot = await take_snapshot(ledger, Scope(tmp_path / "output"), Thumbnails(tmp_path))

    page = render_page({**snapshot.head, "manifests": ["<img src=x onerror=alert(1)>"]})

    assert "<img src=x" not in page


async def test_thumbnails_are_made_once_and_tell_the_size_of_the_picture(tmp_path: Path):
    output = await gallery_of(tmp_path, a_night())
    made = {path: path.stat().st_mtime_ns for path in (output / ".gallery/thumbs").rglob("*.webp")}

    await gallery_of(tmp_path, [])

    assert len(made) == 13
    assert made == {path: path.stat().st_mtime_ns for path in made}
    assert not list((output / ".gallery").rglob("*.part"))
    shapes = {tuple(map(int, re.findall(r"-(\d+)x(\d+)-", path.name)[0])) for path in made}
    assert shapes == {(320, 320), (480, 270), (270, 360)}
    with Image.open(next(iter(made))) as small:
        assert small.format == "WEBP"


def test_a_picture_that_is_none_is_left_as_it_is(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    file = SavedFile(0, None, "a.png", 16, "ab" * 32, "image/png")
    thumbnails = Thumbnails(tmp_path)

    assert thumbnails.make([file]) == 0
    assert thumbnails.of(file) is None


def test_a_large_picture_becomes_small_and_an_upright_one_stays_upright(tmp_path: Path):
    image, turned = Image.new("RGB", (3000, 1000), "red"), Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=turned)
    file = SavedFile(0, None, "a.jpg", 1, "cd" * 32, "image/jpeg")
    thumbnails = Thumbnails(tmp_path)

    thumbnails.make([file])

    made = thumbnails.of(file)
    assert made is not None
    assert (made.width, made.height) == (1000, 3000)
    with Image.open(tmp_path / made.path) as small:
        assert small.size == (128, 384)


async def test_thumbnails_stop_when_it_is_enough_and_the_page_is_still_whole(tmp_path: Path):
    path = await hang(tmp_path, a_night())
    async with await Ledger.open(path) as ledger:
        written = await write_gallery(ledger, Scope(tmp_path / "output"), enough=lambda: True)

    rows = rows_in(tmp_path / "output")
    assert written.unmade == 13 + 1  # one file has vanished
    assert len(rows) == len(a_night())
    assert not any("thumb" in file for row in rows for file in row.get("files", ()))


async def test_of_very_many_jobs_the_newest_are_shown_and_the_page_says_so(tmp_path: Path):
    path = await hang(tmp_path, list(many(30)))
    async with await Ledger.open(path) as ledger:
        written = await write_gallery(ledger, Scope(tmp_path / "output", most=10))

    assert (written.shown, written.total) == (10, 30)
    indexes = [row["index"] for row in rows_in(tmp_path / "output")]
    assert indexes == sorted(indexes)
    assert min(indexes) >= 19


async def test_data_are_split_and_old_ones_are_cleared_away(tmp_path: Path):
    waiting = [Exhibit(job(n, f"p{n}"), State.PENDING) for n in range(450)]
    output = await gallery_of(tmp_path, waiting)
    names = head_in((output / "gallery.html").read_text("utf-8"))["chunks"]
    old = output / ".gallery/data/0000000000000000.js"
    old.write_text("")
    os.utime(old, (1, 1))

    await gallery_of(tmp_path, [])

    assert len(names) == 2
    assert not old.exists()


async def test_only_results_of_this_output_folder_are_shown(tmp_path: Path):
    path = await hang(tmp_path, a_night())
    async with await Ledger.open(path) as ledger:
        await ledger.call(
            lambda database: database.execute(
                "INSERT INTO manifests (name, path, output_directory, fingerprint, planned_at) "
                "VALUES ('other', '/o.yaml', '/elsewhere', 'f', 0)"
            )
        )
        here = await take_snapshot(ledger, Scope(tmp_path / "output"), Thumbnails(tmp_path))
        named = Scope(tmp_path / "output", manifests=("other",))
        there = await take_snapshot(ledger, named, Thumbnails(tmp_path))

    assert here.head["manifests"] == ("night",)
    assert there.head["manifests"] == ("other",)
    assert there.head["shown"] == 0


async def test_every_change_is_seen_once(tmp_path: Path):
    exhibits = [Exhibit(job(n, f"p{n}"), State.PENDING) for n in range(3)]
    path = await hang(tmp_path, exhibits)
    async with await Ledger.open(path) as ledger:
        before = await cursor(ledger)
        keys = await newest_keys(ledger, (), 10)
        ended = Exhibit(exhibits[1].job, State.FAILED, error="why not")
        await lead(ledger, tmp_path / "output", ended, 1)
        after = await cursor(ledger)

        assert await changed_keys(ledger, before, after) == [keys[1]]
        assert await changed_keys(ledger, after, after) == []
        assert await changed_keys(ledger, Cursor(), after) == keys


def test_a_run_ends_with_a_gallery(desk: Desk, api: Service):
    desk.manifest("a red fox", "a grey owl [[fail]]")

    done = desk.run("run", "animals.yaml")

    assert done.status == 1
    assert "output/gallery.html" in done.out
    head = head_in((desk.folder / "output/gallery.html").read_text("utf-8"))
    assert head["simulated"] is True
    assert head["needs"]["failed"]["command"] == "runner retry animals.yaml --state failed"
    assert head["totals"]["states"] == {"saved": 1, "failed": 1}


def test_a_run_with_nothing_to_do_writes_none(desk: Desk, api: Service):
    desk.manifest("a red fox")
    desk.run("run", "animals.yaml")
    (desk.folder / "output/gallery.html").unlink()

    done = desk.run("run", "animals.yaml")

    assert done.out.count("\n") == 1
    assert not (desk.folder / "output/gallery.html").exists()


def test_a_gallery_that_cannot_be_written_is_a_warning(desk: Desk, api: Service):
    desk.manifest("a red fox")
    (desk.folder / "output").mkdir()
    (desk.folder / "output/.gallery").write_text("in the way")

    done = desk.run("run", "animals.yaml")

    assert done.status == 0
    assert "warning: the gallery was not written" in done.err
    assert "gallery" not in done.out
    again = desk.run("gallery")
    assert again.status == 2
    assert "cannot be written" in again.err


def test_it_can_be_switched_off(desk: Desk, serve: Callable[..., Service]):
    serve(gallery=False)
    desk.manifest("a red fox")

    done = desk.run("run", "animals.yaml")

    assert done.status == 0
    assert not (desk.folder / "output/gallery.html").exists()
    assert desk.run("gallery", "animals.yaml").out == "output/gallery.html: 1 job\n"


def test_without_a_ledger_or_with_an_unknown_manifest_it_says_so(desk: Desk):
    assert "no ledger" in desk.run("gallery").err
    assert desk.run("gallery").status == 2
    asyncio.run(hang(desk.folder, a_night()))
    assert "no file and no manifest `cats`" in desk.run("gallery", "cats").err
    assert "--port is for --serve" in desk.run("gallery", "--port", "9").err


@asynccontextmanager
async def served(folder: Path, visitors: Visitors) -> AsyncIterator[TestClient[Any, Any]]:
    async with await Ledger.open(folder / "runner.db") as ledger:
        server = GalleryServer(ledger, Scope(folder / "output"), visitors)
        async with TestClient(TestServer(server.application())) as client:
            yield client
            server.closing.set()


LOCAL = Visitors("127.0.0.1", 1)


async def test_only_recorded_files_are_served(tmp_path: Path):
    await hang(tmp_path, a_night())
    output = tmp_path / "output"
    (output / "night/secret.txt").write_text("secret")
    (output / "night/j1.jpg").unlink()
    (output / "night/j1.jpg").symlink_to(tmp_path / "runner.db")
    async with served(tmp_path, LOCAL) as client:
        answers = {
            path: (await client.get(path)).status
            for path in (
                "/",
                "/night/j0.jpg",
                "/night/odd%20%231%20100%25%3F.jpg",
                "/night/secret.txt",
                "/night/j1.jpg",
                "/night/gone.jpg",
                "/../runner.db",
                "/%2e%2e/runner.db",
                "/night/..%2f..%2frunner.db",
                "/night/./j0.jpg/",
                "/.gallery/thumbs/..%2f..%2f..%2frunner.db",
                "/.gallery/data/..%2f..%2f..%2frunner.db",
            )
        }
        picture_answer = await client.get("/night/j0.jpg")

    found = {path for path, status in answers.items() if status == 200}
    assert found == {"/", "/night/j0.jpg", "/night/odd%20%231%20100%25%3F.jpg"}
    assert {status for path, status in answers.items() if path not in found} == {404}
    assert picture_answer.headers["Content-Type"] == "image/jpeg"
    assert picture_answer.headers["X-Content-Type-Options"] == "nosniff"
    assert picture_answer.headers["Content-Security-Policy"].startswith("sandbox")


async def test_a_name_that_was_led_to_this_machine_is_refused(tmp_path: Path):
    await hang(tmp_path, a_night())
    async with served(tmp_path, LOCAL) as client:
        for host, status in (
            ("evil.example", 403),
            ("127.0.0.1.evil.example:80", 403),
            ("192.168.1.7", 403),
            ("localhost:9999", 200),
            ("[::1]:80", 200),
        ):
            assert (await client.get("/", headers={"Host": host})).status == status, host


async def test_a_served_page_loads_its_data_and_hears_of_changes(tmp_path: Path):
    exhibits = [Exhibit(job(n, f"p{n}"), State.PENDING) for n in range(2)]
    path = await hang(tmp_path, exhibits)
    async with served(tmp_path, LOCAL) as client:
        head = head_in(await (await client.get("/")).text())
        data = await client.get(f"/.gallery/data/{head['chunks'][0]}")
        assert (await data.text()).startswith("galleryRows(")
        events = await client.get("/events", params=head["live"])
        shown = ((("night/j0.jpg", picture(0), "image/jpeg")),)
        async with await Ledger.open(path) as ledger:
            await lead(ledger, tmp_path / "output", Exhibit(exhibits[0].job, files=shown), 0)
        line = b""
        while not line.startswith(b"data: {"):
            line = await events.content.readline()
        events.close()

    told = json.loads(line[6:])
    assert [row["id"] for row in told["rows"]] == ["j0"]
    assert told["rows"][0]["state"] == "saved"
    assert told["totals"]["states"] == {"pending": 1, "saved": 1}
    assert (tmp_path / "output" / told["rows"][0]["files"][0]["thumb"]).is_file()
    assert not (tmp_path / "output/gallery.html").exists()


class Closing:
    """An answer whose reader is gone."""

    async def write(self, data: bytes) -> None:
        raise ConnectionResetError("Cannot write to closing transport")

    async def prepare(self, request: Any) -> None:
        return


async def test_readers_who_leave_in_the_middle_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await hang(tmp_path, a_night())
    monkeypatch.setattr(web, "StreamResponse", lambda **_: Closing())
    async with await Ledger.open(tmp_path / "runner.db") as ledger:
        server = GalleryServer(ledger, Scope(tmp_path / "output"), LOCAL)

        answer = await server.events(make_mocked_request("GET", "/events"))

    assert isinstance(answer, Closing)


async def test_a_token_opens_the_door_and_leaves_the_address(tmp_path: Path):
    await hang(tmp_path, a_night())
    async with served(tmp_path, Visitors("192.168.1.7", 7, "right")) as client:
        assert (await client.get("/")).status == 401
        assert (await client.get("/", params={"token": "wrong"})).status == 401
        opened = await client.get("/", params={"token": "right"}, allow_redirects=False)
        assert (opened.status, opened.headers["Location"]) == (302, "/")
        assert "HttpOnly" in opened.headers["Set-Cookie"]
        headers = {"Cookie": "gallery-7=right"}
        assert (await client.get("/night/j0.jpg", headers=headers)).status == 200
        evil = {**headers, "Host": "evil.example"}
        assert (await client.get("/", headers=evil)).status == 403


@pytest.mark.parametrize(
    ("host", "is_local"),
    {
        "127.0.0.1": True,
        "127.9.9.9": True,
        "::1": True,
        "localhost": True,
        "0.0.0.0": False,  # noqa: S104
        "::": False,
        "192.168.1.7": False,
        "localhost.evil.org": False,
    }.items(),
)
def test_loopback_is_told_from_other_addresses(host: str, is_local: bool):
    assert is_loopback(host) is is_local
