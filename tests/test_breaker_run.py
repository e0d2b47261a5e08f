"""A model that only fails is stopped and said so once; the others go on, and `retry` brings it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from desk import QUICK, Desk, Service

from runner.sandbox import Fixed, Options


def bad(count: int, marker: str = "400", **keys: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"bad {n} [[{marker}]]", **keys} for n in range(count)]


def by_model(desk: Desk) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for job in desk.jobs().values():
        states = found.setdefault(job["model"], {})
        states[job["state"]] = states.get(job["state"], 0) + 1
    return found


def test_ten_equal_errors_in_a_row_stop_the_model(desk: Desk, api: Service) -> None:
    desk.configure(api.url, concurrency=1)
    ended = desk.run("run", desk.manifest(*bad(30, model="novel"), "a fox", "an owl"))
    assert ended.status == 1, ended.words
    assert by_model(desk) == {"novel": {"invalid": 10, "failed": 20}, "imagen": {"saved": 2}}
    assert ended.err.count("is stopped") == 1
    assert "model `novel` is stopped: 10 jobs in a row ended with" in ended.err
    assert "20 more of its jobs are not sent" in ended.err
    assert "retry" in ended.err
    assert api.count("submit") == 12
    reasons = {job["error"] for job in desk.jobs("--state", "failed").values()}
    assert len(reasons) == 1
    assert "10 jobs in a row" in reasons.pop()


def test_jobs_that_end_failed_stop_the_model_and_what_is_in_flight_is_collected(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    options = Options(latency=Fixed(0.05), picture_px=64, fail_rate=1.0, seed=3)
    api = serve(options, concurrency=3, breaker=2)
    ended = desk.run("run", desk.manifest(*[f"animal {n}" for n in range(60)]), "--json")
    assert ended.status == 1, ended.words
    assert ended.json["states"] == {"failed": 60}
    assert api.accepted < 60
    assert api.count("submit") == api.accepted
    never_sent = [job for job in desk.jobs().values() if not job["attempts"]]
    assert len(never_sent) == 60 - api.accepted


def test_retry_brings_them_back(desk: Desk, api: Service) -> None:
    desk.configure(api.url, concurrency=1, breaker=2)
    desk.manifest(*bad(2), "a fox", "an owl")
    assert desk.run("run", "animals.yaml").status == 1
    assert by_model(desk) == {"imagen": {"invalid": 2, "failed": 2}}
    assert desk.run("run", "animals.yaml").status == 1
    assert api.accepted == 0
    assert desk.run("retry").status == 0
    ended = desk.run("run", "animals.yaml", "--json")
    assert ended.json["states"] == {"saved": 2, "invalid": 2}


def test_zero_never_stops_a_model(desk: Desk, api: Service) -> None:
    desk.configure(api.url, breaker=0)
    ended = desk.run("run", desk.manifest(*bad(20), "a fox"), "--json")
    assert ended.json["states"] == {"saved": 1, "invalid": 20}


@pytest.mark.parametrize("status", ["403", "404", "410"])
def test_a_closed_model_is_stopped_at_its_first_answer(
    desk: Desk, api: Service, status: str
) -> None:
    desk.configure(api.url, concurrency=1)
    closed = bad(1, status, model="novel") + [
        {"prompt": f"a swan {n}", "model": "novel"} for n in range(5)
    ]
    ended = desk.run("run", desk.manifest(*closed, "a fox"))
    assert ended.status == 1, ended.words
    assert by_model(desk) == {"novel": {"failed": 6}, "imagen": {"saved": 1}}
    assert api.count("submit") == 2
    assert ended.err.count("is stopped") == 1
    assert f"HTTP {status}" in ended.err
    assert all(f"HTTP {status}" in job["error"] for job in desk.jobs("--state", "failed").values())


def test_many_answers_at_once_say_it_once(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(QUICK, concurrency=20)
    jobs = [{"prompt": f"a swan {n}", "model": "no-such-model"} for n in range(40)]
    ended = desk.run("run", desk.manifest(*jobs, "a fox"))
    assert ended.status == 1
    assert ended.err.count("is stopped") == 1
    assert by_model(desk)["no-such-model"] == {"failed": 40}
    assert api.accepted == 1


def test_blocked_prompts_stop_nothing(desk: Desk, api: Service) -> None:
    desk.configure(api.url, concurrency=4, breaker=3)
    prompts = [f"bad {n} [[block]]" for n in range(12)]
    ended = desk.run("run", desk.manifest(*prompts, "a fox"), "--json")
    assert ended.json["states"] == {"saved": 1, "blocked": 12}


def test_a_model_of_another_manifest_is_stopped_with_it(desk: Desk, api: Service) -> None:
    desk.configure(api.url, concurrency=1)
    desk.manifest({"prompt": "a swan", "model": "retired-one"})
    desk.manifest(
        {"prompt": "a lamp", "model": "retired-one"},
        "a chair",
        name="things",
        output="t/{id}.{ext}",
    )
    ended = desk.run("run", "animals.yaml", "things.yaml", "--json")
    assert ended.status == 1
    assert ended.json["states"] == {"saved": 1, "failed": 2}
    assert api.count("submit") == 2
