"""Files as parameters: found, looked at once and known by their content from then on."""

from __future__ import annotations

import glob
import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from runner.documents import fill_environment, missing_file
from runner.manifest.paths import path_of
from runner.media import HEAD_BYTES, input_type
from runner.references import reference

MOST_INPUT_BYTES = 50_000_000
"""No larger file is sent. Source: the largest that the API's models say they take."""
PROMPT_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl")
_MOST_REMEMBERED = 10_000
_PARAMETERS = ("image", "video", "audio")


class UnusableInput(ValueError):
    """A file cannot be sent; the text is a message for the user."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds; `content_type` is told from the content itself."""

    sha256: str
    content_type: str


Look = Callable[[Path], Content]
"""Looks at a file; UnusableInput if it cannot be sent."""


def look(path: Path) -> Content:
    """Reads a file whole, a piece at a time."""
    check_size(path)
    try:
        with path.open("rb") as stream:
            content_type = input_type(stream.read(HEAD_BYTES), path.name)
            if content_type is None:
                text_files = ", ".join(PROMPT_SUFFIXES)
                raise UnusableInput(
                    f"is no picture, audio or video, and none of {text_files}, which are read for prompts"
                )
            stream.seek(0)
            return Content(hashlib.file_digest(stream, "sha256").hexdigest(), content_type)
    except OSError as error:
        raise UnusableInput(f"cannot be read: {error.strerror or error}") from None


def check_size(path: Path) -> None:
    """UnusableInput for a folder, an empty file or one that is too large."""
    try:
        if not path.is_file():
            raise UnusableInput(
                "is a folder, not a file"
                if path.is_dir()
                else f"cannot be found: {missing_file(path)}"
            )
        size_bytes = path.stat().st_size
    except OSError as error:
        raise UnusableInput(f"cannot be read: {error.strerror or error}") from None
    if not size_bytes:
        raise UnusableInput("is empty")
    if size_bytes > MOST_INPUT_BYTES:
        most = f"{MOST_INPUT_BYTES / 1e6:.0f} MB"
        raise UnusableInput(f"has {size_bytes / 1e6:.1f} MB; at most {most} can be sent")


def is_file(value: Any) -> bool:
    """Whether a parameter's value is a file, written `{file: …}` or, as listings do, with its sha256."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("file"), str)
        and value.keys() <= {"file", "sha256"}
    )


def files_in(value: Any) -> Iterator[str]:
    """Every file that a parameter's value names, however deep."""
    if is_file(value):
        yield value["file"]
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from files_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from files_in(inner)


def is_prompt_file(text: str) -> bool:
    """Whether the file of an entry is read for prompts: its suffix decides."""
    try:
        given = fill_environment(text, os.environ)
    except ValueError:
        return True  # whoever opens it says what is missing
    return given.lower().endswith(PROMPT_SUFFIXES)


def parameter_for(text: str) -> str:
    """The parameter that takes a file which an entry names without saying so: image, video or audio."""
    kind = (mimetypes.guess_type(text)[0] or "").partition("/")[0]
    return kind if kind in _PARAMETERS else "image"


def names_of(file: str) -> dict[str, str]:
    """What a file's name is good for in templates: `file` as written, `stem` without folder and suffix."""
    return {"file": file, "stem": PurePath(file).stem}


@dataclass(slots=True)
class InputFiles:
    """The files that the parameters of a manifest in `folder` name."""

    folder: Path
    look: Look
    _seen: dict[str, tuple[str, Content]] = field(default_factory=dict)

    def resolved(self, value: Any, files: dict[str, str]) -> Any:
        """The value with each file as a reference to its content; `files` gets its sha256 by its name."""
        if is_file(value):
            name, content = self._content(value["file"])
            if value.get("sha256", content.sha256) != content.sha256:
                raise UnusableInput(f"`{name}` does not hold what its `sha256` says")
            files[name] = content.sha256
            return reference(content.sha256)
        if isinstance(value, Mapping):
            return {key: self.resolved(inner, files) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.resolved(inner, files) for inner in value]
        return value

    def _content(self, text: str) -> tuple[str, Content]:
        if (known := self._seen.get(text)) is not None:
            return known
        try:
            path, given = path_of(self.folder, text)
            str(path.absolute()).encode()
        except UnicodeEncodeError:
            shown = text.encode(errors="replace").decode()
            raise UnusableInput(f"`{shown}` has a name that is no UTF-8 text; rename it") from None
        except ValueError as error:
            raise UnusableInput(str(error)) from None
        try:
            content = self.look(path)
        except UnusableInput as error:
            hint = "; patterns stand in an entry's `file` or right under its `params`"
            is_stray = glob.has_magic(given) and not path.exists()
            raise UnusableInput(f"`{given}` {error}{hint if is_stray else ''}") from None
        if len(self._seen) >= _MOST_REMEMBERED:
            self._seen.clear()
        name = given if path == self.folder / given else str(path.absolute())
        self._seen[text] = (name, content)
        return name, content
