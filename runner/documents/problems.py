"""Faults, collected so that a person sees them all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from runner.errors import InputError, Problem

MOST_PROBLEMS = 20
"""So many faults are listed at once; what is beyond is only said to exist."""


class ProblemList:
    """Collects faults, each told once; raises InputError when the list is full or at `close`."""

    def __init__(self) -> None:
        self._problems: dict[object, Problem] = {}

    def add(self, problem: Problem, same_as: object = None) -> None:
        """Keeps a fault; one with the same `same_as` (default: the whole fault) is told once."""
        key = problem if same_as is None else same_as
        if key in self._problems:
            return
        if len(self._problems) == MOST_PROBLEMS:
            raise InputError(self._problems.values(), more=True)
        self._problems[key] = problem

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems.values())

    def extend(self, problems: Iterable[Problem]) -> None:
        """Keeps several faults."""
        for problem in problems:
            self.add(problem)

    def close(self) -> None:
        """Raises InputError if there was any fault, in the order of its lines."""
        if self._problems:
            problems = list(self._problems.values())
            if len({problem.file for problem in problems}) == 1:
                problems.sort(key=lambda problem: problem.line or 0)
            raise InputError(problems)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean …?` for the known word nearest to `word`, or nothing."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f", did you mean `{by_folded[near[0]]}`?" if near else ""
