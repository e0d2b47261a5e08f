"""Files go out once for each content, or inline, and nothing that they bring about is paid for twice."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from desk import KEY, QUICK, Desk, Process, Service, finish, wait_until
from test_secrets import leaks

from runner.assembly import looking
from runner.crash_points import INPUT_POINTS
from runner.sandbox import Fixed, Options

PHOTOS = {"file": "photos/*.png"}
PATIENT = Options(latency=Fixed(0.3), picture_px=64)
BRIEF = Options(latency=Fixed(0.02), picture_px=64, window_s=1.0)


def removal(desk: Desk, *entries: Any, **keys: Any) -> str:
    return desk.manifest(*(entries or (PHOTOS,)), model="bg-removal", **keys)


def sent_images(api: Service) -> list[str]:
    return [record.body["image"] for record in api.sandbox.accepted.values()]


def uploads(api: Service) -> int:
    return sum(api.sandbox._state.vault.uploads.values())


def test_a_folder_of_photos_is_rendered_and_a_second_run_has_nothing_to_do(
    desk: Desk, api: Service
) -> None:
    for name in ("a", "b", "c"):
        desk.photo(f"photos/{name}.png", note=name)
    manifest = removal(desk, output="{stem}.{ext}")
    assert desk.run("run", manifest).status == 0
    assert desk.files() == ["a.png", "b.png", "c.png"]
    assert (uploads(api), api.accepted) == (3, 3)
    assert all(url.startswith(f"{api.url}/uploads/") for url in sent_images(api))
    again = desk.run("run", manifest)
    assert "nothing to do" in again.out
    assert (uploads(api), api.accepted) == (3, 3)


def test_a_listing_tells_file_and_content(desk: Desk, api: Service) -> None:
    photo = desk.photo("photos/a.png")
    desk.run("run", removal(desk))
    (job,) = desk.jobs().values()
    sha256 = hashlib.sha256(photo.read_bytes()).hexdigest()
    assert job["params"] == {"image": {"file": "photos/a.png", "sha256": sha256}}
    assert job["meta"] == {"file": "photos/a.png", "stem": "a"}


def test_jobs_that_send_one_content_at_a_time_upload_it_once(desk: Desk, api: Service) -> None:
    desk.photo("style.png")
    desk.photo("copies/style.png")
    prompts = [{"prompt": f"animal {n}"} for n in range(12)]
    both = {"style": {"file": "style.png"}, "too": {"file": "copies/style.png"}}
    ended = desk.run("run", desk.manifest(*prompts, model="styled", params=both))
    assert ended.status == 0, ended.words
    assert (uploads(api), api.accepted) == (1, 12)


def test_copies_in_a_folder_are_one_job_and_either_may_go(desk: Desk, api: Service) -> None:
    desk.photo("photos/a.png")
    desk.photo("photos/b.png")
    told = desk.run("run", "--limit", "1", removal(desk))
    assert "photos/b.png repeats photos/a.png" in told.err
    assert api.accepted == 1
    (desk.folder / "photos/a.png").unlink()
    assert desk.run("run", removal(desk)).status == 0
    assert api.accepted == 1


def test_only_a_changed_content_is_a_new_job(desk: Desk, api: Service) -> None:
    desk.photo("photos/a.png", note="1")
    manifest = removal(desk)
    assert desk.run("run", manifest).status == 0
    (desk.folder / "photos/a.png").rename(desk.folder / "photos/z.png")
    plan = desk.run("plan", "--json", manifest).json
    assert (plan["submits"], plan["removed"], plan["changed"]) == (0, 0, 0)
    assert desk.run("run", manifest).status == 0
    desk.configure(api.url, inputs="inline")
    assert desk.run("run", manifest).status == 0
    os.utime(desk.folder / "photos/z.png", (1, 1))
    assert desk.run("run", manifest).status == 0
    assert api.accepted == 1
    desk.photo("photos/z.png", note="2")
    assert desk.run("run", manifest).status == 0
    assert api.accepted == 2


def test_a_file_that_has_not_changed_is_not_read_again(
    desk: Desk, api: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = desk.photo("photos/a.png", note="old")
    os.utime(old, (1_700_000_000, 1_700_000_000))
    manifest = removal(desk)
    assert desk.run("plan", manifest).status == 0
    assert desk.run("run", manifest).status == 0
    new = desk.photo("photos/b.png", note="new")
    looked: list[Path] = []
    real = looking.look
    monkeypatch.setattr(looking, "look", lambda path: looked.append(path) or real(path))
    assert desk.run("run", manifest).status == 0
    assert looked == [new.relative_to(desk.folder)]
    assert api.accepted == 2


def test_a_change_that_no_stamp_shows_is_noticed_when_it_is_sent(desk: Desk, api: Service) -> None:
    photo = desk.photo("photos/a.png", note="1")
    os.utime(photo, (1_700_000_000, 1_700_000_000))
    manifest = removal(desk)
    assert desk.run("plan", "--json", manifest).json["submits"] == 1
    desk.run("run", "--limit", "1", desk.manifest("first", {"prompt": "x"}, name="first"))
    assert desk.run("plan", "--json", manifest).json["submits"] == 1
    photo.write_bytes(photo.read_bytes()[:-1] + b"2")
    os.utime(photo, (1_700_000_000, 1_700_000_000))
    ended = desk.run("run", manifest)
    assert "has changed since it was planned" in ended.words
    assert uploads(api) == 0
    assert desk.run("run", manifest).status == 0
    assert uploads(api) == 1


def test_a_folder_that_is_reached_by_a_link_is_the_same(desk: Desk, api: Service) -> None:
    photo = desk.photo("real/photos/a.png")
    os.utime(photo, (1_700_000_000, 1_700_000_000))
    (desk.folder / "real/cut.yaml").write_text("model: bg-removal\nprompts: [{file: photos/*.png}]")
    (desk.folder / "link").symlink_to("real")
    assert desk.run("run", "link/cut.yaml").status == 0
    for path in ("link/cut.yaml", "real/../real/cut.yaml"):
        assert "nothing to do" in desk.run("run", path).out
    assert api.accepted == 1


def test_inline_files_travel_in_the_request_and_are_kept_nowhere(desk: Desk, api: Service) -> None:
    photo = desk.photo("photos/a.png", note="x" * 300_000)
    desk.configure(api.url, inputs="inline")
    ended = desk.run("run", "-v", removal(desk))
    assert ended.status == 0, ended.words
    (image,) = sent_images(api)
    head, _, content = image.partition(",")
    assert (head, base64.b64decode(content)) == ("data:image/png;base64", photo.read_bytes())
    assert uploads(api) == 0
    said = desk.run("jobs", "--json").out + desk.run("jobs", "--job", next(iter(desk.jobs()))).out
    left = b"".join(path.read_bytes() for path in desk.folder.glob("runner.db*"))
    assert content[1000:1060] not in said + ended.words
    assert content[1000:1060].encode() not in left


# Doubt


@pytest.mark.parametrize("sent", ["upload", "inline"])
@pytest.mark.parametrize("asked", ["upload", "inline"])
@pytest.mark.parametrize("more", ["", "[[history-string]]"])
def test_a_lost_answer_is_found_however_the_file_was_sent(
    desk: Desk, api: Service, sent: str, asked: str, more: str
) -> None:
    desk.photo("photos/a.png")
    manifest = removal(desk, {**PHOTOS, "prompt": f"[[lost-once]] {more}"})
    desk.configure(api.url, inputs=sent, on_doubt="hold")
    assert desk.run("run", manifest).status == 1
    desk.configure(api.url, inputs=asked)
    ended = desk.run("run", manifest)
    assert ended.status == 0, ended.words
    assert api.accepted == 1


def test_an_address_of_an_earlier_upload_counts_as_well(desk: Desk, api: Service) -> None:
    desk.photo("photos/a.png")
    manifest = removal(desk, {**PHOTOS, "prompt": "[[lost-once]]"})
    desk.configure(api.url, on_doubt="hold")
    assert desk.run("run", manifest).status == 1
    desk.sql(
        "INSERT INTO uploads SELECT 'https://x.org/b', sha256, host, uploaded_at + 9 FROM uploads"
    )
    desk.configure(api.url)
    assert desk.run("run", manifest).status == 0
    assert api.accepted == 1


def test_lost_answers_of_equal_files_are_matched_by_count(desk: Desk, api: Service) -> None:
    desk.photo("photos/a.png")
    manifest = removal(desk, {**PHOTOS, "prompt": "[[lost]]", "repeat": 3})
    desk.configure(api.url, on_doubt="hold")
    assert desk.run("run", manifest).status == 1
    desk.configure(api.url)
    assert desk.run("run", manifest).status == 0
    assert api.accepted == 3
    assert len({job["request_id"] for job in desk.jobs().values()}) == 3


def test_a_history_that_cuts_data_urls_short_cannot_tell_and_nothing_is_sent_again(
    desk: Desk, api: Service
) -> None:
    desk.photo("photos/a.png", note="a" * 500)
    desk.photo("photos/b.png", note="b" * 500)
    lost = removal(desk, {"file": "photos/a.png", "prompt": "[[lost-once]] [[history-cut]]"})
    rules = {"inputs": "inline", "doubt_wait": "1s", "timeout": "1s"}
    desk.configure(api.url, on_doubt="hold", **rules)
    assert desk.run("run", lost).status == 1
    desk.configure(api.url, **rules)
    # Another request of the model, so that the history surely goes on from there.
    later = removal(desk, {"file": "photos/b.png"}, name="later")
    desk.run("run", later)
    ended = desk.run("run", lost, "--json")
    assert ended.json["states"] == {"in_doubt": 1}
    assert api.accepted == 2


def test_a_request_that_never_arrived_is_sent_again(desk: Desk, api: Service) -> None:
    desk.photo("photos/a.png", note="a")
    desk.photo("photos/b.png", note="b")
    rules = {"doubt_wait": "1s", "timeout": "1s"}
    desk.configure(api.url, on_doubt="hold", **rules)
    lost = removal(desk, {"file": "photos/a.png", "prompt": "[[lost-before]]"})
    assert desk.run("run", lost).status == 1
    desk.configure(api.url, **rules)
    desk.run("run", removal(desk, {"file": "photos/b.png"}, name="later"))
    told = desk.run("run", lost)
    attempts = desk.run("jobs", "--job", next(iter(desk.jobs("animals.yaml")))).out
    assert "it was never accepted" in attempts, told.words
    assert api.accepted == 1


# Crashes


@pytest.mark.parametrize("point", INPUT_POINTS)
def test_a_run_killed_around_an_upload_uploads_at_most_once_more(
    desk: Desk, spawn: Callable[..., Process], point: str
) -> None:
    api = spawn("--latency", "fixed:50ms")
    desk.configure(api.url)
    desk.photo("photos/a.png")
    manifest = removal(desk)
    died = desk.process("run", manifest, environ={"RUNNER_CRASH_AT": point})
    assert died.status == -signal.SIGKILL, died.words
    assert desk.run("run", manifest).status == 0
    stats = api.stats()
    assert stats["requests"]["upload"] == {"200": 2 if point == "file-uploaded" else 1}
    assert stats["max_per_body"] == 1


# What an upload may meet


@pytest.mark.parametrize(
    ("marker", "status", "state", "tries", "words"),
    [
        ("upload-429", 0, "saved", 2, ""),
        ("upload-500-once", 0, "saved", 2, ""),
        ("upload-lost-once", 0, "saved", 2, ""),
        ("upload-500", 1, "failed", 2, "given up after 2 times uploading its file: HTTP 500"),
        ("upload-no-url", 1, "failed", 2, "HTTP 200 without"),
        ("upload-413", 1, "failed", 1, "its file was refused: HTTP 413"),
        ("upload-401", 4, "pending", 1, "refused the key"),
        ("upload-404", 3, "pending", 1, "is `api.upload_url` right?"),
    ],
)
def test_what_becomes_of_a_job_whose_upload_meets_a_fault(
    desk: Desk,
    serve: Callable[..., Service],
    marker: str,
    status: int,
    state: str,
    tries: int,
    words: str,
) -> None:
    api = serve(BRIEF, submit_attempts=2)
    desk.photo("photos/a.png", note=f"[[{marker}]]")
    ended = desk.run("run", removal(desk))
    assert ended.status == status, ended.words
    (job,) = desk.jobs().values()
    assert (job["state"], uploads(api)) == (state, tries)
    assert words in f"{job['error']} {ended.words}"
    assert api.accepted == (state == "saved")


def test_an_address_that_leads_nowhere_has_a_way_out(desk: Desk, api: Service) -> None:
    desk.photo("photos/a.png", note="[[upload-gone-once]]")
    manifest = removal(desk)
    ended = desk.run("run", manifest)
    assert ended.status == 1
    assert "`runner retry --state failed` uploads its files anew" in ended.words
    assert desk.run("retry", "--state", "failed").status == 0
    assert desk.run("run", manifest).status == 0
    assert uploads(api) == 2


def test_a_host_that_is_not_there_holds_up_no_job_in_flight(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(PATIENT)
    desk.photo("photos/a.png")
    far = f"api: {{base_url: '{api.url}', history_url: '{api.url}', key: {KEY},"
    desk.write("config.yaml", far + " upload_url: 'http://127.0.0.1:9'}")
    jobs = desk.manifest("an owl", {**PHOTOS, "model": "bg-removal"})
    process = desk.start("run", jobs)
    wait_until(lambda: desk.files())
    process.terminate()
    ended = finish(process)
    assert ended.status == 3, ended.words
    states = sorted(job["state"] for job in desk.jobs(jobs).values())
    assert states == ["pending", "saved"]


# The key


def test_the_key_goes_to_the_upload_host_and_never_with_a_file_that_is_fetched(
    desk: Desk, api: Service
) -> None:
    with Service(QUICK) as host:
        desk.photo("photos/a.png")
        config = (
            f"api: {{base_url: '{api.url}', history_url: '{api.url}', upload_url: '{host.url}'}}"
        )
        desk.write("config.yaml", config)
        desk.environ["SEGMIND_API_KEY"] = KEY
        ended = desk.run("run", "-v", removal(desk))
        assert ended.status == 0, ended.words
        assert [(seen.route, seen.has_key) for seen in host.sandbox.requests] == [("upload", True)]
        assert api.count("upload") == 0
    assert api.sandbox.key_leaks == []
    assert leaks(desk.folder) == []
    assert KEY not in ended.words


def test_no_file_leaves_this_machine_when_the_api_is_on_it(desk: Desk, api: Service) -> None:
    desk.photo("photos/a.png")
    desk.write(
        "config.yaml", f"api: {{base_url: '{api.url}', history_url: '{api.url}', key: {KEY}}}"
    )
    ended = desk.run("run", removal(desk))
    assert ended.status == 3
    assert "set `api.upload_url` as well" in ended.words
    assert api.accepted == 0


def test_the_sandbox_option_uploads_to_the_sandbox(desk: Desk) -> None:
    desk.photo("photos/a.png")
    ended = desk.run("run", "--sandbox", removal(desk), "--json")
    assert ended.status == 0, ended.words
    again = desk.run("run", "--sandbox", removal(desk))
    assert "nothing to do" in again.out
