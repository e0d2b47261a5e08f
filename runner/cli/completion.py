"""Shell completion: the script that a shell reads, and what it is offered for each word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

VARIABLE = "_RUNNER_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
_MANIFEST = re.compile(rb"^prompts\s*:", re.MULTILINE)
_SUFFIXES = (".yaml", ".yml")
# A manifest says `prompts` before its list of them, and a folder may be full of other things.
LOOKED_AT_BYTES = 65_536
MOST = 200

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> int:
    """Print the script from which a shell completes commands, options, manifests and jobs.

    \b
    bash   eval "$(runner completion bash)" in ~/.bashrc
    zsh    eval "$(runner completion zsh)" in ~/.zshrc, after compinit
    fish   runner completion fish > ~/.config/fish/completions/runner.fish
    """
    from runner.cli.app import app

    found = get_completion_class(shell)
    assert found is not None, shell  # noqa: S101  (click has the three that are offered)
    click.echo(found(app, {}, "runner", VARIABLE).source())
    return 0


def quietly(
    offer: Callable[[click.Context, str], Iterable[CompletionItem]],
) -> Offer:
    """A completion that is never an error: whoever presses a key wants no traceback."""

    @wraps(offer)
    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            return list(offer(context, incomplete))
        except Exception:  # whatever is wrong is told when the command runs
            return []

    return complete


@quietly
def manifests(context: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Manifests here and one folder further; all files where there are none."""
    return _files(incomplete, lambda content: _MANIFEST.search(content) is not None)


@quietly
def configs(context: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Configs here and one folder further; all files where there are none."""
    return _files(incomplete, lambda content: _MANIFEST.search(content) is None)


@quietly
def job_ids(context: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Ids of the jobs in the ledger that the options lead to."""
    from runner.assembly.place import Place
    from runner.assembly.session import workplace
    from runner.ledger.glance import ids_beginning

    given = context.params
    config, ledger, output = (_path(given.get(name)) for name in ("config", "ledger", "output"))
    place = Place(config, ledger, output, bool(given.get("sandbox")))
    at = workplace(place, reading=True)
    return map(CompletionItem, ids_beginning(at.ledger, incomplete, MOST))


def _path(value: Any) -> Path | None:
    return None if value is None else Path(value)


def _files(incomplete: str, wanted: Callable[[bytes], bool]) -> Iterator[CompletionItem]:
    head, slash, begin = incomplete.rpartition("/")
    folder = Path(head + slash or ".").expanduser()
    found = []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(begin) or (path.name.startswith(".") and not begin):
            continue
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        found += [
            f"{head}{slash}{each.relative_to(folder).as_posix()}"
            for each in inside
            if each.suffix in _SUFFIXES and each.is_file() and wanted(_beginning(each))
        ]
    if not found:
        # The shell then offers its own files and folders.
        yield CompletionItem(incomplete, type="file")
    yield from map(CompletionItem, found[:MOST])


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LOOKED_AT_BYTES)
