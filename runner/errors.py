"""Everything that can go wrong for a user, each with the exit status it leads to.

RunnerError
├── UsageError            2  the command line cannot be carried out as given
├── InputError            2  a manifest or config is wrong; lists every Problem found
├── MissingKeyError       2  no API key was given
├── StoppedEarly          3  work is left; run again to go on
├── KeyRefused            4  the API answered 401
├── LedgerError           2  the ledger cannot be used as it is
│   ├── LedgerTooNew         a newer program wrote it
│   └── LedgerUnreadable     not a ledger, damaged, or read-only
└── LedgerBusy           75  another run holds the ledger
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EXIT_OK = 0
EXIT_UNSAVED = 1
EXIT_USAGE = 2
EXIT_STOPPED_EARLY = 3
EXIT_KEY_REFUSED = 4
EXIT_INTERNAL = 70
EXIT_LEDGER_BUSY = 75


class RunnerError(Exception):
    """Base of all errors a user can meet; its text is a whole sentence with the next step."""

    exit_code = EXIT_USAGE


class UsageError(RunnerError):
    """The command line cannot be carried out as given."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an input file: where it is and what to do about it."""

    file: str
    message: str
    line: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return (
            f"{place}: {self.column}: {self.message}" if self.column else f"{place}: {self.message}"
        )


class InputError(RunnerError):
    """A manifest or config is wrong; `problems` lists every fault found, in file order."""

    def __init__(self, problems: Iterable[Problem], *, more: bool = False) -> None:
        self.problems = tuple(problems)
        self.more = more
        lines = [str(problem) for problem in self.problems]
        if more:
            lines.append(f"… and more; the first {len(self.problems)} are shown")
        super().__init__("\n".join(lines))


class MissingKeyError(RunnerError):
    """No API key was given."""


class StoppedEarly(RunnerError):
    """Work is left; running again goes on with it."""

    exit_code = EXIT_STOPPED_EARLY


class KeyRefused(RunnerError):
    """The API answered 401: nothing more is sent."""

    exit_code = EXIT_KEY_REFUSED


class LedgerError(RunnerError):
    """The ledger cannot be used as it is."""


class LedgerTooNew(LedgerError):
    """A newer program wrote this ledger."""


class LedgerUnreadable(LedgerError):
    """The file is not a ledger, is damaged, or cannot be written."""


class LedgerBusy(RunnerError):
    """Another run holds this ledger."""

    exit_code = EXIT_LEDGER_BUSY


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a run, as one that a person can read where there is one."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return first_error(error)
        if isinstance(error, LedgerError):
            return StoppedEarly(str(error))
        if isinstance(error, RunnerError):
            return error
    return errors.exceptions[0]
