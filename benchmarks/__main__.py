"""`python -m benchmarks NAME [options]` runs one of the measurements."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = ("policy", "night", "overhead", "scale")


def main(arguments: list[str]) -> None:
    """Runs the named one, or says which there are."""
    if not arguments or arguments[0] not in NAMES:
        sys.exit(f"usage: python -m benchmarks {{{','.join(NAMES)}}} [options]")
    sys.exit(import_module(f"benchmarks.{arguments[0]}").main(arguments[1:]))


main(sys.argv[1:])
