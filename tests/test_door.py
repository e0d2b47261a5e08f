"""The door for programs: what the command does, for code that iterates, awaits, breaks off and asks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import KEY, QUICK, Desk, Service, bare, finish, wait_until

import runner
from runner.errors import (
    InputError,
    KeyRefused,
    LedgerBusy,
    MissingKeyError,
    StoppedEarly,
    UsageError,
)
from runner.events import Moved
from runner.ledger import LedgerLock
from runner.sandbox import Fixed, Options

FOXES = [f"fox {n}" for n in range(6)]


@pytest.fixture(autouse=True)
def in_the_desks_folder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    for name in ("SEGMIND_API_KEY", "RUNNER_LEDGER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= before | sandbox_threads())


def sandbox_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "sandbox"}


async def until(what: Callable[[], bool]) -> None:
    """Returns as soon as `what` is true, and lets the loop work meanwhile."""
    await asyncio.to_thread(wait_until, what)


def lock_is_free(desk: Desk) -> bool:
    with LedgerLock(desk.folder / "runner.db") as lock:
        try:
            lock.acquire(time.time())
        except LedgerBusy:
            return False
    return True


def given(*prompts: Any, **more: Any) -> dict[str, Any]:
    keys = {"name": "animals", "model": "imagen", "output": "{id}.{ext}"}
    return {**keys, **more, "prompts": list(prompts)}


# What comes of a run


async def test_each_job_comes_as_it_is_saved_with_its_files_on_disk(desk: Desk, api: Service):
    going = runner.run(desk.manifest(*FOXES))

    jobs = [job async for job in going]

    assert sorted(job.prompt or "" for job in jobs) == FOXES
    for job in jobs:
        assert job.saved
        assert job.cost == pytest.approx(0.04)
        assert job.files[0].path.is_absolute()
        assert job.files[0].path.stat().st_size == job.files[0].size_bytes
    assert going.summary is not None
    assert going.summary.exit_code == 0
    assert lock_is_free(desk)


async def test_the_first_comes_while_the_last_is_not_done(
    desk: Desk, serve: Callable[..., Service]
):
    api = serve(Options(latency=Fixed(0.2), picture_px=64), concurrency=1)

    async for _ in runner.run(desk.manifest(*FOXES)):
        assert api.accepted < len(FOXES)
        break


async def test_jobs_that_end_short_of_saved_come_too_each_once(desk: Desk, api: Service):
    prompts = ["a fox", "an owl [[fail]]", "a swan [[block]]", "a bear [[400]]"]

    jobs = [job async for job in runner.run(desk.manifest(*prompts))]

    states = {job.prompt: job.state for job in jobs}
    assert len(jobs) == 4
    assert states == {
        "a fox": runner.State.SAVED,
        "an owl [[fail]]": runner.State.FAILED,
        "a swan [[block]]": runner.State.BLOCKED,
        "a bear [[400]]": runner.State.INVALID,
    }
    assert all(job.error for job in jobs if not job.saved)


async def test_jobs_whose_fate_stays_open_come_at_the_end(
    desk: Desk, serve: Callable[..., Service]
):
    serve(QUICK, on_doubt="hold")

    jobs = [job async for job in runner.run(desk.manifest("a swan [[lost]]", "a fox"))]

    assert [job.state for job in jobs] == [runner.State.SAVED, runner.State.IN_DOUBT]


async def test_jobs_of_a_model_that_is_stopped_come_all_and_each_once(desk: Desk, api: Service):
    prompts = [f"a fox {n} [[403]]" for n in range(30)]

    jobs = [job async for job in runner.run(desk.manifest(*prompts), concurrency=2)]

    assert sorted(job.prompt or "" for job in jobs) == sorted(prompts)
    assert {job.state for job in jobs} == {runner.State.FAILED}
    # Those of an earlier run are no news.
    assert [job async for job in runner.run("animals.yaml")] == []


async def test_a_run_that_is_awaited_gives_its_summary(desk: Desk, api: Service):
    summary = await runner.run(desk.manifest(*FOXES))

    assert summary.saved_run == 6
    assert summary.spent_run == pytest.approx(0.24)
    again = await runner.run("animals.yaml")
    assert (again.saved_run, again.exit_code) == (0, 0)
    assert api.accepted == 6


def test_scripts_have_blocking_forms_of_both(desk: Desk, api: Service):
    desk.manifest(*FOXES)

    first = runner.run_sync("animals.yaml", limit=2)
    jobs = list(runner.run("animals.yaml"))

    assert first.exit_code == 3
    assert first.stopped == "the limit of 2 new submissions is reached"
    assert len(jobs) == 4
    assert api.accepted == 6


async def test_the_blocking_forms_work_where_a_loop_runs_already(desk: Desk, api: Service):
    desk.manifest(*FOXES)

    assert runner.run_sync("animals.yaml", limit=3).saved_run == 3
    assert len(list(runner.run("animals.yaml"))) == 3
    assert runner.plan_sync("animals.yaml").jobs("skip") == 6


async def test_two_manifests_and_two_runs_do_not_mix(desk: Desk, api: Service):
    desk.manifest("a fox", name="one")
    desk.manifest("an owl", name="two")

    jobs = [job async for job in runner.run("one.yaml", "two.yaml")]

    assert {job.manifest for job in jobs} == {"one", "two"}


# Manifests without a file


async def test_a_mapping_is_a_manifest_and_its_jobs_are_those_of_the_file(desk: Desk, api: Service):
    mapping = given("a fox", {"prompt": "an owl", "tags": ("night",), "repeat": 2})
    jobs = [job async for job in runner.run(mapping)]

    assert sorted(job.source for job in jobs) == ["prompts:1", "prompts:2", "prompts:2"]
    desk.manifest("a fox", {"prompt": "an owl", "tags": ["night"], "repeat": 2})
    assert [job async for job in runner.run("animals.yaml")] == []
    assert api.accepted == 3


async def test_a_changed_mapping_renders_what_is_new(desk: Desk, api: Service):
    await runner.run(given("a fox"))
    jobs = [job async for job in runner.run(given("a fox", "an owl"))]

    assert [job.prompt for job in jobs] == ["an owl"]


async def test_the_files_of_a_mapping_are_those_of_the_working_directory(desk: Desk, api: Service):
    desk.write("more.csv", "prompt,seed\na pond,7\n")

    jobs = [job async for job in runner.run(given({"file": "more.csv"}))]

    assert [(job.prompt, job.source) for job in jobs] == [("a pond", "more.csv:2")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": None}, "name"),
        ({"prompts": ["a fox", {"promt": "an owl"}]}, "prompts:2: unknown key `promt`"),
        ({"params": {"aspect_ratio": "7:1"}}, "aspect_ratio"),
        ({"params": {"image": Path("fox.png")}}, "cannot be sent"),
        ({"prompts": []}, "empty"),
        ({"prompts": [float("nan")]}, "cannot be sent"),
        ({"model": None}, "model"),
    ],
)
async def test_what_is_wrong_with_a_mapping_is_said_as_of_a_file(
    desk: Desk, api: Service, changes: dict[str, Any], words: str
):
    mapping = {k: v for k, v in {**given("a fox"), **changes}.items() if v is not None}
    with pytest.raises(InputError, match="prompts") as caught:
        await runner.run(mapping)
    assert words in str(caught.value)
    assert api.accepted == 0


async def test_two_mappings_of_one_name_are_refused(desk: Desk, api: Service):
    with pytest.raises(InputError, match="name `animals`"):
        await runner.run(given("a fox"), given("an owl"))


# Errors


async def test_errors_are_those_of_the_command(desk: Desk, api: Service):
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        await runner.run("nowhere.yaml")
    with pytest.raises(InputError, match="rpm"):
        await runner.run(desk.manifest("a fox"), rpm=0)
    with pytest.raises(InputError, match="budgt"):
        await runner.run("animals.yaml", settings={"run.budgt": 5})
    desk.configure(api.url, key=None)
    with pytest.raises(MissingKeyError):
        await runner.run("animals.yaml")
    assert api.accepted == 0
    assert lock_is_free(desk)


def test_an_option_that_there_is_not_is_a_type_error(desk: Desk):
    with pytest.raises(TypeError, match="'budgt', did you mean `budget`"):
        runner.run("animals.yaml", budgt=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="needs a manifest"):
        runner.run()
    with pytest.raises(AttributeError, match="rn"):
        _ = runner.rn  # type: ignore[attr-defined]


async def test_a_refused_key_is_an_error_and_the_summary_is_there(
    desk: Desk, serve: Callable[..., Service]
):
    serve(Options(latency=Fixed(0.02), picture_px=64, key="SG_ffffffffffffffff"))
    going = runner.run(desk.manifest("a fox"))

    with pytest.raises(KeyRefused, match="refused the key"):
        await going

    assert going.summary is not None
    assert going.summary.exit_code == 4


async def test_one_run_at_a_time_on_a_ledger_whoever_starts_it(
    desk: Desk, serve: Callable[..., Service]
):
    api = serve(Options(latency=Fixed(60), picture_px=64))
    async with runner.run(desk.manifest("a fox")):
        await until(lambda: api.accepted == 1)
        with pytest.raises(LedgerBusy):
            await runner.run("animals.yaml")
        told = await asyncio.to_thread(desk.process, "run", "animals.yaml")
        assert told.status == 75


async def test_a_key_may_be_given_and_is_shown_nowhere(desk: Desk, api: Service):
    desk.configure(api.url, key=None)
    going = runner.run(desk.manifest("a fox"), key=KEY)

    jobs = [job async for job in going]

    assert len(jobs) == 1
    shown = repr(going) + repr(jobs) + repr(going.summary) + repr(vars(going))
    assert KEY not in shown
    for path in desk.folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


# Leaving early


async def slow(serve: Callable[..., Service], desk: Desk, **options: Any) -> tuple[Service, str]:
    api = serve(Options(latency=Fixed(0.4), picture_px=64), concurrency=3, **options)
    return api, desk.manifest(*[f"fox {n}" for n in range(40)])


async def states() -> list[str]:
    async with runner.open_ledger() as ledger:
        return [job.state.value async for job in ledger.jobs()]


async def settled(desk: Desk, api: Service) -> None:
    """The rest is rendered by another run, and nothing was or is paid for twice."""
    summary = await runner.run("animals.yaml", settings={"run.doubt_wait": "500ms"}, concurrency=64)
    assert summary.exit_code == 0
    assert api.accepted == 40
    assert api.sandbox.stats()["max_per_body"] == 1


async def test_breaking_off_sends_nothing_more_and_brings_nothing_into_doubt(
    desk: Desk, serve: Callable[..., Service]
):
    api, manifest = await slow(serve, desk)
    async with runner.run(manifest) as going:
        async for _ in going:
            break
    assert lock_is_free(desk)
    accepted = api.accepted
    assert 3 <= accepted < 12
    assert set(await states()) <= {"pending", "submitted", "saved", "completed"}
    await settled(desk, api)


async def test_breaking_off_without_a_block_ends_the_run_just_the_same(
    desk: Desk, serve: Callable[..., Service]
):
    api, manifest = await slow(serve, desk)
    async for _ in runner.run(manifest):
        break
    await until(lambda: lock_is_free(desk))
    await settled(desk, api)


async def test_draining_inside_of_the_loop_collects_what_is_in_flight(
    desk: Desk, serve: Callable[..., Service]
):
    api, manifest = await slow(serve, desk)
    going = runner.run(manifest)
    jobs = []
    async for job in going:
        jobs.append(job)
        going.drain()
    assert len(jobs) == api.accepted < 12
    assert set(await states()) == {"pending", "saved"}
    assert going.summary is not None
    assert going.summary.exit_code == 3


async def test_leaving_after_a_drain_does_not_wait_for_it(
    desk: Desk, serve: Callable[..., Service]
):
    api = serve(Options(latency=Fixed(60), picture_px=64))
    async with asyncio.timeout(20), runner.run(desk.manifest("a fox")) as going:
        await until(lambda: api.accepted == 1)
        going.drain()
        await asyncio.sleep(0.05)
    assert await states() == ["submitted"]


async def test_cancelling_whoever_waits_stops_the_run_at_once(
    desk: Desk, serve: Callable[..., Service]
):
    api, manifest = await slow(serve, desk)

    async def consume() -> None:
        async for _ in runner.run(manifest):
            pass

    for doing in (consume(), runner.run(manifest)._to_end()):
        task = asyncio.ensure_future(doing)
        wanted = api.accepted + 3
        await until(lambda wanted=wanted: api.accepted >= wanted)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lock_is_free(desk)
    await settled(desk, api)


async def test_an_error_inside_of_the_block_leaves_nothing_behind(
    desk: Desk, serve: Callable[..., Service]
):
    api, manifest = await slow(serve, desk)

    async def fall_over() -> None:
        async with runner.run(manifest) as going:
            async for _ in going:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fall_over()
    assert lock_is_free(desk)
    await settled(desk, api)


def test_breaking_off_a_blocking_loop_leaves_nothing_behind(
    desk: Desk, serve: Callable[..., Service]
):
    api = serve(Options(latency=Fixed(0.4), picture_px=64), concurrency=3)
    manifest = desk.manifest(*[f"fox {n}" for n in range(40)])
    for _ in runner.run(manifest):
        break
    assert lock_is_free(desk)
    asyncio.run(settled(desk, api))


async def test_stopping_before_anything_is_sent_says_so(desk: Desk, api: Service):
    going = runner.run(desk.manifest("a fox"))
    going.stop()
    with pytest.raises(StoppedEarly, match="before anything was sent"):
        await going
    assert api.accepted == 0


# Who starts the tests in the background may have them ignore the signal, and a child inherits that.
SCRIPT = """
import runner, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    for job in runner.run("animals.yaml"):
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
ASYNC_SCRIPT = """
import asyncio, runner, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
async def main():
    async for job in runner.run("animals.yaml"):
        pass
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    "script",
    [SCRIPT, ASYNC_SCRIPT, SCRIPT.replace("for job in", "if").replace("run(", "run_sync(")],
)
def test_ctrl_c_in_a_script_ends_it_and_the_next_run_goes_on(
    desk: Desk, serve: Callable[..., Service], script: str
):
    api = serve(Options(latency=Fixed(0.4), picture_px=64), concurrency=3)
    desk.manifest(*[f"fox {n}" for n in range(40)])
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        cwd=desk.folder,
        env=bare(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: api.accepted >= 5)
    process.send_signal(signal.SIGINT)
    ended = finish(process, 10)
    assert (ended.out, ended.err, ended.status) == ("interrupted\n", "", 0)
    assert lock_is_free(desk)
    asyncio.run(settled(desk, api))


# Following it


async def test_every_event_is_told_and_progress_can_be_asked_for(desk: Desk, api: Service):
    events: list[Any] = []
    going = runner.run(desk.manifest(*FOXES), on_event=events.append)
    assert going.progress is None
    async for _ in going:
        assert going.progress is not None
    assert sum(isinstance(event, Moved) and event.after == "saved" for event in events) == 6
    assert going.progress is not None
    assert going.progress.saved_run == 6


async def test_an_error_of_the_callers_own_ends_the_run_and_comes_back(desk: Desk, api: Service):
    def fall_over(event: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await runner.run(desk.manifest(*FOXES), on_event=fall_over)
    assert lock_is_free(desk)


def test_nothing_is_printed_and_no_signal_handler_is_taken(
    desk: Desk, api: Service, capfd: pytest.CaptureFixture[str]
):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    seen = {
        (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
        for _ in runner.run(desk.manifest(*FOXES))
    }
    assert seen == {before}
    assert capfd.readouterr() == ("", "")


def test_a_run_that_is_never_begun_says_so(desk: Desk):
    with pytest.warns(RuntimeWarning, match="neither iterated nor awaited"):
        runner.run("animals.yaml")


async def test_a_run_in_the_sandbox_needs_no_key(desk: Desk):
    summary = await runner.run(given("a fox"), sandbox=True)
    assert summary.simulated
    with runner.open_ledger(sandbox=True) as ledger:
        assert [job.saved for job in ledger.jobs()] == [True]


# Looking at a ledger


@pytest.fixture
def mixed(desk: Desk, serve: Callable[..., Service]) -> Service:
    service = serve(QUICK, on_doubt="hold")
    jobs = [
        {"prompt": "a red fox", "id": "fox", "tags": ["wild"]},
        {"prompt": "a bear [[fail]]", "id": "bear"},
        {"prompt": "a swan [[lost]]", "id": "swan"},
    ]
    assert desk.run("run", desk.manifest(*jobs)).status == 1
    return service


async def test_a_ledger_tells_what_the_commands_tell(desk: Desk, mixed: Service):
    async with runner.open_ledger("runner.db") as ledger:
        counts = (await ledger.counts())["animals"]
        failed = [job async for job in ledger.jobs(states=["failed"], manifests=["animals.yaml"])]
        (fox,) = [job async for job in ledger.jobs(ids=["fox"])]
        actions = [attempt.action for attempt in await ledger.attempts(fox)]

    assert counts.states == {"saved": 1, "failed": 1, "in_doubt": 1}
    assert counts.spent == pytest.approx(0.04)
    assert [job.id for job in failed] == ["bear"]
    assert fox.tags == ("wild",)
    assert fox.submitted_at is not None
    assert fox.submitted_at.tzinfo is not None
    assert actions == ["submitting", "submitted", "completed", "saved"]


def test_a_ledger_can_be_read_and_retried_without_a_loop(desk: Desk, mixed: Service):
    with runner.open_ledger() as ledger:
        assert ledger.path == Path("runner.db")
        assert [job.id for job in ledger.jobs()] == ["fox", "bear", "swan"]
        assert next(iter(ledger.jobs(states=[runner.State.SAVED]))).id == "fox"
        assert ledger.retry() == 1
        with pytest.raises(UsageError, match="may_pay_twice=True"):
            ledger.retry(states=["in_doubt"])
        assert ledger.retry(states=["in_doubt"], may_pay_twice=True) == 1
        assert {job.id for job in ledger.jobs(states=["pending"])} == {"bear", "swan"}
        fox = next(iter(ledger.jobs(ids=["fox"])))
        assert len(ledger.attempts(fox)) == 4
        assert ledger.counts()["animals"].total == 3


def test_what_is_not_there_is_said(desk: Desk):
    with pytest.raises(UsageError, match="there is no ledger at"):
        runner.open_ledger("nowhere.db")
    assert list(desk.folder.iterdir()) == []


async def test_a_state_or_manifest_that_there_is_not_is_said(desk: Desk, mixed: Service):
    async with runner.open_ledger() as ledger:
        with pytest.raises(UsageError, match="no state `odd`"):
            await anext(ledger.jobs(states=["odd"]))
        with pytest.raises(UsageError, match="no manifest `nothing`"):
            await anext(ledger.jobs(manifests=["nothing"]))


async def test_a_ledger_can_be_read_while_a_run_is_under_way(
    desk: Desk, serve: Callable[..., Service]
):
    _, manifest = await slow(serve, desk)
    async with runner.run(manifest) as going:
        async for _ in going:
            break
        async with runner.open_ledger() as ledger:
            assert (await ledger.counts())["animals"].total == 40
            with contextlib.suppress(LedgerBusy):
                await ledger.retry()
