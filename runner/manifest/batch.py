"""What the entries and rows of a manifest share, and the error of a row that makes no job."""

from __future__ import annotations

from dataclasses import dataclass

from runner.documents import Place
from runner.errors import Problem
from runner.manifest.definitions import Header
from runner.manifest.inputs import InputFiles
from runner.manifest.naming import OutputTemplate


class ExpansionError(Exception):
    """A row does not make a job; problems with the same `same_as` are one and the same."""

    def __init__(self, problem: Problem, same_as: object = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.same_as = same_as


@dataclass(frozen=True, slots=True)
class Batch:
    """What all entries of a manifest share; `shown` names the manifest in messages.

    `inputs`: the files that its parameters name.
    """

    name: str
    shown: str
    header: Header
    place: Place
    output: OutputTemplate
    inputs: InputFiles


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that rows come from, as messages show it and as jobs name it in `source`."""

    shown: str
    given: str

    def row_error(self, line: int, message: str, column: str | None = None) -> ExpansionError:
        """What is wrong with the row at a line of the file."""
        return ExpansionError(Problem(self.shown, message, line, column))

    def unsendable(self, line: int) -> ExpansionError:
        """That the row at a line holds what no request can carry."""
        message = "holds a value that cannot be sent: infinite, not a number, or half a character"
        return self.row_error(line, message)
