"""Text files that people wrote, and what keeps them from being read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from runner.documents.problems import did_you_mean
from runner.errors import InputError, Problem


@contextmanager
def open_text(path: Path, file: str, newline: str | None = None) -> Iterator[TextIO]:
    """Opens a UTF-8 file; whatever keeps it from being read is an InputError that names `file`."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as stream:
            yield stream
    except UnicodeDecodeError:
        message = "is not UTF-8 text; save it with the encoding UTF-8"
        raise InputError([Problem(file, message, _undecodable_line(path))]) from None
    except FileNotFoundError:
        raise InputError([Problem(file, missing_file(path))]) from None
    except IsADirectoryError:
        raise InputError([Problem(file, "is a folder, not a file")]) from None
    except OSError as error:
        raise InputError([Problem(file, f"cannot be read: {error.strerror or error}")]) from None


def missing_file(path: Path) -> str:
    """That there is no such file, with the nearest name in its folder."""
    try:
        names = sorted(found.name for found in path.parent.iterdir())
    except OSError:
        return "there is no such file"
    return f"there is no such file{did_you_mean(path.name, names)}"


def _undecodable_line(path: Path) -> int | None:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return None
