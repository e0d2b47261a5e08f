"""What a run may spend, what it does when the money is gone, and what it says of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from desk import QUICK, Desk, Finished, Service, wait_until

from runner.sandbox import Fixed, Options
from runner.treasurer import Treasurer

COST = 0.04


def animals(count: int) -> list[str]:
    return [f"animal {n}" for n in range(count)]


def give_credits(api: Service, amount: float) -> None:
    """The account holds so much more from now on."""
    book = api.sandbox._state.book
    book._options = replace(book._options, credits=(book._options.credits or 0.0) + amount)


@contextmanager
def meanwhile(what: Callable[[], None]) -> Iterator[None]:
    """Does something while a run is under way in this process."""
    thread = threading.Thread(target=what)
    thread.start()
    try:
        yield
    finally:
        thread.join(20)


def spent(api: Service) -> float:
    return sum(record.cost for record in api.sandbox.accepted.values())


def states(ended: Finished) -> dict[str, int]:
    found: dict[str, int] = ended.json["states"]
    return found


# --budget


def test_a_budget_is_never_exceeded_and_the_rest_is_left(desk: Desk, api: Service) -> None:
    desk.configure(api.url, prices={"imagen": COST})
    ended = desk.run("run", desk.manifest(*animals(12)), "--budget", "0.20", "--json")
    assert ended.status == 3, ended.words
    assert states(ended) == {"pending": 7, "saved": 5}
    assert api.accepted == 5
    assert "budget of $0.20" in ended.json["stopped"]
    assert spent(api) <= 0.20 + 1e-9
    assert desk.run("run", "animals.yaml").status == 0
    assert api.accepted == 12


def test_a_budget_that_ends_between_two_prices_is_kept(desk: Desk, api: Service) -> None:
    desk.configure(api.url, prices={"imagen": COST})
    ended = desk.run("run", desk.manifest(*animals(6)), "--budget", "0.19")
    assert ended.status == 3
    assert api.accepted == 4


def test_a_budget_may_stand_in_the_config_and_the_command_line_beats_it(
    desk: Desk, api: Service
) -> None:
    desk.configure(api.url, budget=0.08, prices={"imagen": COST})
    desk.manifest(*animals(4))
    assert desk.run("run", "animals.yaml").status == 3
    assert api.accepted == 2
    assert desk.run("run", "animals.yaml", "--budget", "0.04").status == 3
    assert api.accepted == 3


def test_a_budget_is_for_one_run(desk: Desk, api: Service) -> None:
    desk.configure(api.url, budget=0.08, prices={"imagen": COST})
    desk.manifest(*animals(4))
    assert [desk.run("run", "animals.yaml").status for _ in range(3)] == [3, 0, 0]
    assert api.accepted == 4


def test_a_budget_that_is_enough_is_no_reason_to_stop(desk: Desk, api: Service) -> None:
    desk.configure(api.url, prices={"imagen": COST})
    assert desk.run("run", desk.manifest(*animals(5)), "--budget", "0.20").status == 0


def test_a_budget_of_nothing_sends_nothing(desk: Desk, api: Service) -> None:
    ended = desk.run("run", desk.manifest("a fox"), "--budget", "0", "--json")
    assert ended.status == 3
    assert api.accepted == 0


def test_jobs_of_an_unknown_price_go_one_at_a_time_until_it_is_known(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(0.1), picture_px=64))
    ended = desk.run("run", desk.manifest(*animals(6)), "--budget", "0.16")
    assert ended.status == 3, ended.words
    assert api.accepted == 4
    first, second, *_ = sorted(record.time for record in api.sandbox.accepted.values())
    assert second - first >= 0.1


def test_what_the_ledger_knows_of_a_price_beats_the_config(desk: Desk, api: Service) -> None:
    assert desk.run("run", desk.manifest("a fox")).status == 0
    desk.configure(api.url, prices={"imagen": 4.0})
    assert desk.run("run", desk.manifest("a fox", "an owl"), "--budget", "0.05").status == 0


def test_a_failed_job_costs_nothing_of_the_budget(desk: Desk, api: Service) -> None:
    desk.configure(api.url, prices={"imagen": COST}, concurrency=1)
    prompts = ["a fox [[fail]]", "an owl [[block]]", "a swan [[400]]", *animals(2)]
    ended = desk.run("run", desk.manifest(*prompts), "--budget", "0.08", "--json")
    assert ended.status == 1, ended.words
    assert states(ended)["saved"] == 2


def test_jobs_in_doubt_count_against_the_budget(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(replace(QUICK, history="down"), prices={"imagen": COST}, concurrency=1)
    prompts = ["a fox [[lost]]", *animals(4)]
    ended = desk.run(
        "run", desk.manifest(*prompts), "--budget", "0.12", "--json", "--on-doubt", "hold"
    )
    assert ended.status == 3, ended.words
    assert states(ended) == {"pending": 2, "saved": 2, "in_doubt": 1}
    assert api.accepted == 3
    assert "$0.04 may be due for jobs in doubt" in ended.json["stopped"]
    # What an earlier run left in doubt counts as well.
    again = desk.run("run", "animals.yaml", "--budget", "0.08", "--json", "--on-doubt", "hold")
    assert states(again) == {"pending": 1, "saved": 3, "in_doubt": 1}
    assert spent(api) == pytest.approx(0.16)


# An empty balance


@pytest.mark.parametrize("concurrency", [1, 8])
def test_an_empty_balance_stops_the_run_and_loses_nothing(
    desk: Desk, serve: Callable[..., Service], concurrency: int
) -> None:
    options = Options(latency=Fixed(0.3), picture_px=64, credits=3 * COST)
    api = serve(options, concurrency=concurrency)
    ended = desk.run("run", desk.manifest(*animals(8)), "--json")
    assert ended.status == 3, ended.words
    # What was in flight is collected, and nobody is blamed.
    assert states(ended) == {"pending": 5, "saved": 3}
    assert "Insufficient credits" in ended.json["stopped"]
    assert desk.run("run", "animals.yaml", "--json").json["states"] == {"pending": 5, "saved": 3}
    give_credits(api, 1.0)
    assert desk.run("run", "animals.yaml").status == 0
    assert api.accepted == 8
    assert api.sandbox.stats()["max_per_body"] == 1


def test_a_refusal_for_want_of_money_uses_up_no_attempt(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(replace(QUICK, credits=0.0), submit_attempts=1)
    desk.manifest("a fox")
    for _ in range(3):
        assert desk.run("run", "animals.yaml").status == 3
    give_credits(api, 1.0)
    assert desk.run("run", "animals.yaml").status == 0


def test_a_spend_limit_of_the_team_is_said_in_the_apis_words(desk: Desk, api: Service) -> None:
    ended = desk.run("run", desk.manifest("a fox [[406-limit]]"), "--json")
    assert ended.status == 3
    assert "Team spend limit reached" in ended.json["stopped"]
    assert states(ended) == {"pending": 1}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at an empty balance every tenth of a second."""
    monkeypatch.setattr(Treasurer.__init__, "__defaults__", (0.1,))


@pytest.mark.usefixtures("impatient")
def test_waiting_for_credits_goes_on_when_there_are_some(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(replace(QUICK, credits=2 * COST))

    def pay_in() -> None:
        wait_until(lambda: api.count("credits") >= 2)
        give_credits(api, 1.0)

    with meanwhile(pay_in):
        ended = desk.run("run", desk.manifest(*animals(6)), "--wait-for-credits", "--json")
    assert ended.status == 0, ended.words
    assert states(ended) == {"saved": 6}
    assert ended.err.count("the balance is empty") >= 1
    assert "there are credits again" in ended.err
    assert api.sandbox.stats()["max_per_body"] == 1
    # While it is empty the balance is asked, and not the submit.
    assert api.count("submit") <= 6 + 2 * 6


@pytest.mark.usefixtures("impatient")
def test_whoever_waits_for_credits_can_be_stopped(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(replace(QUICK, credits=0.0), drain="200ms")
    desk.manifest("a fox")
    process = desk.start("run", "animals.yaml", "--wait-for-credits")
    wait_until(lambda: api.count("submit"))
    time.sleep(0.3)
    process.terminate()
    _, err = process.communicate(timeout=10)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    assert [job["state"] for job in desk.jobs().values()] == ["pending"]


# What it cost


def test_money_is_told_by_job_by_model_and_by_manifest(desk: Desk, api: Service) -> None:
    other = {"prompt": "a lamp", "model": "other-model"}
    desk.manifest("a fox", "an owl [[fail]]", other)
    desk.manifest("a chair", name="things", output="things/{id}.{ext}")
    assert desk.run("run", "animals.yaml", "things.yaml").status == 1
    costs = sorted((job["cost"] or 0) for job in desk.jobs().values())
    assert costs == [0, COST, COST, COST]
    told = desk.run("status", "--json").json
    by_manifest = {each["name"]: each["spent"] for each in told["manifests"]}
    assert by_manifest == {"animals": pytest.approx(0.08), "things": pytest.approx(0.04)}
    assert told["spent"] == pytest.approx(0.12)
    by_model = {each["model"]: (each["jobs"], each["spent"]) for each in told["models"]}
    assert by_model == {"imagen": (2, pytest.approx(0.08)), "other-model": (1, pytest.approx(0.04))}
    text = desk.run("status").out
    assert "by model" in text
    assert "other-model" in text


def test_a_job_that_is_paid_twice_on_demand_costs_twice(desk: Desk, api: Service) -> None:
    assert desk.run("run", desk.manifest("a fox")).status == 0
    (job,) = desk.jobs()
    desk.sql("UPDATE jobs SET state = 'expired' WHERE id = ?", job)
    assert desk.run("retry", "--state", "expired", "--yes").status == 0
    assert desk.run("run", "animals.yaml").status == 0
    assert api.accepted == 2
    told: dict[str, Any] = desk.jobs()[job]
    assert told["cost"] == pytest.approx(2 * COST)
