"""The closing summary of a run: what happened, what it cost, where it is, what needs attention."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.errors import EXIT_KEY_REFUSED
from runner.job import IN_FLIGHT_STATES, State
from runner.report.words import dollars, duration, printable

TOP_CAUSES = 5

NEEDS: Mapping[State, str] = {
    State.FAILED: "the API could not make them, or their attempts are used up",
    State.BLOCKED: "the content filter refused them; the same prompt is likely refused again",
    State.INVALID: "their parameters were refused; correct them in the manifest, then run it",
    State.EXPIRED: "their results were gone before they could be fetched; retrying pays again",
    State.IN_DOUBT: "their submit may have been accepted; retrying may pay twice",
}
"""What a person should know about jobs that ended short of saved, in the order it is shown."""

Span = tuple[str, str]
"""A piece of text and its style."""
Line = list[Span]


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """How the jobs of one manifest stand; `files` is the number of saved files."""

    name: str
    total: int
    states: Mapping[State, int]
    spent: float = 0.0
    files: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended, and what its hints' commands take, ready for a shell.

    `arguments` are the manifests, `options` those of every command, `run_options` only `run`'s.
    """

    manifests: tuple[ManifestSummary, ...]
    output: str
    ledger: str
    exit_code: int
    stopped: str | None = None
    saved_run: int = 0
    spent_run: float = 0.0
    elapsed_s: float = 0.0
    requests: Mapping[str, int] = field(default_factory=dict)
    causes: tuple[tuple[State, str, int], ...] = ()
    simulated: bool = False
    arguments: str = ""
    options: str = ""
    run_options: str = ""

    @property
    def states(self) -> Mapping[State, int]:
        """Counts by state over all manifests."""
        counts: Counter[State] = Counter()
        for manifest in self.manifests:
            counts.update(manifest.states)
        return counts

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(manifest.total for manifest in self.manifests)

    @property
    def spent(self) -> float:
        """What the manifests have cost so far, this run included."""
        return math.fsum(manifest.spent for manifest in self.manifests)


def summary_json(summary: Summary) -> dict[str, Any]:
    """The summary as `run --json` writes it; states without jobs are left out."""
    return {
        "manifests": [manifest_json(manifest) for manifest in summary.manifests],
        "total": summary.total,
        "states": states_json(summary.states),
        "spent": round(summary.spent, 6),
        "exit": summary.exit_code,
        "spent_run": round(summary.spent_run, 6),
        "saved_run": summary.saved_run,
        "output": summary.output,
        "requests": {str(call): count for call, count in summary.requests.items()},
        "elapsed_s": round(summary.elapsed_s, 3),
        "stopped": summary.stopped,
        "ledger": summary.ledger,
        "simulated": summary.simulated,
        "causes": [
            {"state": str(state), "reason": reason, "count": count}
            for state, reason, count in summary.causes
        ],
    }


def render_summary(summary: Summary, width: int = 80, *, colour: bool = False) -> str:
    """The summary for people, ending in a line break; paths and commands are never cut."""
    # Rich takes its time to import, and the JSON side does without it.
    from io import StringIO

    from rich.console import Console
    from rich.text import Text

    console = Console(
        file=StringIO(),
        width=max(width, 20),
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
    )
    with console.capture() as capture:
        for line in _lines(summary, max(width, 20)):
            console.print(Text.assemble(*line), soft_wrap=True, highlight=False)
    return capture.get()


def manifest_json(manifest: ManifestSummary) -> dict[str, Any]:
    """The counts of one manifest as commands write them."""
    return {
        "name": manifest.name,
        "total": manifest.total,
        "states": states_json(manifest.states),
        "spent": round(manifest.spent, 6),
        "files": manifest.files,
    }


def states_json(states: Mapping[State, int]) -> dict[str, int]:
    """The counts in the order of the states; those without jobs are left out."""
    return {state.value: count for state in State if (count := states.get(state, 0))}


def _lines(summary: Summary, width: int) -> Iterator[Line]:
    saved = summary.states.get(State.SAVED, 0)
    if saved == summary.total and not summary.saved_run and not summary.stopped:
        yield [*_badge(summary), *_nothing_to_do(summary)]
        return
    yield [*_badge(summary), *_headline(summary, saved)]
    if len(summary.manifests) > 1:
        yield []
        yield from map(_manifest_line, summary.manifests)
    yield []
    yield from _facts(summary)
    attention = list(_attention(summary, width))
    if attention:
        yield []
        yield [("What is left to do" if summary.stopped else "What needs attention", "bold")]
        yield from attention


def _badge(summary: Summary) -> Line:
    return [("SIMULATED", "black on yellow"), (" ", "")] if summary.simulated else []


def _nothing_to_do(summary: Summary) -> Line:
    if not summary.total:
        return [("no jobs in ", ""), (_names(summary), "bold"), (" — nothing to do", "")]
    folder = printable(summary.output).rstrip("/") + "/"
    which = "the 1 job is" if summary.total == 1 else f"all {summary.total:,} jobs are"
    return [(f"{which} saved in ", "green"), (folder, "bold"), (" — nothing to do", "")]


def _headline(summary: Summary, saved: int) -> Line:
    share = f"{saved:,} of {summary.total:,} jobs saved"
    if summary.stopped:
        return [("stopped early: ", "bold yellow"), (f"{printable(summary.stopped)} — {share}", "")]
    if saved == summary.total:
        return [(f"all {saved:,} jobs saved" if saved != 1 else "the 1 job is saved", "bold green")]
    return [(share, "bold yellow")]


def _names(summary: Summary) -> str:
    return printable(", ".join(manifest.name for manifest in summary.manifests))


def _manifest_line(manifest: ManifestSummary) -> Line:
    saved = manifest.states.get(State.SAVED, 0)
    line: Line = [
        (f"  {printable(manifest.name)}  ", "bold"),
        (f"{saved:,} of {manifest.total:,} saved", "green" if saved == manifest.total else ""),
    ]
    for state, count in states_json(manifest.states).items():
        if state != State.SAVED:
            line.append((f", {count:,} {state.replace('_', ' ')}", ""))
    return [*line, (f"  {dollars(manifest.spent)}", "dim")]


def _facts(summary: Summary) -> Iterator[Line]:
    pace = f"{summary.saved_run:,} saved in {duration(summary.elapsed_s)}"
    yield _fact("this run", pace)
    money = f"{dollars(summary.spent_run)} this run, {dollars(summary.spent)} in all"
    yield _fact("cost", f"nothing: simulated ({money})" if summary.simulated else money)
    kinds = ", ".join(f"{count:,} {call}" for call, count in summary.requests.items() if count)
    total = sum(summary.requests.values())
    yield _fact("requests", f"{total:,} ({kinds}){_savings(summary)}" if kinds else "none")
    files = sum(manifest.files for manifest in summary.manifests)
    yield _fact("files", f"{files:,} in {printable(summary.output).rstrip('/')}/")
    yield _fact("ledger", printable(summary.ledger))


def _savings(summary: Summary) -> str:
    """What it has saved to ask for results at once, against a status and a result for each job."""
    asked = sum(summary.requests.get(call, 0) for call in ("status", "result", "history"))
    fewer = 2 * summary.saved_run - asked
    return f", {fewer:,} fewer than with a status for each job" if fewer > 0 else ""


def _fact(label: str, text: str) -> Line:
    return [(f"  {label:<10}", "dim"), (text, "")]


def _attention(summary: Summary, width: int) -> Iterator[Line]:
    states = summary.states
    if summary.exit_code == EXIT_KEY_REFUSED:
        yield [("  the API refused the key", "bold red"), (": check SEGMIND_API_KEY, then", "")]
        yield _shell_line(["runner", "doctor", summary.options])
    largest = sorted(summary.causes, key=lambda cause: -cause[2])
    for state, meaning in NEEDS.items():
        if not (count := states.get(state, 0)):
            continue
        yield [(f"  {count:,} {state.value.replace('_', ' ')}", "bold"), (f": {meaning}", "")]
        yield from _cause_lines(state, largest, width)
        yield _command("jobs", summary, f"--state {state.value}")
        if state is State.INVALID:
            yield _command("run", summary)
        else:
            yield _command("retry", summary, f"--state {state.value}")
    if left := _left(states):
        yield [(f"  {left}", "bold"), (": run again to go on", "")]
        yield _command("run", summary)
    elif any(states.get(state) for state in NEEDS if state is not State.INVALID):
        yield [("  after a retry", "bold"), (", run them", "")]
        yield _command("run", summary)


def _cause_lines(state: State, largest: list[tuple[State, str, int]], width: int) -> Iterator[Line]:
    of_state = [cause for cause in largest if cause[0] is state]
    # The largest of all states, but of each state at least its own largest.
    shown = [cause for cause in largest[:TOP_CAUSES] if cause[0] is state] or of_state[:1]
    for _, reason, count in shown:
        text = f"    {count:,} × {printable(reason) or 'no reason given'}"
        yield [(_cut(text, width), "red")]
    if hidden := len(of_state) - len(shown):
        yield [(f"    … {hidden:,} more reason{'s' if hidden > 1 else ''}", "dim")]


def _cut(text: str, width: int) -> str:
    from rich.cells import cell_len, chop_cells

    return text if cell_len(text) <= width else chop_cells(text, width - 1)[0] + "…"


def _left(states: Mapping[State, int]) -> str:
    counts = {
        "not submitted yet": states.get(State.PENDING, 0),
        "in flight": sum(states.get(state, 0) for state in IN_FLIGHT_STATES),
        "to download": states.get(State.COMPLETED, 0),
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _command(verb: str, summary: Summary, option: str = "") -> Line:
    parts = ["runner", verb, summary.arguments, summary.options, option]
    if verb == "run":
        parts.append(summary.run_options)
    return _shell_line(parts)


def _shell_line(parts: Iterable[str]) -> Line:
    return [("      " + " ".join(printable(part) for part in parts if part), "cyan")]
