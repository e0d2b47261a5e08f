"""The `runner` command: its subcommands, and how errors become words and exit statuses."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from runner import __version__
from runner.errors import EXIT_INTERNAL, EXIT_STOPPED_EARLY, RunnerError

# Imported when it is called or its help is asked for: start-up stays quick.
_COMMANDS = {
    "run": ("runner.cli.run", "Do whatever of the manifests is not done yet; run again to resume."),
    "plan": ("runner.cli.plan", "Show what a run would do; sends nothing."),
    "status": ("runner.cli.look", "Count jobs by state, money spent and the next deadline."),
    "jobs": ("runner.cli.look", "List jobs, one a line."),
    "retry": ("runner.cli.retry", "Put jobs that ended short of saved back to pending."),
    "gallery": ("runner.cli.gallery", "Write or serve a page that shows every result."),
    "export": ("runner.cli.export", "Export a manifest's saved files as a dataset."),
    "sandbox": ("runner.cli.sandbox", "Serve the simulated API on loopback."),
    "doctor": ("runner.cli.doctor", "Check key, reachability, balance, clock, disk and ledger."),
    "init": ("runner.cli.starter", "Write a starter config and manifest."),
    "schema": ("runner.cli.starter", "Print the JSON Schema of manifests or configs."),
    "completion": ("runner.cli.completion", "Print the script from which a shell completes."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in _COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(name, _COMMANDS, n=1)
            hint = f", did you mean `{near[0]}`?" if near else "; see `runner --help`"
            raise click.UsageError(f"no command `{name}`{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="runner")
def app() -> None:
    """Render in bulk through Segmind's async API: resumable, and never paid for twice.

    \b
    runner run jobs/quickstart.yaml --sandbox    try it without a key
    runner run my.yaml                           do whatever is not done yet
    """


def main() -> None:
    """Runs the command and exits with its status."""
    # To look for somebody's plugins of pydantic takes a tenth of a second at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # A prompt in any script must not end a night because the terminal cannot show it.
            reconfigure(errors="replace")
    try:
        status = app.main(prog_name="runner", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except RunnerError as error:
        click.echo(_worded(error), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(_usage(error), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(EXIT_STOPPED_EARLY)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if os.environ.get("RUNNER_DEBUG"):
            raise
        click.echo(f"runner: an unforeseen {type(error).__name__}: {error}", err=True)
        click.echo("        nothing is lost; RUNNER_DEBUG=1 shows where it came from", err=True)
        sys.exit(EXIT_INTERNAL)


def _usage(error: click.ClickException) -> str:
    """A usage error in the words of all others, with the way to the help."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "runner"
    return f"runner: {error.format_message()}\n        see `{command} --help`"


def _worded(error: RunnerError) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return "\n".join(
        f"runner: {line}" if position == 0 else f"        {line}"
        for position, line in enumerate(lines)
    )
