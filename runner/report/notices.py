"""What people are told who are not there: how a run ended, or why it pauses, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.errors import EXIT_KEY_REFUSED, EXIT_OK
from runner.job import State
from runner.notify import Mood, Notice
from runner.report.summary import Summary
from runner.report.words import dollars, duration, printable

# A reason may quote what the API said; a message shows the beginning of it.
LONGEST_REASON = 160


@dataclass(frozen=True, slots=True)
class Sender:
    """Which run speaks: its manifests' names, the computer, whether it is simulated."""

    names: Sequence[str]
    host: str
    simulated: bool = False

    def title(self, what: str) -> str:
        """A message's first line."""
        sign = "SIMULATED " if self.simulated else ""
        return f"{sign}runner: {printable(', '.join(self.names))}: {what}"


def ended_notice(sender: Sender, summary: Summary, failures: Sequence[str] = ()) -> Notice:
    """How a run ended; `failures` are lines about single jobs, for those who may read prompts."""
    saved = summary.states.get(State.SAVED, 0)
    if not summary.saved_run and not summary.stopped and saved == summary.total:
        what = f"nothing to do, all {saved:,} jobs are saved"
    elif summary.stopped or summary.exit_code == EXIT_KEY_REFUSED:
        what = f"stopped early, {saved:,} of {summary.total:,} jobs saved"
    elif summary.exit_code == EXIT_OK:
        what = f"all {saved:,} jobs saved"
    else:
        what = f"{saved:,} of {summary.total:,} jobs saved"
    mood: Mood = "success" if summary.exit_code == EXIT_OK else "warning"
    body = [_cut(summary.stopped)] if summary.stopped else []
    others = [
        f"{count:,} {state.replace('_', ' ')}"
        for state in State
        if state is not State.SAVED and (count := summary.states.get(state, 0))
    ]
    body += [", ".join(others)] if others else []
    body.append(f"this run: {summary.saved_run:,} saved in {duration(summary.elapsed_s)}")
    body.append(f"cost: {dollars(summary.spent_run)} this run, {dollars(summary.spent)} in all")
    body.append(f"on {sender.host}, exit status {summary.exit_code}")
    return Notice(sender.title(what), "\n".join([*body, *failures]), mood)


def failed_notice(sender: Sender, error: str) -> Notice:
    """That a run was ended by something that it could not go on with."""
    body = f"{_cut(error)}\nnothing is lost; run it again\non {sender.host}"
    return Notice(sender.title("ended by an error"), body, "failure")


def paused_notice(sender: Sender, reason: str) -> Notice:
    """That a run waits, and for what."""
    body = f"{_cut(reason)}\nit goes on by itself\non {sender.host}"
    return Notice(sender.title("pauses"), body, "warning")


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
