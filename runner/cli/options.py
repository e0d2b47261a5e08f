"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runner.assembly.place import Place
from runner.cli.completion import configs, job_ids, manifests

F = TypeVar("F", bound=Callable[..., Any])


def place_options(function: F) -> F:
    """Adds -c, --ledger, --output and --sandbox; the command takes them as one `place`."""

    def gather(
        *args: Any,
        config: Path | None,
        ledger: Path | None,
        output: Path | None,
        sandbox: bool,
        **rest: Any,
    ) -> Any:
        return function(*args, place=Place(config, ledger, output, sandbox), **rest)

    gather.__name__ = function.__name__
    gather.__doc__ = function.__doc__
    gather.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
    path = click.Path(path_type=Path)
    decorators = [
        click.option(
            "-c",
            "--config",
            type=path,
            shell_complete=configs,
            help="Config file.  [default: ./config.yaml when there]",
        ),
        click.option("--ledger", type=path, help="The file that remembers every job."),
        click.option("--output", type=path, help="The folder that results are saved in."),
        click.option(
            "--sandbox",
            is_flag=True,
            help="Use the simulated API: no key, no cost, a ledger and an output folder of its own.",
        ),
    ]
    decorated: Any = gather
    for decorator in reversed(decorators):
        decorated = decorator(decorated)
    return decorated  # type: ignore[no-any-return]


def manifest_arguments(*, required: bool) -> Callable[[F], F]:
    """Adds MANIFEST…; the command takes the paths as `manifests`."""
    return click.argument(
        "manifests",
        nargs=-1,
        required=required,
        type=click.Path(path_type=Path),
        metavar="MANIFEST...",
        shell_complete=manifests,
    )


def json_option(help_text: str) -> Callable[[F], F]:
    """Adds --json; the command takes it as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def job_option(help_text: str) -> Callable[[F], F]:
    """Adds --job, which may be given several times; the command takes them as `ids`."""
    return click.option(
        "--job", "ids", multiple=True, metavar="ID", shell_complete=job_ids, help=help_text
    )
