"""`python -m tests.simulation`: many nights, one night again, or the mutations.

python -m tests.simulation --nights 10000 --processes 2
python -m tests.simulation --seed 4711 --verbose
python -m tests.simulation --mutations
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .mutations import MUTATIONS, row_of
from .night import Told, play, play_all

BATCH = 50


def main() -> int:
    """Runs what was asked for; the exit status is 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--nights", type=int, default=1000, help="how many nights")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first one's seed")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, help="only this night")
    parser.add_argument("--verbose", action="store_true", help="with --seed: all that happens")
    parser.add_argument("--mutations", action="store_true", help="break each safeguard on purpose")
    asked = parser.parse_args()
    if asked.mutations:
        return _mutations(asked.processes)
    if asked.seed is not None:
        return _one(asked.seed, asked.verbose)
    return _many(range(asked.first, asked.first + asked.nights), asked.processes)


def _one(seed: int, verbose: bool) -> int:
    told = play(seed, _say if verbose else None)
    _tell(told)
    _say(f"night {seed}: {told.lives} lives, {told.kills} killed, {told.accepted} accepted POSTs,")
    _say(f"  {dict(told.states)}, fingerprint {told.fingerprint[:16]}")
    return 1 if told.violations else 0


def _many(seeds: range, processes: int) -> int:
    started = time.monotonic()
    sums: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for told in _played(seeds, processes):
        _tell(told)
        sums.update(
            nights=1,
            lives=told.lives,
            kills=told.kills,
            lost=told.lost,
            accepted=told.accepted,
            violated=bool(told.violations),
        )
        states.update(told.states)
    seconds = time.monotonic() - started
    _say(f"{sums['nights']:,} nights in {seconds:.0f} s, {sums['nights'] / seconds:.1f} a second")
    _say(f"{sums['lives']:,} lives, {sums['kills']:,} of them killed")
    _say(f"{sums['accepted']:,} accepted POSTs, {sums['lost']:,} lost answers")
    _say(", ".join(f"{count:,} {state}" for state, count in states.most_common()))
    _say(f"{sums['violated']:,} nights with violations")
    return 1 if sums["violated"] else 0


def _played(seeds: range, processes: int) -> Iterator[Told]:
    if processes == 1:
        yield from map(play, seeds)
        return
    batches = [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for told in pool.map(play_all, batches):
            yield from told


def _mutations(processes: int) -> int:
    """A table of what was broken, and which night noticed."""
    missed = 0
    _say("| broken safeguard | nights | what was noticed |")
    _say("|---|---:|---|")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        # In processes of their own, because each breaks the code that it plays with.
        for row, is_caught in pool.map(row_of, range(len(MUTATIONS))):
            missed += not is_caught
            _say(row)
    return 1 if missed else 0


def _tell(told: Told) -> None:
    for text in told.violations:
        _say(f"night {told.seed}: VIOLATION: {text}")
    if told.violations:
        _say(f"  again: python -m tests.simulation --seed {told.seed} --verbose")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
