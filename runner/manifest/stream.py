"""The second pass over a manifest: entries become plans, rows become jobs, faults are listed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.documents import Located, Place, ProblemList, kind_of, validation_problems
from runner.errors import InputError, Problem
from runner.job import Job
from runner.manifest.batch import Batch, ExpansionError, Origin
from runner.manifest.definitions import Entry
from runner.manifest.expansion import Plan
from runner.manifest.inputs import is_file, is_prompt_file, names_of, parameter_for
from runner.manifest.paths import is_pattern, matches, no_match
from runner.manifest.prompt_file import PromptFile
from runner.manifest.rows import Row


class JobStream:
    """Makes the jobs of one entry after the other, counting their places in the manifest."""

    def __init__(self, batch: Batch, path: Path, problems: ProblemList) -> None:
        self._batch = batch
        self._folder = path.parent
        self._origin = Origin(batch.shown, batch.shown)
        self._problems = problems
        self._index = 0
        header = batch.header
        self._has_prompt = "prompt" in header.params or "prompt" in header.matrix
        # All entries that are a bare prompt share one plan.
        self._bare_plan = Plan(batch, Entry.model_validate({}), Place(1), self._origin)

    def jobs_of(self, located: Located) -> Iterator[Job]:
        """The jobs of one entry; what is wrong with it goes to the problems."""
        if isinstance(located.value, str):
            yield from self._row_jobs(self._bare_plan, Row(located.place.line, located.value))
            return
        entry = self._entry(located)
        if entry is None:
            return
        try:
            if (pattern := self._pattern_of(entry)) is not None:
                yield from self._input_jobs(entry, located.place, *pattern)
            elif entry.file is not None:
                yield from self._file_jobs(entry, located.place, entry.file)
            else:
                plan = Plan(self._batch, entry, located.place, self._origin)
                yield from self._row_jobs(plan, Row(located.place.line, entry.prompt, entry.id))
        except ExpansionError as error:
            self._problems.add(error.problem, error.same_as)
        except InputError as error:
            self._problems.extend(error.problems)

    def _file_jobs(self, entry: Entry, place: Place, file: str) -> Iterator[Job]:
        try:
            prompts = PromptFile.locate(self._folder, file)
        except ValueError as error:
            line = place.line_of(("file",))
            self._problems.add(Problem(self._batch.shown, str(error), line, "file"))
            return
        plan = Plan(self._batch, entry, place, Origin(prompts.shown, prompts.given))
        needed = entry.prompt is None and not entry.params and not self._has_prompt
        empty = True
        for row in prompts.rows(entry, self._problems, prompt_needed=needed):
            empty = False
            yield from self._row_jobs(plan, row)
        if empty and len(self._problems) == 0:
            self._problems.add(Problem(prompts.shown, "holds no prompts"))

    def _pattern_of(self, entry: Entry) -> tuple[str, str] | None:
        """The parameter that takes the files of an entry and the pattern or file that names them."""
        if entry.file is not None and not is_prompt_file(entry.file):
            return parameter_for(entry.file), entry.file
        for name, value in entry.params.items():
            if is_file(value) and is_pattern(self._folder, value["file"]):
                return name, value["file"]
        return None

    def _input_jobs(self, entry: Entry, place: Place, name: str, pattern: str) -> Iterator[Job]:
        """A job for each file that matches; without a pattern there is the one."""
        path = ("file",) if entry.file is not None else ("params", name)
        files = [pattern]
        try:
            if is_pattern(self._folder, pattern):
                files = matches(self._folder, pattern)
                if not files:
                    raise ValueError(no_match(self._folder, pattern))
        except ValueError as error:
            problem = Problem(self._batch.shown, str(error), place.line_of(path), ".".join(path))
            self._problems.add(problem)
            return
        plan = Plan(self._batch, entry, place, self._origin)
        for file in files:
            names = names_of(file)
            params = {name: {"file": file}}
            line = place.line_of(path)
            yield from self._row_jobs(
                plan, Row(line, params=params, columns=names, meta=names, source=file)
            )

    def _row_jobs(self, plan: Plan, row: Row) -> Iterator[Job]:
        try:
            index = self._index
            for job in plan.jobs(row, index):
                self._index = job.index + 1
                yield job
        except ExpansionError as error:
            self._problems.add(error.problem, error.same_as)

    def _entry(self, located: Located) -> Entry | None:
        value, place = located.value, located.place
        if not isinstance(value, dict):
            hint = "; a prompt that reads as one goes in quotes" if value is not None else ""
            self._fault(place, f"an entry must be a text or a mapping, not {kind_of(value)}{hint}")
            return None
        value = {key: item for key, item in value.items() if item is not None}
        try:
            entry = Entry.model_validate(value)
        except ValidationError as error:
            found = validation_problems(error, Entry, self._batch.shown, place)
            self._problems.extend(_explain_colon(problem, value) for problem in found)
            return None
        fault = _entry_fault(entry) or self._input_fault(entry)
        if fault is not None:
            self._fault(place, *fault)
        return None if fault else entry

    def _input_fault(self, entry: Entry) -> tuple[str, str | None] | None:
        """What is wrong with the files to send that an entry names: message and key."""
        patterns = [
            name
            for name, value in entry.params.items()
            if is_file(value) and is_pattern(self._folder, value["file"])
        ]
        if len(patterns) > 1:
            return f"`{patterns[0]}` and `{patterns[1]}` both have a pattern; one can", "params"
        if entry.file is None:
            return None
        if is_prompt_file(entry.file):
            one = "a pattern cannot be crossed with a file of prompts"
            return (one, "params") if patterns else None
        name = parameter_for(entry.file)
        if entry.columns:
            named = f"`params: {{init_image: {{file: {entry.file}}}}}`"
            return f"`columns` describe a file of prompts; {named} names the parameter", "columns"
        if name in entry.params or patterns:
            return f"`file` is the parameter `{name}`, and `params` has its own", "file"
        return None

    def _fault(self, place: Place, message: str, key: str | None = None) -> None:
        line = place.line_of((key,)) if key else place.line
        self._problems.add(Problem(self._batch.shown, message, line, key))


def _entry_fault(entry: Entry) -> tuple[str, str | None] | None:
    """What is wrong with an entry as a whole: message and key."""
    if entry.prompt is not None and "prompt" in entry.params:
        return "the prompt is given twice, here and in `params`", "prompt"
    if entry.file is None:
        if entry.columns:
            return "`columns` describe a `file`, and there is none", "columns"
        if entry.prompt is None and not entry.params:
            return "an entry needs a prompt, params or a file", None
    elif entry.prompt is not None and "prompt" in entry.columns.values():
        return "the entry has its own `prompt`, so no column can be it", "columns"
    elif entry.id is not None and "id" in entry.columns.values():
        return "the entry has its own `id`, so no column can be it", "columns"
    return None


def _explain_colon(problem: Problem, value: dict[str, Any]) -> Problem:
    # `- a lighthouse: at dusk` reads as a mapping.
    if len(value) == 1 and problem.message.startswith("unknown key `") and " " in next(iter(value)):
        message = f"{problem.message}; a prompt that holds a `: ` goes in quotes"
        return Problem(problem.file, message, problem.line, problem.column)
    return problem
