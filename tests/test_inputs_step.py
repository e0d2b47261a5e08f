"""The step that makes files ready: one upload for each content, its turn, its memory, its lifetime."""

from __future__ import annotations

import asyncio
import hashlib
import io
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import HOUR_S, NOW, StillGovernor, answer, get, job, never_left, no_answer, plan, sql

from runner.governor import Urgency
from runner.inputs import InputRules, Inputs
from runner.inputs import inputs as module
from runner.inputs.room import Room
from runner.job import Answer, Consequence, State, StepResult
from runner.ledger import Ledger, Record
from runner.ledger.reading import Selection, attempts, retry
from runner.ledger.schema import MIGRATIONS
from runner.references import could_be, digested, filled, is_reference, recognised, reference
from runner.submitter import SubmitRules, Submitter

HOST = "https://workflows-api.segmind.com"
RULES = InputRules(inline=False, host=HOST, attempts=3, timeout_s=60.0)
ACCEPTED = answer(200, {"request_id": "r-1"})


def taken(n: int = 0, name: str = "file_urls") -> Answer:
    return answer(200, {name: [f"https://images.segmind.com/assets/{n}.png"]})


class Uploads:
    """An API that answers uploads as it is told to, and submits always."""

    def __init__(self) -> None:
        self.replies: list[Answer] = []
        self.bodies: list[bytes] = []
        self.sent: list[Any] = []
        self.two, self.pause = asyncio.Event(), asyncio.Event()
        self.pause.set()

    async def upload(self, body: io.BytesIO, timeout_s: float) -> Answer:
        self.bodies.append(body.read())
        number = len(self.bodies)
        if number == 2:
            self.two.set()
        await self.pause.wait()
        return self.replies.pop(0) if self.replies else taken(number)

    async def submit(self, model: str, params: Any) -> Answer:
        self.sent.append(params)
        return ACCEPTED


class Desk:
    """A submitter that sends files, with everything around it."""

    def __init__(self, ledger: Ledger, folder: Path, rules: InputRules = RULES) -> None:
        self.ledger, self.folder = ledger, folder
        self.governor, self.api = StillGovernor(), Uploads()
        seen, api = self.governor.seen.append, self.api
        self.inputs = Inputs(ledger, api, self.governor, rules, Random(1), seen)  # type: ignore[arg-type]
        self.submitter = Submitter(
            ledger,
            api,  # type: ignore[arg-type]
            self.governor,
            SubmitRules(3, HOUR_S),
            Random(3),
            seen,
            self.inputs,
        )

    async def submit(self, number: int = 0) -> StepResult:
        return await self.submitter.submit(await get(self.ledger, f"j{number}"))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with await Ledger.open(tmp_path / "l.db", durable=False) as ledger:
        jobs = []
        for n, name in enumerate(["a", "a", "a", "b"]):
            path = tmp_path / f"{name}.png"
            path.write_bytes(b"\x89PNG\r\n\x1a\n" + name.encode())
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            params = {"image": reference(sha256), "seed": n}
            jobs.append(job(n, params=params, inputs={str(path): sha256}))
        await plan(ledger, jobs)
        yield Desk(ledger, tmp_path)


async def test_the_address_is_in_the_ledger_before_the_request_has_it(desk: Desk) -> None:
    assert (await desk.submit()).state is State.SUBMITTED
    (params,) = desk.api.sent
    ((url,),) = await sql(desk.ledger, "SELECT url FROM uploads")
    assert params == {"image": url, "seed": 0}
    assert desk.api.bodies[0].startswith(b'{"data_urls": ["data:image/png;base64,')
    # What is remembered of the job is the content, whatever its address.
    assert is_reference((await get(desk.ledger)).params["image"])


async def test_the_answer_may_name_its_addresses_either_way(desk: Desk) -> None:
    desk.api.replies = [taken(7, "urls")]
    assert (await desk.submit()).state is State.SUBMITTED
    assert desk.api.sent[0]["image"].endswith("/7.png")


@pytest.mark.parametrize("url", ["javascript:x", "https://a b", "", 7, None])
async def test_what_is_no_address_is_not_sent(desk: Desk, url: Any) -> None:
    desk.api.replies = [answer(200, {"file_urls": [url]})]
    assert (await desk.submit()).state is State.PENDING
    assert desk.api.sent == []


async def test_jobs_at_the_same_time_upload_one_content_once(desk: Desk) -> None:
    desk.api.pause.clear()
    tasks = [asyncio.create_task(desk.submit(n)) for n in range(4)]
    await desk.api.two.wait()
    desk.api.pause.set()
    assert {result.state for result in await asyncio.gather(*tasks)} == {State.SUBMITTED}
    assert len(desk.api.bodies) == 2
    assert len({params["image"] for params in desk.api.sent}) == 2


async def test_a_job_takes_a_turn_for_each_request_beyond_the_one_it_has(desk: Desk) -> None:
    await desk.submit(0)
    assert desk.governor.turns == [Urgency.SUBMIT]
    await desk.submit(1)
    assert desk.governor.turns == [Urgency.SUBMIT]


async def test_a_failed_upload_holds_its_content_back_and_no_other(desk: Desk) -> None:
    desk.api.replies = [answer(500, {"error": "x"})]
    first = await desk.submit(0)
    assert first.state is State.PENDING
    assert first.again_at is not None
    assert (await desk.submit(1)).again_at == first.again_at
    assert len(desk.api.bodies) == 1
    assert (await desk.submit(3)).state is State.SUBMITTED
    desk.governor.time = first.again_at
    assert (await desk.submit(0)).state is State.SUBMITTED
    assert (await get(desk.ledger)).refusals == 0


async def test_a_host_that_cannot_be_reached_holds_all_uploads_and_uses_no_try_up(
    desk: Desk,
) -> None:
    for _ in range(5):
        desk.api.replies = [never_left()]
        result = await desk.submit(0)
        assert result.state is State.PENDING
        assert (await desk.submit(3)).again_at == result.again_at
        desk.governor.time = result.again_at or 0.0
    assert (await desk.submit(0)).state is State.SUBMITTED


@pytest.mark.parametrize(
    "bad", [no_answer(), answer(504), answer(200, None), answer(500, {"error": "x"})]
)
async def test_an_upload_is_repeated_a_bounded_number_of_times(desk: Desk, bad: Answer) -> None:
    for _ in range(RULES.attempts):
        desk.api.replies = [bad]
        result = await desk.submit(0)
        desk.governor.time = (result.again_at or 0.0) + 1
    assert result.state is State.FAILED
    record = await get(desk.ledger)
    assert record.state is State.FAILED
    assert "given up after 3 times" in (await attempts(desk.ledger, record.key))[-1].detail
    assert desk.api.sent == []


@pytest.mark.parametrize(
    ("reply", "consequence"),
    [
        (answer(401, {"error": "x"}), Consequence.KEY_REFUSED),
        (answer(406, {"error": "Insufficient credits"}), Consequence.OUT_OF_CREDITS),
        (answer(404, {"error": "x"}), Consequence.PAUSE),
        (answer(302, None, "redirects to https://evil.example"), Consequence.PAUSE),
        (answer(405, None, "an HTML page"), Consequence.PAUSE),
    ],
)
async def test_what_concerns_all_uploads_stops_the_run_and_fails_no_job(
    desk: Desk, reply: Answer, consequence: Consequence
) -> None:
    desk.api.replies = [reply]
    result = await desk.submit()
    assert (result.state, result.consequence) == (State.PENDING, consequence)
    record = await get(desk.ledger)
    assert (record.state, record.posts) == (State.PENDING, 0)


@pytest.mark.parametrize("inline", [False, True])
async def test_a_file_that_changed_since_it_was_planned_ends_its_job_unsent(
    desk: Desk, inline: bool
) -> None:
    desk = Desk(desk.ledger, desk.folder, InputRules(inline, HOST, 3, 60.0))
    (desk.folder / "a.png").write_bytes(b"\x89PNG another")
    (desk.folder / "b.png").unlink()
    changed, gone = await desk.submit(0), await desk.submit(3)
    assert changed.state is gone.state is State.FAILED
    assert "a.png has changed since it was planned; nothing was sent, run again" in changed.reason
    assert "b.png cannot be read any more: No such file" in gone.reason
    assert desk.api.bodies == desk.api.sent == []
    assert (await get(desk.ledger)).posts == 0


async def test_an_address_is_used_for_its_lifetime(desk: Desk) -> None:
    await desk.submit(0)
    desk.governor.time = NOW + module.UPLOAD_LIFE_S
    await desk.submit(1)
    assert len(desk.api.bodies) == 1
    desk.governor.time += 1
    await desk.submit(2)
    assert len(desk.api.bodies) == 2


async def test_another_host_has_addresses_of_its_own(desk: Desk) -> None:
    await desk.submit(0)
    other = Desk(desk.ledger, desk.folder, InputRules(False, "http://127.0.0.1:1", 3, 60.0))
    await other.submit(1)
    assert len(other.api.bodies) == 1


async def test_what_is_retried_is_uploaded_anew_once_for_all(desk: Desk) -> None:
    for n in range(3):
        await desk.submit(n)
    await sql(desk.ledger, "UPDATE jobs SET state = 'failed' WHERE id IN ('j0', 'j1')")
    await retry(desk.ledger, Selection(states=(State.FAILED,)), NOW + 5)
    desk.governor.time = NOW + 10
    for n in (0, 1):
        assert (await desk.submit(n)).state is State.SUBMITTED
    assert len(desk.api.bodies) == 2
    assert desk.api.sent[3]["image"] == desk.api.sent[4]["image"] != desk.api.sent[0]["image"]


async def test_nothing_is_uploaded_against_an_objection(desk: Desk) -> None:
    rules = InputRules(False, HOST, 3, 60.0, objection="not so far")
    desk = Desk(desk.ledger, desk.folder, rules)
    assert await desk.submit() == StepResult(State.PENDING, None, Consequence.PAUSE, "not so far")
    assert desk.api.bodies == []


async def test_a_ledger_of_before_has_no_files_and_goes_on(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "l.db") as old:
        old.executescript(MIGRATIONS[0])
        old.execute("INSERT INTO manifests VALUES (1, 'm', '/m.yaml', '/o', 'f', 1)")
        old.execute(
            "INSERT INTO jobs (manifest_key, id, model, params, tags, meta, place, repeat, output, source)"
            " VALUES (1, 'j0', 'imagen', '{}', '[]', '{}', 0, 0, 'x', 'm:1')"
        )
        old.execute("PRAGMA application_id = 1381322322")
        old.execute("PRAGMA user_version = 1")
    old.close()
    async with await Ledger.open(tmp_path / "l.db") as ledger:
        assert (await get(ledger)).inputs == {}


# Memory


async def test_no_more_is_in_memory_than_there_is_room_for() -> None:
    room, held, most = Room(100), 0, 0

    async def take(size: int) -> None:
        nonlocal held, most
        async with room.hold(size):
            held += min(size, 100)
            most = max(most, held)
            await asyncio.sleep(0)
            held -= min(size, 100)

    await asyncio.gather(*(take(size) for size in [30, 60, 500, 10, 100, 0, 45, 45] * 5))
    assert (held, most <= 100) == (0, True)


async def test_who_gives_up_waiting_leaves_room_to_the_next() -> None:
    room = Room(10)
    async with room.hold(10):
        waiting = asyncio.create_task(room.hold(10).__aenter__())
        behind = asyncio.create_task(room.hold(1).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not behind.done()
    await asyncio.wait_for(behind, 5)


# How files are known again

DIGESTS = st.sampled_from(["0" * 64, "1" * 64, "2" * 64])
BODIES = st.recursive(
    st.one_of(st.integers(), st.text("abc", max_size=3), DIGESTS.map(reference)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("xy"), inner)),
    max_leaves=8,
)
ADDRESSES = {digest: f"https://x.org/{digest[:4]}" for digest in ("0" * 64, "1" * 64, "2" * 64)}


@given(BODIES)
def test_what_was_sent_is_recognised_by_its_addresses(body: Any) -> None:
    sent = digested(filled(body, ADDRESSES))
    back = recognised(sent, {url: digest for digest, url in ADDRESSES.items()})
    assert back == body
    assert could_be(body, back)


@given(BODIES, BODIES)
def test_another_body_without_files_is_never_taken_for_this_one(own: Any, theirs: Any) -> None:
    if "sha256" not in str(own):
        assert could_be(own, theirs) == (own == theirs)


def test_a_file_is_surely_another_only_when_that_one_is_known() -> None:
    own = reference("0" * 64)
    assert not could_be(own, reference("1" * 64))
    for theirs in ("https://elsewhere.org/a", "data:sha256:?", "cut…", None, {"url": "x"}):
        assert could_be(own, theirs)


def test_a_data_url_is_kept_as_its_digest_and_one_cut_short_as_none() -> None:
    digest = hashlib.sha256(b"fox").hexdigest()
    assert digested({"a": ["data:image/png;base64,Zm94"]}) == {"a": [f"data:sha256:{digest}"]}
    assert digested("data:image/png;base64,Zm9…") == "data:sha256:?"
    assert digested("data:,hello") == "data:,hello"
    assert Record(1, "j", "m", "x", {}, "o", State.PENDING).inputs == {}
