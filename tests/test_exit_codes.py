"""The exit status says how a run ended, for scripts that read nothing else."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from desk import QUICK, Desk, Service, finish, wait_until

from runner.sandbox import Fixed, Options


def test_0_when_every_job_is_saved(desk: Desk, api: Service) -> None:
    ended = desk.process("run", desk.manifest("a red fox"))
    assert ended.status == 0, ended.words
    assert "saved" in ended.out
    assert desk.process("run", "animals.yaml").status == 0


@pytest.mark.parametrize(
    ("marker", "state"),
    [
        ("fail", "failed"),
        ("block", "blocked"),
        ("400", "invalid"),
        ("lost", "in_doubt"),
    ],
)
def test_1_when_all_is_settled_but_not_saved(
    desk: Desk, serve: Callable[..., Service], marker: str, state: str
) -> None:
    serve(QUICK, on_doubt="hold", on_expired="hold")
    ended = desk.run("run", desk.manifest("a red fox", f"a grey owl [[{marker}]]"))
    assert ended.status == 1, ended.words
    states = sorted(job["state"] for job in desk.jobs().values())
    assert states == sorted(["saved", state])
    assert f"--state {state}" in ended.out
    assert desk.run("run", "animals.yaml").status == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: imagen\nprompts:\n  - a fox\npromts: []\n", "animals.yaml:4"),
        (
            "model: imagen\nprompts:\n  - prompt: a fox\n    params: {aspect_ratio: '5:1'}\n",
            "aspect_ratio",
        ),
        ("model: imagen\nprompts: [\n", "animals.yaml:"),
        ("prompts: [a fox]\n", "model"),
        ("model: imagen\nprompts: [a fox]\noutput: same.png\n", ""),
        ("model: imagen\nprompts:\n  - file: nowhere.csv\n", "nowhere.csv"),
        ("model: imagen\nprompts: ['a {{colour}} fox']\n", "colour"),
        ("", "animals.yaml"),
    ],
)
def test_2_when_a_manifest_is_wrong_and_nothing_is_sent(
    desk: Desk, api: Service, text: str, words: str
) -> None:
    if "same.png" in text:
        text = text.replace("[a fox]", "[a fox, an owl]")
    desk.write("animals.yaml", text)
    good = desk.manifest("a lamp", name="things")
    ended = desk.run("run", good, "animals.yaml")
    assert ended.status == 2, ended.words
    assert words in ended.err
    assert "animals.yaml" in ended.err
    assert "Traceback" not in ended.words
    assert ended.out == ""
    assert list(api.sandbox.requests) == []


def test_2_without_a_key_and_nothing_is_sent(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(QUICK, key=None)
    ended = desk.run("run", desk.manifest("a red fox"))
    assert ended.status == 2
    assert "SEGMIND_API_KEY" in ended.err
    assert list(api.sandbox.requests) == []


def test_2_for_two_manifests_of_one_name(desk: Desk, api: Service) -> None:
    desk.manifest("a red fox")
    other = desk.manifest("a grey owl", name="other", output="{id}.{ext}")
    path = desk.folder / other
    path.write_text("name: animals\n" + path.read_text())
    ended = desk.run("run", "animals.yaml", other)
    assert ended.status == 2
    assert "animals" in ended.err
    assert "name" in ended.err
    assert api.count("submit") == 0


def test_3_when_a_limit_leaves_work(desk: Desk, api: Service) -> None:
    ended = desk.process("run", desk.manifest("a red fox", "a grey owl"), "--limit", "1")
    assert ended.status == 3, ended.words
    assert api.accepted == 1


@pytest.mark.parametrize("marker", ["406-credits", "406-limit"])
def test_3_when_the_account_has_no_money(desk: Desk, api: Service, marker: str) -> None:
    desk.configure(api.url, concurrency=1)
    manifest = desk.manifest(f"a red fox [[{marker}]]", "a grey owl")
    ended = desk.run("run", manifest, "--json")
    assert ended.status == 3, ended.words
    assert ended.json["states"] == {"pending": 2}
    assert api.accepted == 0


def test_3_when_media_never_come_whole(desk: Desk, api: Service) -> None:
    ended = desk.run("run", desk.manifest("a red fox [[media-truncated]]"), "--json")
    assert ended.status == 3
    assert ended.json["states"] == {"completed": 1}
    assert api.accepted == 1


def test_3_after_a_signal(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(Options(latency=Fixed(0.5), picture_px=64), concurrency=1)
    process = desk.start("run", desk.manifest("a red fox", "a grey owl"))
    wait_until(lambda: api.accepted)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.status == 3, ended.words
    assert "SIGTERM" in ended.out
    assert api.accepted == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_3_when_the_output_cannot_be_written(desk: Desk, api: Service) -> None:
    desk.output.mkdir(mode=0o500)
    assert desk.run("run", desk.manifest("a red fox")).status == 3


def test_3_when_the_output_folder_is_a_file(desk: Desk, api: Service) -> None:
    desk.write("output", "in the way")
    ended = desk.run("run", desk.manifest("a red fox"), "--json")
    assert ended.status == 3, ended.words
    assert ended.json["states"] == {"completed": 1}
    desk.output.unlink()
    assert desk.run("run", "animals.yaml").status == 0
    assert api.accepted == 1


def test_4_when_the_key_is_refused_and_nothing_more_is_sent(desk: Desk, api: Service) -> None:
    desk.configure(api.url, concurrency=1)
    manifest = desk.manifest("a red fox [[401]]", *[f"owl {n}" for n in range(5)])
    ended = desk.process("run", manifest)
    assert ended.status == 4, ended.words
    assert api.count("submit") == 1
    assert api.accepted == 0
    assert "refused the key" in ended.words
    # The key is right again: the jobs are all there.
    desk.manifest(*[f"owl {n}" for n in range(5)])
    assert desk.run("run", "animals.yaml").status == 0


def test_4_when_the_key_is_refused_while_polling(desk: Desk, serve: Callable[..., Service]) -> None:
    right = "SG_00000000000000aa"
    api = serve(Options(latency=Fixed(5), picture_px=64, key=right), key=right, drain="100ms")
    assert desk.run("run", desk.manifest("a red fox"), "--limit", "1").status == 3
    desk.configure(api.url)
    assert desk.run("run", "animals.yaml").status == 4
    assert [job["state"] for job in desk.jobs().values()] == ["submitted"]


def test_75_while_another_run_holds_the_ledger(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(Options(latency=Fixed(4.0), picture_px=64))
    first = desk.start("run", desk.manifest("a red fox"))
    wait_until(lambda: api.accepted)
    second = desk.process("run", "animals.yaml")
    assert second.status == 75, second.words
    assert f"process {first.pid}" in second.err
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", second.err)
    assert "Traceback" not in second.err
    assert desk.run("retry", "--state", "failed").status == 75
    # Looking is always allowed.
    assert desk.run("status").status == 0
    assert desk.run("plan", "animals.yaml").status == 0
    assert finish(first).status == 0
    assert api.accepted == 1
    assert desk.run("run", "animals.yaml").status == 0


def test_a_lock_file_left_by_a_dead_run_holds_nobody_up(desk: Desk, api: Service) -> None:
    desk.write("runner.db.lock", '{"pid": 1, "host": "elsewhere", "since": 0}')
    assert desk.run("run", desk.manifest("a red fox")).status == 0


@pytest.mark.parametrize(
    "content", [b"SQLite format 3\0" + b"\0" * 4096, b"no database at all " * 99]
)
def test_2_when_the_ledger_is_none(desk: Desk, api: Service, content: bytes) -> None:
    ledger: Path = desk.folder / "runner.db"
    ledger.write_bytes(content)
    ended = desk.process("run", desk.manifest("a red fox"))
    assert ended.status == 2, ended.words
    assert "runner.db" in ended.err
    assert "Traceback" not in ended.err
    assert ledger.read_bytes() == content
    assert api.count("submit") == 0
