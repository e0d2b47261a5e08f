"""`python -m benchmarks NAME [--quick]`."""

from __future__ import annotations

import importlib
import sys

MODULES = {
    "overhead": "benchmarks.overhead",
    "scale": "benchmarks.scale",
}


def main(arguments: list[str]) -> int:
    """Runs the named benchmark with the rest of the arguments; returns the exit status."""
    if not arguments or arguments[0] not in MODULES:
        print(f"usage: python -m benchmarks {{{','.join(MODULES)}}} [--quick]", file=sys.stderr)
        return 2
    module = importlib.import_module(MODULES[arguments[0]])
    return int(module.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
