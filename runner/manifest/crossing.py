"""Crossing: every matrix combination with the values of just those vars that it refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from runner.manifest.template import names_in


@dataclass(frozen=True, slots=True)
class Choice:
    """One value for each var that is referred to, and one for each axis of the matrix."""

    vars: Mapping[str, Any]
    axes: Mapping[str, Any]


_ONLY_CHOICE = Choice({}, {})


def choices(
    vars_: Mapping[str, tuple[Any, ...]],
    matrix: Mapping[str, tuple[Any, ...]],
    names: set[str],
) -> Iterator[Choice]:
    """Every combination in written order, the matrix turning fastest.

    `names`: what the job refers to whatever the matrix says. A var is left out of a combination
    in which nothing refers to it.
    """
    if not matrix and names.isdisjoint(vars_):
        yield _ONLY_CHOICE
        return
    used = names.union(names_in_matrix(matrix))
    crossed = [name for name in vars_ if name in used]
    for picks in product(*(enumerate(vars_[name]) for name in crossed)):
        pairs = list(zip(crossed, picks, strict=True))
        for values in product(*matrix.values()):
            needed = names.union(names_in(values))
            # Beyond its first value, a var that is not needed would only repeat the same job.
            if all(pick == 0 or name in needed for name, (pick, _) in pairs):
                chosen = {name: value for name, (_, value) in pairs if name in needed}
                yield Choice(chosen, dict(zip(matrix, values, strict=True)))


def names_in_matrix(matrix: Mapping[str, tuple[Any, ...]]) -> tuple[str, ...]:
    """Every name that some value of the matrix refers to."""
    return names_in(dict(matrix)) if matrix else ()
