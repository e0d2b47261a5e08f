"""A run that is killed anywhere goes on where it was: nothing is lost, nothing is paid twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from random import Random
from subprocess import TimeoutExpired

import pytest
from desk import Desk, Process, decode

from runner.crash_points import POINTS
from runner.sandbox import body_key

JOBS = 40
KILLS = 20
# A kill that comes before the interpreter has loaded the program proves nothing.
EARLIEST_S, LATEST_S = 0.45, 1.3


@pytest.fixture
def served(desk: Desk, spawn: Callable[..., Process]) -> Process:
    """A sandbox process and forty jobs, few at a time, so that a run is long enough to be killed."""
    api = spawn("--latency", "fixed:50ms")
    desk.configure(api.url, concurrency=4, doubt_wait="1s")
    desk.manifest(*[f"animal {n}" for n in range(JOBS)])
    return api


def agree(desk: Desk, api: Process) -> dict[str, int]:
    """Holds the ledger, the files and the simulated API's own book against each other."""
    jobs = desk.jobs()
    assert len(jobs) == JOBS
    assert {job["state"] for job in jobs.values()} <= {"saved", "in_doubt"}
    stats, accepted = api.stats(), api.accepted()
    assert stats["max_per_body"] == 1
    assert stats["key_leaks"] == 0
    by_body = {body_key(row["model"], row["body"]): row["request_id"] for row in accepted}
    assert len(by_body) == len(accepted)
    for job in jobs.values():
        known = by_body.get(body_key(job["model"], job["params"]))
        if job["state"] == "saved":
            assert job["request_id"] == known
            (file,) = job["files"]
            decode(desk.output / file["path"])
            assert (desk.output / file["path"]).stat().st_size == file["bytes"]
        else:
            # Held, for nobody answered; the API may know better.
            assert job["request_id"] in (None, known)
    saved = [job["files"][0]["path"] for job in jobs.values() if job["state"] == "saved"]
    assert desk.files() == sorted(saved)
    counts: dict[str, int] = {}
    for job in jobs.values():
        counts[job["state"]] = counts.get(job["state"], 0) + 1
    return counts


def test_killed_at_random_instants(desk: Desk, served: Process) -> None:
    rng = Random(20261015)
    killed = 0
    for _ in range(KILLS):
        # The rate keeps the whole from being done before all the kills have come.
        process = desk.start("run", "animals.yaml", "--rpm", "600")
        try:
            process.wait(rng.uniform(EARLIEST_S, LATEST_S))
        except TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= KILLS // 2
    ended = desk.process("run", "animals.yaml")
    assert ended.status in (0, 1), ended.words
    counts = agree(desk, served)
    assert counts["saved"] >= JOBS - KILLS * 4


def test_killed_right_after_each_commit_point(desk: Desk, served: Process) -> None:
    for point in POINTS:
        for time in ("1", "3"):
            crash = {"RUNNER_CRASH_AT": f"{point}:{time}"}
            ended = desk.process("run", "animals.yaml", "--limit", "3", environ=crash)
            died = ended.status == -signal.SIGKILL
            assert died, f"{point}:{time} was not reached: {ended.words}"
    ended = desk.process("run", "animals.yaml")
    assert ended.status in (0, 1), ended.words
    agree(desk, served)


@pytest.mark.parametrize("point", ["intent-committed", "submit-answered", "file-renamed"])
def test_a_lone_job_killed_at_a_commit_point_is_paid_once_and_saved(
    desk: Desk, spawn: Callable[..., Process], point: str
) -> None:
    api = spawn("--latency", "fixed:50ms")
    desk.configure(api.url, doubt_wait="1s")
    manifest = desk.manifest("a red fox")
    died = desk.process("run", manifest, environ={"RUNNER_CRASH_AT": point})
    assert died.status == -signal.SIGKILL
    again = desk.run("run", manifest, "--json", "--on-doubt", "hold")
    if point == "intent-committed":
        # Nothing was sent, but nobody can know that.
        assert again.json["states"] == {"in_doubt": 1}, again.words
    elif point == "submit-answered":
        # It was accepted, and the answer died with the process: only the history knows.
        assert again.json["states"] == {"in_doubt": 1}, again.words
        assert desk.run("run", manifest).status == 0
    else:
        assert again.json["states"] == {"saved": 1}, again.words
    assert api.stats()["max_per_body"] <= 1
