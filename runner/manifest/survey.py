"""The first pass over a manifest's entries: what has to be known before any job is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runner.documents import Located, ProblemList
from runner.errors import Problem
from runner.manifest.catalogue import misspelt_model_note
from runner.manifest.definitions import Header
from runner.manifest.inputs import is_file, is_prompt_file
from runner.manifest.paths import is_pattern
from runner.manifest.prompt_file import PromptFile

_LONG_LIST = 5_000
_MOST_NOTED_MODELS = 100


class Survey:
    """Counts the entries and gathers the files that they name; keeps nothing else of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, PromptFile] = {}
        self._models: dict[str, None] = {}
        self._patterns: dict[str, None] = {}
        self.entries = 0
        self.line_without_model: int | None = None
        self.problems = ProblemList()

    @property
    def files(self) -> tuple[PromptFile, ...]:
        """Every prompt file, each once, in the order of the entries."""
        return tuple(self._files.values())

    @property
    def patterns(self) -> tuple[str, ...]:
        """Every pattern of files to send, each once, in the order of the entries."""
        return tuple(self._patterns)

    def see(self, located: Located) -> None:
        """Takes notice of one entry."""
        self.entries += 1
        entry = located.value if isinstance(located.value, dict) else {}
        model = entry.get("model")
        if model is None:
            self.line_without_model = self.line_without_model or located.place.line
        elif isinstance(model, str) and len(self._models) < _MOST_NOTED_MODELS:
            self._models[model] = None
        file, params = entry.get("file"), entry.get("params")
        inputs = [*params.values()] if isinstance(params, dict) else []
        if isinstance(file, str) and not is_prompt_file(file):
            inputs.append({"file": file})
        for value in inputs:
            if is_file(value) and is_pattern(self._path.parent, value["file"]):
                self._patterns[value["file"]] = None
        if isinstance(file, str) and is_prompt_file(file) and file not in self._files:
            try:
                self._files[file] = PromptFile.locate(self._path.parent, file)
            except ValueError as error:
                line = located.place.line_of(("file",))
                self.problems.add(Problem(str(self._path), str(error), line, "file"))

    def notes(self, header: Header) -> Iterator[str]:
        """What is worth telling once, though nothing is wrong."""
        if self.entries > _LONG_LIST:
            yield (
                f"the prompts list of {self._path.name} has {self.entries:,} entries;"
                " an entry with a `file:` is quicker to read"
            )
        for model in dict.fromkeys((header.model or "", *self._models)):
            if note := misspelt_model_note(model):
                yield note
