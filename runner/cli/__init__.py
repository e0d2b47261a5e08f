"""The command line: arguments in, progress from events, exit codes out."""

from runner.cli.app import main

__all__ = ["main"]
