"""Where a manifest's files are: paths and patterns, relative to the manifest's folder."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from runner.documents import fill_environment


def path_of(folder: Path, text: str) -> tuple[Path, str]:
    """The path that a text of a manifest in `folder` means, and the text with its variables filled in.

    ValueError if it cannot be one.
    """
    given = fill_environment(text, os.environ)
    try:
        path = folder / Path(given).expanduser()
        if given != text and not path.exists() and Path(given).exists():
            path = Path(given)  # who sets a variable in a shell means the working directory
    except (OSError, RuntimeError) as error:  # a name too long, a home that is not there
        raise ValueError(f"`{given}` cannot be found: {error}") from None
    return path, given


def is_pattern(folder: Path, text: str) -> bool:
    """Whether a text stands for all files that match it; a file of just that name comes first."""
    if not glob.has_magic(text) or "{{" in text:
        return False
    try:
        return not path_of(folder, text)[0].exists()
    except ValueError:
        return False


def matches(folder: Path, pattern: str) -> list[str]:
    """Every file that matches, in the order of their names; relative to `folder` unless the pattern is not.

    `**` stands for any folders. Folders themselves and what begins with a dot are left out.
    """
    given = str(Path(fill_environment(pattern, os.environ)).expanduser())
    # Not pathlib's own, which takes in what begins with a dot.
    names = glob.iglob(given, root_dir=folder, recursive=True)  # noqa: PTH207
    return sorted(Path(name).as_posix() for name in names if not (folder / name).is_dir())


def no_match(folder: Path, pattern: str) -> str:
    """That nothing matches a pattern, with what its folder holds instead."""
    given = fill_environment(pattern, os.environ)
    parent = (folder / Path(given).expanduser()).parent
    if glob.has_magic(str(parent)):
        return f"`{given}` matches no file"
    if not parent.is_dir():
        return f"`{given}` matches no file: there is no folder `{Path(given).parent}`"
    suffixes = sorted({entry.suffix for entry in parent.iterdir() if entry.suffix})[:5]
    holds = f"; its folder holds {', '.join(f'`{each}`' for each in suffixes)}" if suffixes else ""
    return f"`{given}` matches no file{holds}"
