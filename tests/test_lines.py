"""What a run writes into a log or a cron mail."""

from __future__ import annotations

import io
import re

import pytest

from runner.cli.lines import PlainLines
from runner.events import Answered, Call, Draining, Event, Held, Moved, Noted
from runner.job import State
from runner.report.tally import Heading, Tally

START = 1_760_000_000.0


class Log:
    """Plain lines over a string, at a time the test sets."""

    def __init__(
        self, *, quiet: bool = False, pending: int = 1000, simulated: bool = False
    ) -> None:
        self.now = START
        self.stream = io.StringIO()
        tally = Tally({State.PENDING: pending, State.SAVED: 5}, started_at=START)
        heading = Heading(("animals",), simulated, 16, "runner jobs a.yaml --state failed")
        self.lines = PlainLines(
            tally, heading, stream=self.stream, quiet=quiet, clock=lambda: self.now
        )

    def see(self, *events: Event) -> None:
        for event in events:
            self.lines.see(event)

    def save_one(self, job_id: str = "a") -> None:
        self.see(moved(State.PENDING, State.SUBMITTING, job_id))
        self.see(moved(State.SUBMITTING, State.SUBMITTED, job_id))
        self.see(moved(State.SUBMITTED, State.COMPLETED, job_id))
        self.see(moved(State.COMPLETED, State.SAVED, job_id))

    @property
    def written(self) -> list[str]:
        """The lines without their time."""
        return [line.split("  ", 1)[1] for line in self.stream.getvalue().splitlines()]


def moved(before: State, after: State, job_id: str = "a", reason: str | None = None) -> Moved:
    return Moved(job_id, "animals", "imagen", before, after, reason=reason)


def test_a_run_opens_with_what_there_is_to_do() -> None:
    log = Log()
    with log.lines:
        pass
    assert log.written == ["runner: animals: 1,000 of 1,005 to do, 5 saved"]


def test_a_simulated_run_says_so() -> None:
    log = Log(simulated=True)
    with log.lines:
        pass
    assert "SIMULATED" in log.written[0]


def test_every_line_begins_with_a_local_time() -> None:
    log = Log()
    log.see(Draining("interrupted"))
    assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  stopping", log.stream.getvalue())


def test_the_first_progress_comes_after_a_few_seconds_the_next_after_a_minute() -> None:
    log = Log()
    told_at = []
    for second in range(130):
        log.now = START + second
        log.save_one()
        before = len(log.written)
        log.lines.tick()
        if len(log.written) > before:
            told_at.append(second)
    assert told_at == [5, 65, 125]


def test_a_progress_line_says_all_that_matters() -> None:
    log = Log(pending=100)
    for second in range(60):
        log.now = START + second
        log.save_one()
    log.see(moved(State.PENDING, State.SUBMITTING), Answered(Call.SUBMIT, 429, 0.1))
    log.lines.tick()
    assert log.written == [
        "65/105 saved, 1 in flight, 39 pending, $0.00, 1 refused (429), 60.0/min, about 40 s left"
    ]


def test_nothing_is_printed_while_nothing_changes() -> None:
    log = Log()
    for second in range(0, 3600, 10):
        log.now = START + second
        log.see(Answered(Call.STATUS, 200, 0.1))
        log.lines.tick()
    assert log.written == []


def test_a_night_of_eight_hours_stays_under_a_hundred_lines_whatever_happens() -> None:
    log = Log(pending=10_000)
    with log.lines:
        for second in range(0, 8 * 3600, 10):
            log.now = START + second
            log.save_one(f"job-{second}")
            log.see(moved(State.SUBMITTED, State.FAILED, f"job-{second}", "no"))
            log.see(Held(log.now + 60, "rate limit"))
            log.see(Noted(f"warning {second}", warning=True), Noted(f"note {second}"))
            log.lines.tick()
    assert 40 < len(log.written) < 100


def test_a_hold_of_ten_seconds_is_told_at_once_and_a_shorter_one_is_not() -> None:
    log = Log()
    log.see(Held(START + 9, "rate limit"), Held(START + 12, "rate limit"))
    assert log.written == ["waiting 12 s: rate limit"]


def test_an_outage_is_told_when_it_begins_and_not_at_every_try() -> None:
    log = Log()
    log.see(Held(START + 1, "cannot connect: refused"), Held(START + 3, "cannot connect: refused"))
    assert log.written == ["waiting 1 s: cannot connect: refused"]


def test_draining_with_nothing_in_flight_speaks_of_none() -> None:
    log = Log()
    log.see(Draining("the limit is reached"))
    assert log.written == ["stopping: the limit is reached"]


def test_draining_is_told_at_once() -> None:
    log = Log()
    log.see(moved(State.PENDING, State.SUBMITTING), Draining("--until 06:00 is reached"))
    assert log.written == ["stopping: --until 06:00 is reached; finishing 1 in flight"]


def test_the_first_failures_are_told_and_then_where_the_others_are() -> None:
    log = Log()
    for number in range(20):
        log.see(moved(State.SUBMITTED, State.FAILED, f"job-{number}", "no memory"))
    assert log.written[0] == "job-0 failed: no memory"
    assert len(log.written) == 6
    assert log.written[-1] == "… further failures are in `runner jobs a.yaml --state failed`"


def test_the_same_warning_is_told_once() -> None:
    log = Log()
    log.see(*[Noted("the disk is nearly full", warning=True)] * 5)
    assert log.written == ["warning: the disk is nearly full"]


def test_quiet_tells_warnings_only() -> None:
    log = Log(quiet=True)
    with log.lines:
        log.now = START + 100
        log.save_one()
        log.see(moved(State.SUBMITTED, State.FAILED), Held(START + 500, "x"), Draining("x"))
        log.see(Noted("a note"), Noted("a warning", warning=True))
        log.lines.tick()
    assert log.written == ["warning: a warning"]


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    log = Log()
    log.see(moved(State.SUBMITTED, State.FAILED, "a", "one\r\x1b[2Jtwo\nthree\x1b]0;title\x07"))
    assert log.written == ["a failed: one two three"]


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("closed file")])
def test_a_log_that_is_gone_does_not_stop_the_run(error: Exception) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise error

    tally = Tally({State.PENDING: 1}, started_at=START)
    with PlainLines(tally, Heading(("animals",)), stream=Gone()) as lines:
        lines.see(Draining("interrupted"))
    assert tally.at(START).draining == "interrupted"
