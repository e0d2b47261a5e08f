"""How a pace that was told no rate finds it: requests let through, refused, and the rate it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.accounts import Account, Client
from benchmarks.world import WindowKind
from runner.policy.pace import Pace

RPMS = (5, 60, 120, 300, 600, 1000)
# A window that began some time before the first request.
PHASE_S = 20.0


def learn(kind: WindowKind, rpm: int, seconds: float, seed: int, given: bool) -> Client:
    """A client that always has something to send, for so many seconds."""
    client = Client(Pace(rpm if given else None))
    Account(kind, rpm, PHASE_S, seed).run(seconds, [client])
    return client


def learning_table(jobs: int, seeds: Sequence[int], kinds: Sequence[WindowKind]) -> str:
    """One line for each rate and kind of window; `jobs` of two requests each make the short night."""
    heads = ("given", f"learned, {jobs} jobs", "learned, 2 hours")
    lines = [f"{'rpm':>5} {'window':8}" + "".join(f"{head:>26}" for head in heads) + "   found"]
    lines.append(f"{'':14}" + f"{'of bound    429s':>26}" * 3)
    for kind in kinds:
        for rpm in RPMS:
            short_s = 2 * jobs / rpm * 60
            columns = []
            for seconds, given in ((7200.0, True), (short_s, False), (7200.0, False)):
                clients = [learn(kind, rpm, seconds, seed, given) for seed in seeds]
                bound = rpm * seconds / 60
                share = median(len(client.passed) / bound for client in clients)
                refused = median(client.refused_share for client in clients)
                columns.append(f"{share:8.1%} {refused:7.2%}")
            rate = median(client.pace.rpm or 0 for client in clients)
            lines.append(
                f"{rpm:>5} {kind:8}" + "".join(f"{text:>26}" for text in columns) + f"{rate:8.0f}"
            )
    return "\n".join(lines)
