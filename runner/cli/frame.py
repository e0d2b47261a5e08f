"""One frame of the live display: how the jobs stand, the pace, the money, the last failures."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from runner.job import RETRYABLE_STATES, State
from runner.report.tally import Failure, Heading, Progress
from runner.report.words import dollars, duration, printable, roughly

REFRESH_S = 0.2
# Wider lines are harder to read than they are worth; only reasons use the whole width.
WIDEST = 110
LABEL_WIDTH = 12
CLOCK_TIME_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class Look:
    """How one part of the jobs is shown: its mark in the bar and in the counts, and its colour."""

    mark: str
    plain_mark: str
    style: str


SAVED = Look("━", "=", "green")
IN_FLIGHT = Look("╍", "~", "cyan")
COMPLETED = Look("╍", "~", "blue")
PENDING = Look("─", ".", "bright_black")
SHORT = Look("×", "x", "red")
LOOKS = {
    State.FAILED: SHORT,
    State.BLOCKED: Look("×", "x", "magenta"),
    State.INVALID: SHORT,
    State.EXPIRED: Look("×", "x", "yellow"),
    State.IN_DOUBT: Look("×", "x", "yellow"),
}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_SPINNER = "|/-\\"


@dataclass(frozen=True, slots=True)
class View:
    """All that a frame shows; `plain` for terminals that know ASCII only."""

    heading: Heading
    progress: Progress
    plain: bool = False


def render(view: View, width: int) -> Group:
    """One frame, no line of it wider than `width`."""
    frame = min(width, WIDEST)
    lines = [_title(view, frame), _bar(view, frame), *_jobs(view, frame), *_facts(view, frame)]
    lines += [*_hold(view), *_draining(view), *_failures(view)]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="crop" if view.plain else "ellipsis")
    return Group(*lines)


def _title(view: View, frame: int) -> Text:
    spinner = PLAIN_SPINNER if view.plain else SPINNER
    sign = spinner[int(view.progress.now / REFRESH_S) % len(spinner)]
    badge = Text(" SIMULATED ", style="bold black on yellow") if view.heading.simulated else Text()
    title = Text.assemble((f"{sign} ", "cyan"), ("runner", "bold"), ("  ", ""))
    title.append(printable(", ".join(view.heading.names)))
    title.truncate(max(8, frame - badge.cell_len - 1), overflow="ellipsis")
    title.append(" " * max(1, frame - title.cell_len - badge.cell_len) if badge else "")
    return title.append_text(badge)


def _bar(view: View, frame: int) -> Text:
    progress = view.progress
    counts = progress.counts
    parts = [(SAVED, counts.get(State.SAVED, 0))]
    parts += [(look, counts.get(state, 0)) for state, look in LOOKS.items()]
    parts.append((COMPLETED, counts.get(State.COMPLETED, 0)))
    parts.append((IN_FLIGHT, progress.in_flight))
    parts.append((PENDING, counts.get(State.PENDING, 0)))
    percent = f" {progress.settled * 100 // max(progress.total, 1):3} %"
    cells = share_out([count for _, count in parts], max(1, frame - len(percent)))
    bar = Text()
    for (look, _), length in zip(parts, cells, strict=True):
        bar.append(_mark(look, view) * length, style=look.style)
    return bar.append(percent, style="bold")


def share_out(counts: list[int], cells: int) -> list[int]:
    """Divide `cells` by `counts`; whatever there is at all gets one cell, if they are enough."""
    total = sum(counts)
    if not total:
        return [0] * (len(counts) - 1) + [cells]
    shares = [max(1, count * cells // total) if count else 0 for count in counts]
    # What rounding left over or took too much goes to, or comes from, the longest part.
    while (missing := cells - sum(shares)) != 0:
        longest = shares.index(max(shares))
        shares[longest] += missing if missing > 0 else -1
    return shares


def _mark(look: Look, view: View) -> str:
    return look.plain_mark if view.plain else look.mark


def _jobs(view: View, frame: int) -> list[Text]:
    progress, limit = view.progress, view.heading.concurrency
    counts = progress.counts
    in_flight = f"{progress.in_flight:,}/{limit:,}" if limit else f"{progress.in_flight:,}"
    chips = [
        _chip(SAVED, f"{counts.get(State.SAVED, 0):,} saved", view),
        _chip(IN_FLIGHT, f"{in_flight} in flight", view),
    ]
    if completed := counts.get(State.COMPLETED):
        chips.append(_chip(COMPLETED, f"{completed:,} to download", view))
    chips.append(_chip(PENDING, f"{counts.get(State.PENDING, 0):,} pending", view))
    for state, look in LOOKS.items():
        if count := counts.get(state):
            chips.append(_chip(look, f"{count:,} {_word(state)}", view))
    return _row("jobs", chips, frame)


def _chip(look: Look, text: str, view: View) -> Text:
    return Text.assemble((_mark(look, view), look.style), " ", (text, look.style))


def _word(state: State) -> str:
    return state.value.replace("_", " ")


def _facts(view: View, frame: int) -> list[Text]:
    progress = view.progress
    pace = [Text(f"{progress.saved_per_minute:.1f} jobs/min"), *_requests(progress)]
    money = [Text(f"{dollars(progress.spent_run)} this run", style="bold")]
    if progress.spent_before:
        money.append(Text(f"{dollars(progress.spent)} in all"))
    clock = [Text(f"{duration(progress.elapsed_s)} elapsed"), *_eta(progress)]
    if view.heading.deadline:
        clock.append(Text(view.heading.deadline))
    return [
        *_row("pace", pace, frame),
        *_row("money", money, frame),
        *_row("time", clock, frame),
    ]


def _requests(progress: Progress) -> list[Text]:
    used = progress.requests_last_minute
    if progress.rpm is None:
        chips = [Text(f"req {used:,} in the last minute")]
    else:
        style = "yellow" if used >= progress.rpm else ""
        chips = [Text(f"req {used:,}/{progress.rpm:,} this minute", style=style)]
    if progress.rate_limited:
        chips.append(Text(f"{progress.rate_limited:,} refused (429)", style="yellow"))
    return chips


def _eta(progress: Progress) -> list[Text]:
    if progress.eta_s is None:
        return [Text("time left not known yet", style="bright_black")]
    if not progress.eta_s:
        return []
    left = f"about {roughly(progress.eta_s)} left"
    if progress.eta_s >= CLOCK_TIME_AFTER_S:
        left += time.strftime(" (%H:%M)", time.localtime(progress.now + progress.eta_s))
    return [Text(left, style="bold")]


def _row(label: str, chips: Iterable[Text], frame: int) -> list[Text]:
    """Chips after a label, on as many lines as they need."""
    lines = [_label(label)]
    is_first = True
    for chip in chips:
        if not is_first and lines[-1].cell_len + 3 + chip.cell_len > frame:
            lines.append(_label(""))
        elif not is_first:
            lines[-1].append("   ")
        lines[-1].append_text(chip)
        is_first = False
    return lines


def _label(label: str) -> Text:
    return Text.assemble((f"  {label:<{LABEL_WIDTH - 2}}", "bright_black"))


def _hold(view: View) -> list[Text]:
    progress = view.progress
    # A line that comes for an instant only makes the display jump.
    if progress.hold_s < 1:
        return []
    wait = f"{duration(progress.hold_s)}: {printable(progress.hold_reason)}"
    return [_label("waiting").append(wait, style="bold yellow")]


def _draining(view: View) -> list[Text]:
    progress = view.progress
    if progress.draining is None:
        return []
    what = f"finishing {progress.in_flight:,} in flight, Ctrl-C again to stop now"
    return [
        _label("stopping").append(printable(progress.draining), style="yellow"),
        _label("").append(what, style="bold yellow"),
    ]


def _failures(view: View) -> list[Text]:
    failures = view.progress.failures
    if not failures:
        return []
    ids = [printable(failure.job_id) for failure in failures]
    id_width = min(24, max(map(cell_len, ids)))
    heading = Text("  last failures", style="bright_black")
    return [Text(), heading, *(_failure(f, id_width, view) for f in failures)]


def _failure(failure: Failure, id_width: int, view: View) -> Text:
    look = LOOKS[failure.state]
    job_id = Text(printable(failure.job_id))
    job_id.truncate(id_width, overflow="ellipsis", pad=True)
    state_width = max(len(_word(state)) for state in RETRYABLE_STATES)
    line = Text.assemble("  ", (_mark(look, view), look.style), " ", job_id, "  ")
    line.append(f"{_word(failure.state):<{state_width}}", style=look.style)
    return line.append(f"  {printable(failure.reason)}")
