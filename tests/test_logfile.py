"""`--log-file`: what happened in a run, line by line, in files that stay small."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from desk import KEY, QUICK, Desk, Service, finish, wait_until

from runner.cli.logfile import LogFile
from runner.events import Event, Noted
from runner.sandbox import Fixed, Options


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def log_of(desk: Desk) -> list[dict[str, Any]]:
    return lines(desk.folder / "logs" / "run.jsonl")


LOGGED = ("--log-file", "logs/run.jsonl")


def test_every_event_is_a_line_with_its_time(desk: Desk, api: Service) -> None:
    manifest = desk.manifest({"prompt": "a fox", "id": "fox"}, {"prompt": "[[block]]", "id": "owl"})
    ended = desk.run("run", manifest, "-q", *LOGGED)
    assert ended.status == 1
    assert ended.err == ""
    told = log_of(desk)
    assert [told[0]["event"], told[-1]["event"]] == ["started", "ended"]
    assert told[0]["manifests"] == ["animals"]
    assert told[-1]["exit"] == 1
    assert told[-1]["states"] == {"saved": 1, "blocked": 1}
    moves = [(e["before"], e["after"]) for e in told if e.get("job_id") == "fox"]
    assert moves == [
        ("pending", "submitting"),
        ("submitting", "submitted"),
        ("submitted", "completed"),
        ("completed", "saved"),
    ]
    answered = [(e["call"], e["status"]) for e in told if e["event"] == "answered"]
    assert answered.count(("submit", 200)) == 2
    times = [datetime.fromisoformat(e["time"]) for e in told]
    assert times == sorted(times)
    assert all(e["time"].endswith("Z") for e in told)


def test_every_kind_of_event_is_explained() -> None:
    page = (Path(__file__).parent.parent / "docs" / "unattended.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \| [`e]", page, re.MULTILINE))
    kinds = {kind.__name__.lower() for kind in get_args(Event)}
    assert kinds | {"started", "ended"} <= explained


def test_the_next_run_goes_on_in_the_same_file(desk: Desk, api: Service) -> None:
    manifest = desk.manifest("a fox")
    assert desk.run("run", manifest, *LOGGED).status == 0
    before = log_of(desk)
    assert desk.run("run", manifest, *LOGGED).status == 0
    assert log_of(desk)[: len(before)] == before
    assert [e["event"] for e in log_of(desk)[len(before) :]] == ["started", "ended"]


def test_neither_the_key_nor_a_prompt_is_in_it(desk: Desk, api: Service) -> None:
    manifest = desk.manifest("a fox nobody may know of", "an owl [[key-echo]]")
    desk.run("run", manifest, "-v", *LOGGED)
    text = (desk.folder / "logs" / "run.jsonl").read_text("utf-8")
    assert KEY not in text
    assert KEY.removeprefix("SG_") not in text
    assert "nobody may know of" not in text


def test_a_run_that_is_stopped_says_so(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(Options(latency=Fixed(0.5), picture_px=64), concurrency=1)
    process = desk.start("run", desk.manifest("a fox", "an owl"), *LOGGED)
    wait_until(lambda: api.accepted)
    process.send_signal(signal.SIGTERM)
    assert finish(process).status == 3
    told = log_of(desk)
    assert [e["reason"] for e in told if e["event"] == "draining"] == ["SIGTERM"]
    assert told[-1]["stopped"] == "SIGTERM"
    assert told[-1]["exit"] == 3


def test_an_error_that_ends_the_run_is_in_it(desk: Desk, serve: Callable[..., Service]) -> None:
    serve(QUICK, key=None)
    assert desk.run("run", desk.manifest("a fox"), *LOGGED).status == 2
    assert log_of(desk)[-1]["exit"] == 2
    assert "SEGMIND_API_KEY" in log_of(desk)[-1]["error"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file/run.jsonl", "cannot be written"),
        (".", "is no file"),
        ("animals.yaml", "is no log file"),
    ],
)
def test_a_log_that_cannot_be_written_is_told_before_anything_is_sent(
    desk: Desk, api: Service, path: str, words: str
) -> None:
    desk.write("file", "in the way")
    manifest = desk.manifest("a fox")
    before = (desk.folder / manifest).read_bytes()
    ended = desk.run("run", manifest, "--log-file", path)
    assert ended.status == 2
    assert words in ended.err
    assert (desk.folder / manifest).read_bytes() == before
    assert list(api.sandbox.requests) == []


def test_a_disk_that_fills_up_is_one_warning_and_the_run_goes_on(
    desk: Desk, api: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lines_left = os.write, [3]

    def full(descriptor: int, content: bytes) -> int:
        if b'{"time": ' in bytes(content):
            lines_left[0] -= 1
            if lines_left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content)

    monkeypatch.setattr("runner.cli.logfile.os.write", full)
    ended = desk.run("run", desk.manifest("a fox", "an owl"), "-q", *LOGGED)
    assert ended.status == 0, ended.words
    assert ended.err.count("No space left on device") == 1
    assert len(log_of(desk)) == 3


def test_a_full_file_makes_room_for_a_new_one_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    log = LogFile(path, most_bytes=1000, older=2, clock=lambda: 0.0)
    for number in range(60):
        log.write("noted", {"number": number})
    log.close()
    files = [path.with_name("run.jsonl.2"), path.with_name("run.jsonl.1"), path]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 1000 for file in files)
    numbers = [line["number"] for file in files for line in lines(file)]
    assert numbers == list(range(numbers[0], 60))


class Shown:
    """A watcher that keeps what it sees."""

    def __init__(self, told: list[Event]) -> None:
        self._told = told

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None: ...

    def see(self, event: Event) -> None:
        self._told.append(event)


def test_after_a_torn_line_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Event] = []
    log = LogFile(tmp_path / "run.jsonl")
    tell = log.beside(Shown(told)).see
    real, rooms = os.write, [10, 0]

    def full(descriptor: int, content: bytes) -> int:
        room = rooms.pop(0) if rooms else len(content)
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content[:room])

    monkeypatch.setattr("runner.cli.logfile.os.write", full)
    tell(Noted("the first"))
    tell(Noted("the second"))
    log.close()
    torn, whole = (tmp_path / "run.jsonl").read_text("utf-8").splitlines()
    assert len(torn) == 10
    assert json.loads(whole)["text"] == "the second"
    assert [event.text for event in told if isinstance(event, Noted)][1].endswith("goes on without")
