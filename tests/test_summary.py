"""What a run says at its end, to people and to scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from runner.job import State
from runner.report.summary import (
    ManifestSummary,
    Summary,
    render_summary,
    summary_json,
)
from runner.report.words import dollars, duration, printable, roughly

ANIMALS = ManifestSummary(
    "animals", 600, {State.SAVED: 580, State.FAILED: 12, State.PENDING: 8}, 12.4, 640
)
PRODUCTS = ManifestSummary("products", 400, {State.SAVED: 398, State.IN_DOUBT: 2}, 6.36, 398)
STOPPED = Summary(
    manifests=(ANIMALS, PRODUCTS),
    output="/data/output",
    ledger="/data/ledger.db",
    exit_code=3,
    stopped="the budget of $20.00 is used up",
    saved_run=318,
    spent_run=6.36,
    elapsed_s=2530.1234,
    requests={"submit": 330, "status": 900},
    causes=((State.FAILED, "no memory", 9), (State.IN_DOUBT, "no answer within 30 s", 2)),
    arguments="animals.yaml products.yaml",
    options="--ledger l.db",
    run_options="--sandbox",
)


def of_states(**states: int) -> Summary:
    """A run of one manifest that ended in these states."""
    counts = {State(name): count for name, count in states.items()}
    manifest = ManifestSummary("a", sum(states.values()), counts)
    return Summary((manifest,), "output", "ledger.db", 1, saved_run=1, arguments="a.yaml")


def test_the_json_is_as_scripts_rely_on() -> None:
    written = json.loads(json.dumps(summary_json(STOPPED)))
    assert written["manifests"][0] == {
        "name": "animals",
        "total": 600,
        "states": {"pending": 8, "saved": 580, "failed": 12},
        "spent": 12.4,
        "files": 640,
    }
    assert written["total"] == 1000
    assert written["states"] == {"pending": 8, "saved": 978, "failed": 12, "in_doubt": 2}
    assert written["spent"] == 18.76
    assert written["exit"] == 3
    assert written["output"] == "/data/output"
    assert written["requests"] == {"submit": 330, "status": 900}
    assert written["elapsed_s"] == 2530.123
    assert written["stopped"] == "the budget of $20.00 is used up"
    assert written["ledger"] == "/data/ledger.db"
    assert written["simulated"] is False
    assert written["causes"][0] == {"state": "failed", "reason": "no memory", "count": 9}


def test_the_json_needs_no_rich() -> None:
    code = "import sys, runner.report.summary; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "stopped early: the budget of $20.00 is used up — 978 of 1,000 jobs saved",
        "animals  580 of 600 saved, 8 pending, 12 failed  $12.40",
        "318 saved in 42 min 10 s",
        "$6.36 this run, $18.76 in all",
        "1,230 (330 submit, 900 status)",
        "1,038 in /data/output/",
        "/data/ledger.db",
        "9 × no memory",
        "retrying may pay twice",
        "8 not submitted yet: run again to go on",
        "runner jobs animals.yaml products.yaml --ledger l.db --state failed\n",
        "runner retry animals.yaml products.yaml --ledger l.db --state in_doubt\n",
        "runner run animals.yaml products.yaml --ledger l.db --sandbox\n",
    ],
)
def test_the_summary_tells_people(text: str) -> None:
    assert text in render_summary(STOPPED)


def test_a_run_with_nothing_to_do_says_so_on_one_line() -> None:
    done = replace(of_states(saved=12), saved_run=0, exit_code=0)
    assert render_summary(done) == "all 12 jobs are saved in output/ — nothing to do\n"


def test_a_manifest_without_jobs_has_nothing_to_do() -> None:
    empty = replace(of_states(), saved_run=0, exit_code=0)
    assert render_summary(empty) == "no jobs in a — nothing to do\n"


def test_what_asking_for_results_at_once_has_saved_is_told() -> None:
    direct = {"submit": 100, "status": 1, "result": 109}
    summary = replace(of_states(saved=100), saved_run=100, requests=direct)
    text = "210 (100 submit, 1 status, 109 result), 90 fewer than with a status for each job\n"
    assert text in render_summary(summary)


def test_a_run_that_has_saved_no_requests_does_not_boast() -> None:
    twice = {"submit": 100, "status": 140, "result": 100}
    summary = replace(of_states(saved=100), saved_run=100, requests=twice)
    assert "fewer" not in render_summary(summary)


def test_a_run_that_saved_all_asks_for_no_attention() -> None:
    text = render_summary(of_states(saved=12))
    assert text.startswith("all 12 jobs saved\n")
    assert "attention" not in text


@pytest.mark.parametrize("state", ["failed", "blocked", "expired", "in_doubt"])
def test_whatever_may_be_retried_comes_with_its_commands(state: str) -> None:
    text = render_summary(of_states(saved=1, **{state: 2}))
    assert f"runner jobs a.yaml --state {state}\n" in text
    assert f"runner retry a.yaml --state {state}\n" in text
    assert "runner run a.yaml\n" in text


def test_invalid_jobs_are_corrected_not_retried() -> None:
    text = render_summary(of_states(invalid=2))
    assert "correct them in the manifest" in text
    assert "retry" not in text


def test_what_is_in_flight_or_not_downloaded_is_left_to_do() -> None:
    text = render_summary(of_states(saved=1, submitted=3, completed=2))
    assert "3 in flight, 2 to download: run again to go on" in text


def test_a_refused_key_is_what_to_look_at_first() -> None:
    text = render_summary(replace(of_states(pending=3), exit_code=4, options="-c other.yaml"))
    assert "SEGMIND_API_KEY" in text
    assert "runner doctor -c other.yaml\n" in text


def test_a_simulated_run_is_labelled_and_costs_nothing() -> None:
    text = render_summary(replace(STOPPED, simulated=True))
    assert text.startswith("SIMULATED stopped early")
    assert "nothing: simulated" in text


def test_the_most_frequent_causes_are_named_and_the_others_counted() -> None:
    causes = tuple((State.FAILED, f"cause {count}", count) for count in range(1, 9))
    text = render_summary(replace(of_states(failed=36), causes=causes))
    assert [f"cause {count}" in text for count in range(1, 9)] == [False] * 3 + [True] * 5
    assert "… 3 more reasons" in text


@pytest.mark.parametrize("width", [40, 60, 200])
def test_reasons_are_cut_to_the_width_and_commands_never(width: int) -> None:
    causes = ((State.FAILED, "memory " * 100, 2),)
    summary = replace(of_states(failed=2), causes=causes, arguments="long/" * 50 + "a.yaml")
    lines = render_summary(summary, width).splitlines()
    assert max(len(line) for line in lines if " × " in line) <= width
    assert any(line.endswith("a.yaml --state failed") and len(line) > 250 for line in lines)


def test_colour_is_there_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in render_summary(STOPPED, colour=True)
    assert "\x1b[" not in render_summary(STOPPED)


def test_text_from_outside_is_text() -> None:
    causes = ((State.FAILED, "[red]no[/red]\x1b[2J\nmemory", 2),)
    text = render_summary(replace(of_states(failed=2), causes=causes))
    assert "2 × [red]no[/red] memory\n" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\r\nc", "a b c"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;https://x.test\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed", ""),
        ("\x9b2Jeight bits", "eight bits"),
        ("\x1b", ""),
        ("\u202egnp.exe\u200b", "gnp.exe"),
        ("half \ud83d", "half \ufffd"),
        ("füchse 狐 🦊", "füchse 狐 🦊"),
    ],
)
def test_printable_text_cannot_steer_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0.00"),
        (0.03, "$0.03"),
        (0.0035, "$0.0035"),
        (1234.5, "$1,234.50"),
        (0.1 + 0.2, "$0.30"),
    ],
)
def test_money_is_written_as_people_do(amount: float, shown: str) -> None:
    assert dollars(amount) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "0 s"),
        (59.6, "1 min"),
        (2530, "42 min 10 s"),
        (8 * 3600, "8 h 00 min"),
        (90 * 3600, "3 d 18 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1, "5 s"), (41, "45 s"), (89, "1 min 30 s"), (1530, "26 min"), (10_000, "2 h 45 min")],
)
def test_a_forecast_is_rounded(seconds: float, shown: str) -> None:
    assert roughly(seconds) == shown
