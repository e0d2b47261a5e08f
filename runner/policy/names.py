"""The names of a job's files, from its output pattern."""

from __future__ import annotations

from string import Formatter

from runner.policy.outputs import Data, Medium, Output, Text

LONGEST_EXTENSION = 5


def file_name(pattern: str, n: int, extension: str) -> str:
    """The name of a job's n-th file; without `{n}` in the pattern further files get `-1`, `-2`, …"""
    name = pattern.format(n=n, ext=extension)
    return name if n == 0 or _has_field(pattern, "n") else with_suffix(name, str(n))


def part_name(pattern: str, n: int, key: int) -> str:
    """The name of a job's n-th file while it is incomplete, beside where it will be.

    The job's key is in it: `fox-1` may be one job's second file and another one's first.
    """
    name = file_name(pattern, n, f"{key}.part")
    return name if name.endswith(f".{key}.part") else f"{name}.{key}.part"


def with_suffix(name: str, suffix: str) -> str:
    """`folder/fox.png` with `2` is `folder/fox-2.png`."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.rpartition(".")
    if not stem:
        stem, dot, extension = base, "", ""
    return f"{folder}{slash}{stem}-{suffix}{dot}{extension}"


def likely_name(pattern: str, n: int, output: Output) -> str | None:
    """What a job's n-th file will probably be called, before it is there; None when nothing tells."""
    match output:
        case Text():
            extension = "txt"
        case Data():
            extension = "json"
        case Medium(url):
            extension = url.partition("?")[0].rpartition(".")[2].lower().replace("jpeg", "jpg")
    plausible = len(extension) <= LONGEST_EXTENSION and extension.isalnum()
    return file_name(pattern, n, extension) if plausible else None


def _has_field(pattern: str, name: str) -> bool:
    return any(field_name == name for _, field_name, _, _ in Formatter().parse(pattern))
