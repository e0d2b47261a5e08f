"""A run with a deadline: it stops sending in time, collects what it can, and leaves the rest whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from desk import Desk, Service

from runner.assembly.deadline import DeadlineWatch
from runner.policy.curfew import Curfew, Deadline
from runner.sandbox import Fixed, Options

FOXES = [f"fox {n}" for n in range(200)]


def slow(latency_s: float) -> Options:
    return Options(latency=Fixed(latency_s), picture_px=64)


def test_nothing_is_sent_that_could_not_be_collected(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(slow(0.2), concurrency=2)
    ended = desk.run("run", desk.manifest(*FOXES), "--max-time", "3s", "--json")
    assert ended.status == 3, ended.words
    assert set(ended.json["states"]) == {"saved", "pending"}
    assert ended.json["states"]["saved"] == api.accepted > 0
    assert "for 3s at most: no new submits from" in ended.json["stopped"]
    assert "200 to do, 0 saved, for 3s at most" in ended.err
    assert "stopping: for 3s at most" in ended.err


def test_what_is_still_in_flight_at_the_deadline_is_left_to_the_next_run(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(slow(60.0), concurrency=2)
    ended = desk.run("run", desk.manifest(*FOXES[:4]), "--max-time", "3s", "--json")
    assert ended.status == 3, ended.words
    assert ended.json["states"] == {"pending": 2, "submitted": 2}
    for record in api.sandbox.accepted.values():
        record.finished_at = time.time()
    again = desk.run("run", "animals.yaml", "--limit", "0", "--json")
    assert again.json["states"] == {"pending": 2, "saved": 2}
    assert api.accepted == 2


def test_a_deadline_that_is_too_near_for_a_known_model_sends_nothing(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(slow(0.05))
    assert desk.run("run", desk.manifest(*FOXES[:8])).status == 0
    desk.sql("UPDATE jobs SET completed_at = submitted_at + 300")
    desk.manifest(*FOXES[:9])
    ended = desk.run("run", "animals.yaml", "--max-time", "2m")
    assert ended.status == 3, ended.words
    assert api.accepted == 8
    # The next run has the time.
    assert desk.run("run", "animals.yaml", "--max-time", "20m").status == 0


def test_a_run_that_is_done_in_time_ends_well(desk: Desk, api: Service) -> None:
    soon = datetime.now(UTC).astimezone() + timedelta(hours=2)
    ended = desk.run("run", desk.manifest("a fox"), "--until", f"{soon:%H:%M}")
    assert ended.status == 0, ended.words
    assert "until" not in ended.out


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--until", "25:00", "must be a time of day like `07:00`"),
        ("--until", "soon", "must be a time of day like `07:00`"),
        ("--max-time", "soon", "must be a duration"),
        ("--max-time", "0", "must be longer than nothing"),
    ],
)
def test_what_is_no_time_is_told_before_anything_is_sent(
    desk: Desk, api: Service, option: str, value: str, words: str
) -> None:
    ended = desk.run("run", desk.manifest("a fox"), option, value)
    assert ended.status == 2
    assert option in ended.err
    assert words in ended.err
    assert list(api.sandbox.requests) == []


class Engine:
    """Remembers what it was told, and when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.told: list[tuple[float, str]] = []
        self._clock = clock

    def drain(self, reason: str) -> None:
        self.told.append((self._clock(), f"drain: {reason}"))

    def stop(self, reason: str) -> None:
        self.told.append((self._clock(), f"stop: {reason}"))

    def is_draining(self) -> bool:
        return bool(self.told)


async def test_a_computer_that_slept_through_the_deadline_stops_when_it_wakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += 5000.0 if now[0] > 50 else seconds

    monkeypatch.setattr(anyio, "sleep", sleep)
    rule = Curfew(3600.0, 0.0, known={"imagen": [10.0]}, pending={"imagen": 9}, longest_s=900.0)
    engine = Engine(lambda: now[0])
    await DeadlineWatch(Deadline(3600.0, "until 07:00"), rule, lambda: now[0]).accompany(engine)
    (drained, words), (stopped, _) = engine.told
    assert drained == stopped > 5000
    assert words.startswith("drain: until 07:00: no new submits from")
