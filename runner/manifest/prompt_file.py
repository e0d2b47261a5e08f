"""Prompt files, found and read one row at a time: .txt, .csv, .tsv and .jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from runner.documents import ProblemList, missing_file, open_text
from runner.manifest.definitions import Entry
from runner.manifest.jsonl import jsonl_rows
from runner.manifest.paths import path_of
from runner.manifest.rows import Reading, Row
from runner.manifest.tables import csv_rows, tsv_rows


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A file of prompts; `shown` names it in messages, `given` in the jobs' sources."""

    path: Path
    shown: str
    given: str

    @staticmethod
    def locate(folder: Path, text: str) -> PromptFile:
        """The file that an entry of a manifest in `folder` names; ValueError if it cannot be."""
        path, given = path_of(folder, text)
        try:
            if path.suffix.lower() not in _READERS:
                raise ValueError(f"`{given}` is none of {', '.join(_READERS)}")
            if path.is_dir():
                raise ValueError(f"`{given}` is a folder, not a file")
            if not path.exists():
                raise ValueError(f"`{given}`: {missing_file(path)}")
        except OSError as error:  # a name too long
            raise ValueError(f"`{given}` cannot be found: {error}") from None
        return PromptFile(path, str(path), given)

    def rows(
        self, entry: Entry, problems: ProblemList, *, prompt_needed: bool = True
    ) -> Iterator[Row]:
        """Its rows as `entry` asks for them; faulty rows are told to `problems` and left out.

        `prompt_needed`: a row must bring a prompt or parameters, for the manifest has neither.
        """
        reading = Reading(self.shown, entry, problems, prompt_needed)
        with open_text(self.path, self.shown, newline=None if self._is_lines else "") as stream:
            yield from _READERS[self.path.suffix.lower()](reading, stream)

    @property
    def _is_lines(self) -> bool:
        return self.path.suffix.lower() in (".txt", ".jsonl")


def _text_rows(reading: Reading, stream: TextIO) -> Iterator[Row]:
    if reading.entry.columns:
        column = next(iter(reading.entry.columns))
        reading.fault(None, f"a .txt file has no columns, so there is no `{column}`")
        return
    row_of_text = Row if reading.entry.prompt is None else reading.row_of_text
    for number, line in enumerate(stream, start=1):
        if text := line.strip():
            yield row_of_text(number, text)


_READERS: Mapping[str, Callable[[Reading, TextIO], Iterator[Row]]] = {
    ".txt": _text_rows,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".jsonl": jsonl_rows,
}
