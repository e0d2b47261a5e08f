"""A manifest: its header and files checked at once, its jobs streamed when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.documents import Located, ProblemList, YamlFile, kind_of, validation_problems
from runner.errors import InputError, Problem
from runner.job import Job
from runner.manifest import catalogue
from runner.manifest.batch import Batch
from runner.manifest.definitions import Header, name_fault
from runner.manifest.given import GivenDocument
from runner.manifest.inputs import InputFiles, Look
from runner.manifest.inputs import look as look_at
from runner.manifest.naming import NamingError, OutputTemplate
from runner.manifest.paths import matches
from runner.manifest.prompt_file import PromptFile
from runner.manifest.stream import JobStream
from runner.manifest.survey import Survey
from runner.manifest.template import texts_in

_FORMAT_VERSION = 2
"""Raised whenever the same files come to mean other jobs."""
GIVEN = "prompts"
"""What stands for the file in messages and sources where a manifest was given by a program."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose header is valid; `notes` are worth telling once."""

    name: str
    path: Path
    model: str
    notes: tuple[str, ...]
    _batch: Batch = field(repr=False)
    _prompt_files: tuple[PromptFile, ...] = field(repr=False)
    _patterns: tuple[str, ...] = field(repr=False)
    _document: YamlFile | GivenDocument = field(repr=False)

    def files(self) -> tuple[Path, ...]:
        """The manifest, where it is a file, and every prompt file, each once."""
        own = (self.path,) if isinstance(self._document, YamlFile) else ()
        return tuple(dict.fromkeys((*own, *(file.path for file in self._prompt_files))))

    def fingerprint(self) -> str:
        """SHA-256 in hex over the contents of all files and what patterns match.

        While it is the same, so are the jobs, but for the contents of the files that they send.
        """
        whole = hashlib.sha256(f"{_FORMAT_VERSION}\n{self.name}\n".encode())
        if isinstance(self._document, GivenDocument):
            whole.update(self._document.digest_text().encode())
        for path in self.files():
            try:
                with path.open("rb") as stream:
                    whole.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                message = f"cannot be read: {error.strerror or error}"
                raise InputError([Problem(str(path), message)]) from None
        for pattern in self._patterns:
            names = matches(self.path.parent, pattern)
            whole.update("\0".join(names).encode(errors="surrogateescape"))
        return whole.hexdigest()

    def jobs(self, look: Look = look_at) -> Iterator[Job]:
        """Every job in written order, streamed; InputError lists up to 20 problems.

        It comes after the jobs that are well, so these count only once the stream has ended. `look` is
        asked for the content of each file that a job sends.
        """
        problems = ProblemList()
        batch = replace(self._batch, inputs=InputFiles(self.path.parent, look))
        stream = JobStream(batch, self.path, problems)
        for located in self._document.items():
            yield from stream.jobs_of(located)
        problems.close()


def load(path: Path) -> Manifest:
    """Reads and checks a manifest's header and finds its files; InputError lists every problem."""
    return _loaded(path, YamlFile(path, str(path), streamed="prompts"))


def given(value: Mapping[str, Any]) -> Manifest:
    """As `load`, of a mapping with a manifest's keys; its files are looked for in the working directory.

    Problems name entries by their number: `prompts:3`.
    """
    document = GivenDocument(value, GIVEN)
    document.digest_text()
    if "name" not in document.document.value:
        raise InputError([Problem(GIVEN, "needs a `name`, by which its jobs are known again")])
    return _loaded(Path(GIVEN), document)


def _loaded(path: Path, document: YamlFile | GivenDocument) -> Manifest:
    survey = Survey(path)
    for located in document.items():
        survey.see(located)
    header = _header(document.document, str(path))
    checking = _HeaderCheck(header, path, document.document, ProblemList())
    batch = checking.batch(survey)
    notes = tuple(survey.notes(header))
    found = survey.files, survey.patterns, document
    return Manifest(batch.name, path, header.model or "", notes, batch, *found)


def _header(document: Located, shown: str) -> Header:
    value = document.value
    if value is None:
        raise InputError([Problem(shown, "is empty; a manifest needs `model` and `prompts`")])
    if not isinstance(value, dict):
        message = f"must be a mapping with `model` and `prompts`, not {kind_of(value)}"
        raise InputError([Problem(shown, message, document.place.line)])
    try:
        return Header.model_validate({k: v for k, v in value.items() if v is not None})
    except ValidationError as error:
        problems = validation_problems(error, Header, shown, document.place)
        raise InputError(problems) from None


@dataclass(frozen=True, slots=True)
class _HeaderCheck:
    """What is checked of a header beyond its keys' types."""

    header: Header
    path: Path
    document: Located
    problems: ProblemList

    def batch(self, survey: Survey) -> Batch:
        """The checked header for the expansion; InputError lists every problem."""
        name = self.header.name or self.path.stem
        if self.header.name is None and (fault := name_fault(name)):
            self.problems.add(Problem(str(self.path), f"{fault}; set `name:`", None, "name"))
        self._check_model(survey)
        self._check_values()
        self.problems.extend(survey.problems)
        output = self._output(name)
        if survey.entries == 0:
            self._fault("is empty; say what is wanted", "prompts")
        self.problems.close()
        inputs = InputFiles(self.path.parent, look_at)
        return Batch(name, str(self.path), self.header, self.document.place, output, inputs)

    def _fault(self, message: str, *path: str) -> None:
        line = self.document.place.line_of(path)
        self.problems.add(Problem(str(self.path), message, line, ".".join(path)))

    def _check_model(self, survey: Survey) -> None:
        if self.header.model is None and survey.line_without_model is not None:
            message = "`model` is missing, and this entry has none of its own"
            self.problems.add(Problem(str(self.path), message, survey.line_without_model))

    def _check_values(self) -> None:
        model = self.header.model or ""
        for name, message in catalogue.value_faults(model, _filled(self.header.params)):
            self._fault(message, "params", name)
        for name, values in self.header.matrix.items():
            for value in values:
                for _, message in catalogue.value_faults(model, _filled({name: value})):
                    self._fault(message, "matrix", name)

    def _output(self, name: str) -> OutputTemplate:
        try:
            return OutputTemplate(self.header.output).with_name(name)
        except NamingError as error:
            self._fault(f"`{self.header.output}` {error}", "output")
            return OutputTemplate("{id}.{ext}")


def _filled(params: dict[str, Any]) -> dict[str, Any]:
    # Values with placeholders are checked when they are filled.
    return {key: value for key, value in params.items() if not any(True for _ in texts_in(value))}
