"""People are told how a run fares, by a real receiver; what fails there changes nothing about the run."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import anyio
import pytest
import yaml
from aiohttp import web
from desk import KEY, QUICK, Desk, Service

from runner.assembly.alerts import BETWEEN_PAUSES_S, SILENCE_S, Alerts
from runner.assembly.place import Place
from runner.assembly.session import workplace
from runner.errors import UsageError
from runner.events import Answered, Call, Event, Held, Noted
from runner.notify import Notice, Notifier
from runner.sandbox import Fixed, Options

SECRET = "s3cr3t-t0k3n"


class Receiver:
    """A webhook on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.hangs = False
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="webhook")

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/{SECRET}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        async def take(request: web.Request) -> web.Response:
            assert request.path == f"/{SECRET}"
            self.got.append(await request.json())
            if self.hangs:
                await asyncio.sleep(3)
            return web.Response(status=self.status)

        app = web.Application()
        app.router.add_post("/{any:.*}", take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def ask(desk: Desk, notify: Any) -> None:
    """Adds `notify` to the desk's config."""
    path = desk.folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "notify": notify}))


def test_the_end_of_a_run_is_told(desk: Desk, api: Service, receiver: Receiver) -> None:
    ask(desk, [receiver.url])
    ended = desk.run("run", desk.manifest("a red fox", "a grey owl"), "--json")
    assert ended.status == 0, ended.words
    (told,) = receiver.got
    assert told["title"] == "runner: animals: all 2 jobs saved"
    assert "2 saved in" in told["message"]
    assert "$0.08 this run" in told["message"]
    assert told["type"] == "success"


def test_neither_the_key_nor_a_prompt_is_told(desk: Desk, api: Service, receiver: Receiver) -> None:
    ask(desk, [receiver.url])
    manifest = desk.manifest("nobody may know [[block]]", "an owl [[key-echo]]", "a fox")
    assert desk.run("run", manifest).status == 1
    text = json.dumps(receiver.got)
    assert "1 blocked" in text
    assert "nobody may know" not in text
    assert KEY not in text
    assert KEY.removeprefix("SG_") not in text


def test_prompts_and_reasons_are_told_when_asked_for(
    desk: Desk, api: Service, receiver: Receiver
) -> None:
    ask(desk, {"urls": [receiver.url], "prompts": True})
    assert desk.run("run", desk.manifest("a bear [[block]]", "an owl [[key-echo]]")).status == 1
    (told,) = receiver.got
    assert "blocked: a bear [[block]] (" in told["message"]
    assert KEY not in json.dumps(told)


def test_a_run_that_stops_early_is_told_as_such(
    desk: Desk, api: Service, receiver: Receiver
) -> None:
    ask(desk, {"urls": [receiver.url], "on": ["stop"]})
    assert desk.run("run", desk.manifest("a red fox", "a grey owl"), "--limit", "1").status == 3
    (told,) = receiver.got
    assert told["title"] == "runner: animals: stopped early, 1 of 2 jobs saved"
    assert "the limit of 1 new submissions is reached" in told["message"]
    # It ends well the next time, which is not among the occasions.
    assert desk.run("run", "animals.yaml").status == 0
    assert len(receiver.got) == 1


def test_a_run_that_waits_for_credits_is_told_while_it_waits(
    desk: Desk, serve: Callable[..., Service], receiver: Receiver
) -> None:
    serve(QUICK)
    ask(desk, [receiver.url])
    manifest = desk.manifest("a fox [[406-credits]]")
    ended = desk.run("run", manifest, "--wait-for-credits", "--max-time", "6s")
    assert ended.status == 3, ended.words
    assert [told["title"].rpartition(": ")[2] for told in receiver.got] == [
        "pauses",
        "stopped early, 0 of 1 jobs saved",
    ]
    assert "the balance is empty" in receiver.got[0]["message"]


@pytest.mark.parametrize("on", [None, ["idle", "end"]])
def test_a_run_with_nothing_to_do_is_told_only_when_asked_for(
    desk: Desk, api: Service, receiver: Receiver, on: list[str] | None
) -> None:
    assert desk.run("run", desk.manifest("a fox")).status == 0
    ask(desk, {"urls": [receiver.url], "on": on} if on else [receiver.url])
    assert desk.run("run", "animals.yaml").status == 0
    assert [told["title"] for told in receiver.got] == (
        ["runner: animals: nothing to do, all 1 jobs are saved"] if on else []
    )


def test_a_notification_that_fails_is_one_warning_and_changes_no_exit_status(
    desk: Desk, api: Service, receiver: Receiver
) -> None:
    receiver.status = 404
    ask(desk, [receiver.url])
    ended = desk.run("run", desk.manifest("a fox"), "-v", "--log-file", "run.jsonl")
    assert ended.status == 0
    warnings = [line.split(" ", 1)[1] for line in ended.err.splitlines() if "warning" in line]
    assert warnings == [
        "warning: a notification was not sent: address 1 (json): refused with HTTP 404"
    ]
    for path in desk.folder.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in ended.words


def test_a_service_that_hangs_keeps_nobody(receiver: Receiver) -> None:
    receiver.hangs = True
    dead = "json://127.0.0.1:9/gone"
    faults = Notifier([receiver.url, dead]).send(Notice("a", "b"), patience_s=0.5)
    assert faults == [
        "address 1 (json) did not answer in time",
        "address 2 (json): not reached, or it refused",
    ]


@pytest.mark.parametrize(
    "url", [f"nothing://{SECRET}", f"slack://{SECRET}", SECRET, f"mailto://{SECRET}"]
)
def test_an_address_that_cannot_be_used_is_told_before_anything_is_sent(
    desk: Desk, api: Service, url: str
) -> None:
    ask(desk, ["json://127.0.0.1:9", url])
    ended = desk.run("run", desk.manifest("a fox"))
    assert ended.status == 2, ended.words
    assert "notify: address 2" in ended.err
    assert SECRET not in ended.words
    assert list(api.sandbox.requests) == []


@pytest.mark.parametrize(
    "notify",
    [
        f"{{'json://{SECRET}': }}",
        f"[{{urls: 'json://{SECRET}'}}]",
        f"{{urls: ['json://{SECRET}'], on: [never]}}",
        f"{{url: 'json://{SECRET}'}}",
        f"{{urls: ['json://{SECRET}/${{NO_SUCH_VARIABLE}}']}}",
    ],
)
def test_a_faulty_config_is_told_without_the_address(desk: Desk, notify: str) -> None:
    desk.write("config.yaml", f"notify: {notify}\n")
    ended = desk.run("run", desk.manifest("a fox"))
    assert ended.status == 2
    assert "config.yaml:1: " in ended.err
    assert SECRET not in ended.words


def test_without_apprise_the_way_to_it_is_told_before_anything_is_sent(
    desk: Desk, api: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "apprise" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    ask(desk, ["json://127.0.0.1:9"])
    ended = desk.run("run", desk.manifest("a fox"))
    assert ended.status == 2
    assert "pip install 'segmind-runner[notify]'" in ended.err
    assert list(api.sandbox.requests) == []


# The occasions of a pause, with a double in place of the services


class Double(Notifier):
    def __init__(self) -> None:
        self.sent: list[Notice] = []

    def send(self, notice: Notice, patience_s: float = 0.0) -> list[str]:
        self.sent.append(notice)
        return ["address 1 (json): refused with HTTP 500"]


class Engine:
    def drain(self, reason: str) -> None: ...

    def stop(self, reason: str) -> None: ...

    def is_draining(self) -> bool:
        return False


async def seen(tmp_path: Path, *events: tuple[float, Event]) -> tuple[list[Notice], list[Event]]:
    """What is sent, and warned of, when events come at their times."""
    now = [0.0]
    double, warned = Double(), list[Event]()
    config = tmp_path / "config.yaml"
    config.write_text("notify: ['json://x']\n")
    at = workplace(Place(config=config))
    alerts = Alerts(double, at, ["animals"], warned.append, lambda: now[0])
    async with anyio.create_task_group() as group:
        group.start_soon(alerts.accompany, Engine())
        for time, event in events:
            now[0] = time
            alerts.see(event)
            await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    return double.sent, warned


def held(reason: str) -> Held:
    return Held(0.0, reason)


EMPTY = Noted("the balance is empty: waiting for credits", warning=True, pause=True)


async def test_an_api_that_is_not_reached_for_long_is_a_pause(tmp_path: Path) -> None:
    sent, warned = await seen(
        tmp_path,
        (1.0, Answered(Call.STATUS, 200, 0.1)),
        (SILENCE_S, held("cannot connect: no route")),
        (SILENCE_S + 2, held("cannot connect: no route")),
        (SILENCE_S + 60, held("cannot connect: no route")),
    )
    assert [notice.title for notice in sent] == ["runner: animals: pauses"]
    assert "cannot connect: no route" in sent[0].body
    assert warned == [
        Noted("a notification was not sent: address 1 (json): refused with HTTP 500", warning=True)
    ]


async def test_a_rate_limit_is_no_pause(tmp_path: Path) -> None:
    events = [
        (SILENCE_S * n, event)
        for n in range(4)
        for event in (Answered(Call.STATUS, 429, 0.1), held("rate limit"))
    ]
    assert (await seen(tmp_path, *events))[0] == []


async def test_pauses_are_told_no_more_than_now_and_then(tmp_path: Path) -> None:
    sent, _ = await seen(
        tmp_path, (0.0, EMPTY), (60.0, EMPTY), (BETWEEN_PAUSES_S, EMPTY), (BETWEEN_PAUSES_S, EMPTY)
    )
    assert len(sent) == 2


def test_an_error_that_ends_a_run_is_told(
    desk: Desk, serve: Callable[..., Service], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise UsageError("the ledger runner.db is damaged")

    serve(Options(latency=Fixed(0.05), picture_px=64))
    ask(desk, [receiver.url])
    monkeypatch.setattr("runner.assembly.working.Treasurer", broken)
    ended = desk.run("run", desk.manifest("a fox"))
    assert ended.status == 2
    (told,) = receiver.got
    assert told["title"] == "runner: animals: ended by an error"
    assert "the ledger runner.db is damaged" in told["message"]
