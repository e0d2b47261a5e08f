"""Files get the names that were asked for, and no file that is there is ever overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from desk import QUICK, Desk, Service, decode

from runner.downloader import file_name, part_name, with_suffix
from runner.fetcher import Fetcher, FetchFailed, Limits
from runner.media import digest
from runner.sandbox import Fixed, Options


def declared(found: str | None, _: bytes | None) -> str | None:
    """What a fetch returns here: the content type as the server declares it."""
    return found


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("fox.{ext}", ["fox.png", "fox-1.png", "fox-2.png"]),
        ("fox-{n}.{ext}", ["fox-0.png", "fox-1.png", "fox-2.png"]),
        ("fox_{n:03}.{ext}", ["fox_000.png", "fox_001.png", "fox_002.png"]),
        ("a.b/fox.{ext}", ["a.b/fox.png", "a.b/fox-1.png", "a.b/fox-2.png"]),
        ("a.b/fox", ["a.b/fox", "a.b/fox-1", "a.b/fox-2"]),
        ("{{n}}.{ext}", ["{n}.png", "{n}-1.png", "{n}-2.png"]),
        (".fox", [".fox", ".fox-1", ".fox-2"]),
    ],
)
def test_the_files_of_one_job_are_told_apart(pattern: str, names: list[str]) -> None:
    assert [file_name(pattern, n, "png") for n in range(3)] == names
    parts = [part_name(pattern, n, key) for n in range(3) for key in (1, 2)]
    assert len(set(parts)) == 6
    assert all(part.endswith(".part") for part in parts)


def test_a_suffix_goes_before_the_last_dot_of_the_name() -> None:
    assert with_suffix("folder.d/fox.tar.gz", "2") == "folder.d/fox.tar-2.gz"


MANY = {"model": "flux", "params": {"num_images": 3}}


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ("{id}.{ext}", ["fox.png", "fox-1.png", "fox-2.png"]),
        ("{id}/{n:02}.{ext}", ["fox/00.png", "fox/01.png", "fox/02.png"]),
        ("{name}/{model}/{id}.{ext}", [f"animals/flux/fox{n}.png" for n in ("", "-1", "-2")]),
    ],
)
def test_several_files_of_a_job_are_all_saved(
    desk: Desk, api: Service, output: str, names: list[str]
) -> None:
    manifest = desk.manifest({"prompt": "a fox", "id": "fox"}, output=output, **MANY)
    assert desk.run("run", manifest).status == 0
    assert desk.files() == sorted(names)
    (job,) = desk.jobs().values()
    assert [file["path"] for file in job["files"]] == names
    assert len({file["sha256"] for file in job["files"]}) == 3
    assert len({file["url"] for file in job["files"]}) == 3
    for name in names:
        decode(desk.output / name)


def test_one_lost_file_of_several_is_fetched_alone(desk: Desk, api: Service) -> None:
    manifest = desk.manifest({"prompt": "a fox", "id": "fox"}, **MANY)
    assert desk.run("run", manifest).status == 0
    (desk.output / "fox-1.png").unlink()
    before = api.count("media")
    assert desk.run("run", manifest).status == 0
    assert api.count("media") == before + 1
    assert desk.files() == ["fox-1.png", "fox-2.png", "fox.png"]


@pytest.mark.parametrize("foreign", [b"holiday picture", b""])
def test_a_foreign_file_is_never_overwritten(desk: Desk, api: Service, foreign: bytes) -> None:
    desk.output.mkdir()
    (desk.output / "fox.png").write_bytes(foreign)
    assert desk.run("run", desk.manifest({"prompt": "a fox", "id": "fox"})).status == 0
    assert (desk.output / "fox.png").read_bytes() == foreign
    (job,) = desk.jobs().values()
    assert job["files"][0]["path"] != "fox.png"
    decode(desk.output / job["files"][0]["path"])
    assert desk.run("run", "animals.yaml").status == 0
    assert api.accepted == 1


def test_a_folder_in_the_way_is_no_disaster(desk: Desk, api: Service) -> None:
    (desk.output / "fox.png").mkdir(parents=True)
    ended = desk.run("run", desk.manifest({"prompt": "a fox", "id": "fox"}), "--json")
    assert ended.status in (0, 3), ended.words
    assert "Traceback" not in ended.words
    (desk.output / "fox.png").rmdir()
    assert desk.run("run", "animals.yaml").status == 0
    assert api.accepted == 1


def test_further_files_of_one_job_do_not_take_the_name_of_another_job(
    desk: Desk, api: Service
) -> None:
    # The second file of `fox` would be `fox-1.png`, which is the first of the job `fox-1`.
    jobs = [
        {"prompt": f"{animal} {n}", "id": f"{n}{animal}"}
        for n in range(6)
        for animal in ("fox", "fox-1", "fox-2")
    ]
    assert desk.run("run", desk.manifest(*jobs, **MANY)).status == 0
    files = [file for job in desk.jobs().values() for file in job["files"]]
    assert len({file["path"] for file in files}) == len(files) == 54
    assert desk.files() == sorted(file["path"] for file in files)
    for file in files:
        assert digest(desk.output / file["path"]) == file["sha256"]
    assert desk.run("run", "animals.yaml").status == 0
    assert api.count("media") == 54


def test_two_manifests_that_want_one_name_both_keep_their_file(desk: Desk, api: Service) -> None:
    desk.manifest({"prompt": "a fox", "id": "one"}, output="same.{ext}")
    assert desk.run("run", "animals.yaml").status == 0
    first = (desk.output / "same.png").read_bytes()
    desk.manifest({"prompt": "a lamp", "id": "two"}, name="things", output="same.{ext}")
    ended = desk.run("run", "things.yaml")
    assert ended.status in (0, 2), ended.words
    assert (desk.output / "same.png").read_bytes() == first


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_in_the_output_folder_is_not_written_through(desk: Desk, api: Service) -> None:
    precious = desk.write("precious.txt", "mine")
    desk.output.mkdir()
    (desk.output / "fox.png").symlink_to(precious)
    assert desk.run("run", desk.manifest({"prompt": "a fox", "id": "fox"})).status == 0
    assert precious.read_text() == "mine"


def test_outputs_in_any_script_are_saved(desk: Desk, api: Service) -> None:
    prompts = [{"prompt": "狐", "id": "狐狸"}, {"prompt": "лиса 🦊", "id": "лиса"}]
    ended = desk.run("run", desk.manifest(*prompts))
    assert ended.status == 0, ended.words
    assert desk.files() == sorted(["狐狸.png", "лиса.png"])


def test_text_outputs_are_saved_as_text(desk: Desk, api: Service) -> None:
    manifest = desk.manifest({"prompt": "naïve — 狐", "id": "tale"}, model="llm-small")
    assert desk.run("run", manifest).status == 0
    assert "naïve — 狐" in (desk.output / "tale.txt").read_text(encoding="utf-8")
    (job,) = desk.jobs().values()
    assert job["files"][0]["content_type"] == "text/plain"
    assert job["files"][0]["url"] is None


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://169.254.169.254/latest", "private address"),
        ("http://10.0.0.1/a.png", "private address"),
        ("http://[::ffff:10.0.0.1]/a.png", "private address"),
        ("http://[fd00::1]/a.png", "private address"),
        ("http://0.0.0.0/a.png", "private address"),
        ("http://100.64.0.1/a.png", "private address"),
        ("file:///etc/passwd", None),
        ("nonsense", "no address"),
        ("http://", "no address"),
        ("http://[broken", None),
        ("http://example.com:99999/", None),
        ("http://a..b/", None),
        (f"http://{'a' * 70}.invalid/", None),
        ("http://no-such-host.invalid/a.png", "did not come"),
    ],
)
async def test_addresses_that_lead_inside_or_nowhere_are_not_fetched_from(
    tmp_path: Path, location: str, words: str | None
) -> None:
    async with Fetcher("https://api.segmind.com") as fetcher:
        with pytest.raises(FetchFailed, match=words):
            await fetcher.fetch(location, tmp_path / "a.part", declared)
    assert not (tmp_path / "a.part").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.png", "http://localhost:9/a.png"])
async def test_loopback_is_fetched_from_only_where_the_api_is_there(
    tmp_path: Path, url: str
) -> None:
    async with Fetcher("https://api.segmind.com") as fetcher:
        with pytest.raises(FetchFailed, match="private address"):
            await fetcher.fetch(url, tmp_path / "a.part", declared)
    async with Fetcher("http://127.0.0.1:8787") as fetcher:
        with pytest.raises(FetchFailed, match="did not come"):
            await fetcher.fetch(url, tmp_path / "a.part", declared)


def test_media_that_fail_once_are_tried_again_within_the_run(desk: Desk, api: Service) -> None:
    prompts = [f"a fox [[{name}]]" for name in ("media-500-once", "media-truncated-once")]
    assert desk.run("run", desk.manifest(*prompts)).status == 0
    assert api.count("submit") == 2


def test_a_cut_off_download_is_continued_where_the_server_can(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(0.02), picture_px=2048))
    assert desk.run("run", desk.manifest("a fox [[media-truncated-once]]")).status == 0
    # Whatever of it came in time to be read, the rest is fetched or the whole again.
    answers = api.sandbox.stats()["requests"]["media"]
    assert sum(answers.values()) == 2
    assert len(desk.files()) == 1


WRONG = {
    "media-truncated": "bytes came",
    "media-html": "HTML page",
    "media-empty": "empty file",
    "media-garbage": "is broken",
    "media-403": "HTTP 403",
    "media-404": "HTTP 404",
    "media-huge": "not fetched",
    "media-redirect-loop": "redirects",
    "media-redirect-private": "private address",
}


def test_media_that_are_not_right_are_not_kept_and_the_reason_is(desk: Desk, api: Service) -> None:
    manifest = desk.manifest(*[{"prompt": f"a fox [[{name}]]", "id": name} for name in WRONG])
    assert desk.run("run", manifest).status == 3
    jobs = desk.jobs()
    assert {job["state"] for job in jobs.values()} == {"completed"}
    for name, words in WRONG.items():
        assert words in jobs[name]["error"]
    assert desk.files() == []
    assert api.accepted == len(WRONG)
    assert api.sandbox.stats()["key_leaks"] == 0


@pytest.mark.parametrize("marker", ["media-redirect", "media-wrong-type", "evil-name"])
def test_media_that_only_look_wrong_are_saved(desk: Desk, api: Service, marker: str) -> None:
    manifest = desk.manifest({"prompt": f"a fox [[{marker}]]", "id": "fox"})
    assert desk.run("run", manifest).status == 0
    assert desk.files() == ["fox.png"]
    assert api.sandbox.stats()["key_leaks"] == 0


def test_a_placeholder_for_several_prompts_is_saved_and_said_once(desk: Desk, api: Service) -> None:
    prompts = [
        {"prompt": f"a {name} [[placeholder]]", "id": name} for name in ("fox", "owl", "elk")
    ]
    ended = desk.run("run", desk.manifest(*prompts, "a lamp"))
    assert ended.status == 0
    assert ended.err.count("different prompts gave the same file") == 1
    assert len(desk.files()) == 4
    stories = [desk.run("jobs", "--job", name).out for name in ("fox", "owl", "elk")]
    assert sum("perhaps a placeholder" in story for story in stories) == 2


def test_a_full_disk_stops_the_run_and_the_next_one_pays_nothing(
    desk: Desk, api: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = desk.manifest("a fox", "an owl")
    with monkeypatch.context() as full:
        full.setattr("runner.fetcher.WRITE_BYTES", 1000)
        full.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
        ended = desk.run("run", manifest)
    assert ended.status == 3
    assert "make room and run again" in ended.words
    assert desk.files() == []
    assert desk.run("run", manifest).status == 0
    assert api.accepted == len(desk.files()) == 2


@pytest.mark.parametrize("marker", ["media-hang", "media-drip"])
def test_media_that_never_end_are_given_up(
    desk: Desk, serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, marker: str
) -> None:
    limits = Limits(read_timeout_s=0.7, slowest_bytes_s=1 << 20, slow_window_s=0.5)
    monkeypatch.setattr("runner.fetcher.Limits", lambda: limits)
    serve(Options(latency=Fixed(0.02), hang_s=9, drip_s=20, picture_px=640), download_attempts=1)
    ended = desk.run("run", desk.manifest({"prompt": f"a fox [[{marker}]]", "id": "fox"}))
    assert ended.status == 3
    assert desk.jobs()["fox"]["error"].startswith(("only ", "it comes too slowly"))
    assert desk.files() == []


def test_media_that_do_not_come_are_fetched_by_the_next_run(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(QUICK, download_attempts=1)
    manifest = desk.manifest("a fox [[media-truncated-once]]")
    assert desk.run("run", manifest).status == 3
    assert desk.files() == []
    submits = api.count("submit")
    assert desk.run("run", manifest).status == 0
    assert api.count("submit") == submits
    assert len(desk.files()) == 1


def test_a_cut_off_download_leaves_its_reason_with_the_job(desk: Desk, api: Service) -> None:
    desk.run("run", desk.manifest({"prompt": "a fox [[media-truncated]]", "id": "fox"}))
    (job,) = desk.jobs().values()
    assert job["error"].startswith("only ")
    assert "bytes came" in job["error"]
    story = desk.run("jobs", "--job", "fox").out
    assert "bytes came" in story


def test_large_pictures_come_whole(desk: Desk, serve: Callable[..., Service]) -> None:
    serve(Options(latency=Fixed(0.02), picture_px=2048))
    ended = desk.run("run", desk.manifest({"prompt": "a fox", "id": "fox"}))
    assert ended.status == 0
    assert max(decode(desk.output / "fox.png")) == 2048


def body_of(desk: Desk) -> dict[str, Any]:
    ((body,),) = desk.sql("SELECT body FROM results")
    return json.loads(body)


def test_the_whole_result_body_is_kept(desk: Desk, api: Service) -> None:
    desk.run("run", desk.manifest("a fox"))
    body = body_of(desk)
    assert body["status"] == "COMPLETED"
    assert body["metrics"]["cost"] == 0.04
    assert body["seed"]
