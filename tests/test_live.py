"""What the live display shows at any width, and that it never disturbs the run."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from runner.cli.frame import View, render, share_out
from runner.cli.live import LiveDisplay, can_show
from runner.events import Draining, Event, Held, Moved, Noted
from runner.job import State
from runner.report.tally import Failure, Heading, Progress, Tally

WIDTHS = [20, 40, 60, 80, 200]
HEADING = Heading(("animals", "products"), simulated=True, concurrency=16)
MID_RUN = Progress(
    now=1_760_000_000.0,
    elapsed_s=2530,
    counts={
        State.PENDING: 351,
        State.SUBMITTING: 1,
        State.SUBMITTED: 11,
        State.COMPLETED: 2,
        State.SAVED: 618,
        State.FAILED: 12,
        State.BLOCKED: 3,
        State.IN_DOUBT: 2,
    },
    saved_run=318,
    spent_run=6.36,
    spent_before=12.4,
    requests_last_minute=41,
    rpm=50,
    rate_limited=2,
    hold_s=12.2,
    hold_reason="the API asked for a pause",
    failures=(
        Failure("fox-0412", State.FAILED, "the worker ran out of memory " * 10),
        Failure("狐" * 30, State.BLOCKED, "content filter"),
    ),
    saved_per_minute=14.3,
    eta_s=1530,
)
EVERYTHING = replace(MID_RUN, draining="interrupted")


def frame(
    progress: Progress, width: int, *, heading: Heading = HEADING, plain: bool = False
) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(render(View(heading, progress, plain), width))
    return capture.get()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("plain", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, plain: bool) -> None:
    lines = frame(EVERYTHING, width, plain=plain).splitlines()
    assert max(map(cell_len, lines)) <= width
    # A line that wrapped would add to the frame's height.
    assert len(lines) == len(render(View(HEADING, EVERYTHING, plain), width).renderables)


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize(
    "text",
    [
        "runner  animals, products",
        "SIMULATED",
        " 63 %",
        "618 saved",
        "12/16 in flight",
        "2 to download",
        "351 pending",
        "12 failed",
        "3 blocked",
        "2 in doubt",
        "14.3 jobs/min",
        "req 41/50 this minute",
        "2 refused (429)",
        "$6.36 this run",
        "$18.76 in all",
        "42 min 10 s elapsed",
        "about 26 min left",
        "12 s: the API asked for a pause",
        "interrupted",
        "finishing 12 in flight, Ctrl-C again to stop now",
        "fox-0412",
    ],
)
def test_a_frame_tells_how_the_run_stands(width: int, text: str) -> None:
    assert text in frame(EVERYTHING, width)


def test_a_real_run_wears_no_badge() -> None:
    assert "SIMULATED" not in frame(MID_RUN, 80, heading=Heading(("animals",)))


def test_an_unknown_rate_is_not_made_up() -> None:
    assert "req 41 in the last minute" in frame(replace(MID_RUN, rpm=None), 80)


def test_an_unknown_time_left_is_not_made_up() -> None:
    assert "time left not known yet" in frame(replace(MID_RUN, eta_s=None), 80)


def test_the_run_is_at_a_hundred_percent_only_when_all_is_settled() -> None:
    nearly = replace(MID_RUN, counts={State.SAVED: 9_999, State.SUBMITTED: 1})
    assert " 99 %" in frame(nearly, 80)
    assert "100 %" in frame(replace(MID_RUN, counts={State.SAVED: 10_000}), 80)


def test_a_run_without_jobs_has_a_frame() -> None:
    assert "0 saved" in frame(Progress(now=0.0, elapsed_s=0.0, counts={}), 60)


def test_the_bar_tells_the_states_apart_without_colour() -> None:
    bar = frame(MID_RUN, 80).splitlines()[1]
    assert [mark for mark in "━×╍─" if mark in bar] == list("━×╍─")


def test_a_terminal_of_ascii_gets_ascii() -> None:
    progress = replace(EVERYTHING, failures=MID_RUN.failures[:1])
    assert all(frame(progress, width, plain=True).isascii() for width in (60, 80, 200))


@pytest.mark.parametrize(
    ("counts", "cells", "shares"),
    [
        ([50, 50], 10, [5, 5]),
        ([999_999, 1], 10, [9, 1]),
        ([1, 0, 2], 9, [3, 0, 6]),
        ([0, 0], 10, [0, 10]),
        ([1, 1, 1, 1], 2, [0, 0, 1, 1]),
    ],
)
def test_whatever_there_is_has_a_place_in_the_bar(
    counts: list[int], cells: int, shares: list[int]
) -> None:
    assert share_out(counts, cells) == shares


def test_text_from_outside_is_shown_as_text() -> None:
    hostile = Failure("[red]id[/red]", State.FAILED, "[bold]x[/bold]\x1b[2J\r\nnext\x07\u202eline")
    shown = frame(replace(MID_RUN, failures=(hostile,), hold_reason="[/]\x1b[H"), 200)
    assert "[red]id[/red]" in shown
    assert "[bold]x[/bold] next line" in shown
    assert "[/]" in shown
    assert "\x1b" not in shown


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true before patience ends."""
    patience_ends = time.monotonic() + 3
    while not condition() and time.monotonic() < patience_ends:
        time.sleep(0.01)
    return condition()


class Terminal:
    """A live display on a string that calls itself a terminal."""

    def __init__(self, width: int = 80) -> None:
        self.stream = io.StringIO()
        self.console = Console(
            file=self.stream,
            force_terminal=True,
            width=width,
            height=40,
            _environ={"TERM": "xterm"},
        )
        self.tally = Tally({State.PENDING: 12}, started_at=time.time())
        self.display = LiveDisplay(self.tally, HEADING, console=self.console)

    def show(self, *events: Event) -> str:
        with self.display:
            for event in events:
                self.display.see(event)
        return self.stream.getvalue()


def test_the_display_follows_the_events() -> None:
    terminal = Terminal()
    with terminal.display:
        terminal.display.see(Held(time.time() + 60, "rate limit"))
        terminal.display.see(Draining("interrupted"))
        terminal.display.see(Moved("a", "animals", "m", State.PENDING, State.SUBMITTING))
        shown = terminal.stream.getvalue
        assert wait_until(lambda: "1/16 in flight" in shown())
        assert "rate limit" in shown()
        assert "interrupted" in shown()


def test_notes_stay_above_the_display_as_text() -> None:
    shown = Terminal().show(Noted("[b]careful[/b]", warning=True), Noted("all is well"))
    assert "[b]careful[/b]" in shown
    assert "all is well" in shown


def test_the_display_leaves_nothing_behind() -> None:
    shown = Terminal().show()
    # The last thing written is an empty frame, over the erased one.
    assert "runner" not in shown[shown.rindex("\x1b[1A\x1b[2K\x1b[1A") :]


def test_the_cursor_comes_back() -> None:
    assert Terminal().show().rindex("\x1b[?25h") > 0


def test_a_narrower_window_is_wiped_of_what_it_wrapped() -> None:
    terminal = Terminal(width=80)
    with terminal.display:
        drawn = frame(terminal.tally.at(time.time()), 80).splitlines()
        wrapped = sum(cell_len(line) > 50 for line in drawn)
        terminal.console.width = 50
        # A redraw goes up a line for each line but the first; this one for the wrapped ones too.
        up = "\x1b[2K\x1b[1A" * wrapped + "\r"
        assert wrapped >= 2
        assert wait_until(lambda: up in terminal.stream.getvalue())


def test_a_terminal_that_is_gone_does_not_stop_the_run() -> None:
    terminal = Terminal()

    def gone(_: str) -> int:
        raise OSError(5, "Input/output error")

    with terminal.display:
        terminal.stream.write = gone  # type: ignore[method-assign]
        terminal.display.see(Draining("hangup"))
    assert terminal.tally.at(time.time()).draining == "hangup"


def test_stopping_twice_is_stopping_once() -> None:
    terminal = Terminal()
    terminal.show()
    terminal.display.stop()


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("file", "environment", "shown"),
    [
        (Screen(), {"TERM": "xterm"}, True),
        (Screen(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (io.StringIO(), {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
    ],
)
def test_only_a_real_terminal_gets_a_live_display(
    file: io.StringIO, environment: dict[str, str], shown: bool
) -> None:
    assert can_show(Console(file=file, _environ=environment)) is shown
