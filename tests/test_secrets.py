"""The key goes to the API and nowhere else: not into what a run says, nor into what it leaves."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from desk import KEY, Desk, Process, Service, finish, wait_until

from runner.sandbox import Fixed, Options

TELLTALES = ["key-echo", "fail-key-echo", "foreign-url", "block", "lost", "media-html", "evil-name"]
MARKED = [{"prompt": f"a fox [[{name}]]", "id": name} for name in TELLTALES]


def leaks(folder: Path, key: str = KEY) -> list[str]:
    """The files below `folder` that hold the key or its telling part."""
    secrets = (key.encode(), key.removeprefix("SG_").encode())
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            content = path.read_bytes()
            found += [str(path) for secret in secrets if secret in content]
    return found


@pytest.mark.parametrize("option", ["-v", "-q", "--json"])
def test_nothing_that_a_run_says_or_leaves_holds_the_key(
    desk: Desk, api: Service, option: str
) -> None:
    desk.configure(api.url, key=None, on_doubt="hold")
    desk.environ["SEGMIND_API_KEY"] = KEY
    ended = desk.process("run", option, desk.manifest(*MARKED, "a red fox"))
    assert ended.status == 3, ended.words  # media-html
    assert api.accepted == len(MARKED)  # key-echo is refused, the red fox is accepted
    told = [desk.run(*line) for line in (["jobs"], ["jobs", "--json"], ["status", "--json"])]
    told += [desk.run("jobs", "--job", name) for name in TELLTALES]
    told.append(desk.run("plan", "animals.yaml"))
    for each in (ended, *told):
        assert KEY not in each.words
        assert KEY.removeprefix("SG_") not in each.words
    assert leaks(desk.folder) == []
    assert "redacted" in desk.run("jobs", "--job", "key-echo").out


def test_a_killed_run_leaves_no_key_in_ledger_or_wal(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    serve(Options(latency=Fixed(5), picture_px=64), key=None)
    desk.environ["SEGMIND_API_KEY"] = KEY
    process = desk.start("run", desk.manifest(*MARKED))
    wait_until(lambda: (desk.folder / "runner.db-wal").exists())
    wait_until(lambda: desk.jobs("--state", "submitted"))
    process.send_signal(signal.SIGKILL)
    ended = finish(process)
    assert (desk.folder / "runner.db-wal").stat().st_size > 0
    assert leaks(desk.folder) == []
    assert KEY not in ended.words


def test_the_key_goes_neither_to_media_nor_where_an_answer_points(desk: Desk, api: Service) -> None:
    ended = desk.run("run", desk.manifest(*MARKED))
    assert ended.status in (1, 3)
    assert api.sandbox.key_leaks == []
    assert desk.jobs()["foreign-url"]["state"] == "saved"
    assert all(r.has_key for r in api.sandbox.requests if r.route in ("status", "result"))


def test_logging_of_the_libraries_holds_no_key(
    desk: Desk, api: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desk.run("run", desk.manifest("a red fox", "an owl [[key-echo]]"))
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "config",
    [
        f"api: {{key: '{KEY} and more'}}",
        f"api: {{key: [{KEY}]}}",
        f"api: {{keey: {KEY}}}",
        f"api: {KEY}",
        f"api: {{key: {KEY}, base_url: 'https://{KEY}@example.com'}}",
        f"{{api: {{key: {KEY}\n",
    ],
)
def test_a_faulty_config_is_told_of_without_the_key(desk: Desk, config: str) -> None:
    desk.write("config.yaml", config)
    ended = desk.run("run", desk.manifest("a red fox"))
    assert ended.status == 2
    assert "config.yaml" in ended.err
    assert KEY not in ended.words


def test_a_faulty_key_of_the_environment_is_not_shown(desk: Desk) -> None:
    desk.environ["SEGMIND_API_KEY"] = f"{KEY} oops"
    ended = desk.run("run", desk.manifest("a red fox"))
    assert ended.status == 2
    assert KEY not in ended.words


def test_plain_http_to_a_far_host_is_refused_before_the_key_travels(desk: Desk) -> None:
    desk.configure("http://example.com")
    ended = desk.run("run", desk.manifest("a red fox"))
    assert ended.status == 2
    assert "https" in ended.err


def test_a_crash_shows_no_key(desk: Desk, spawn: Callable[..., Process]) -> None:
    api = spawn("--latency", "fixed:20ms")
    desk.configure(api.url)
    crash = {"RUNNER_CRASH_AT": "submit-answered"}
    ended = desk.process("run", "-v", desk.manifest("a red fox"), environ=crash)
    assert ended.status == -signal.SIGKILL
    assert KEY not in ended.words
    assert leaks(desk.folder) == []


def test_the_sandbox_option_sends_the_real_key_nowhere(desk: Desk) -> None:
    desk.environ["SEGMIND_API_KEY"] = KEY
    desk.write("config.yaml", "output: output")
    ended = desk.run("run", "--sandbox", desk.manifest("a red fox"))
    assert ended.status == 0, ended.words
    assert leaks(desk.folder) == []
