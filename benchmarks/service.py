"""The simulated API as a process of its own, as far as benchmarks need it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any, Self

KEY = "SG_0123456789abcdef"
# What counts against the account's rate.
COUNTED = ("submit", "status", "result")


class Service:
    """`runner sandbox` with these options; use as `with`."""

    def __init__(self, *options: str) -> None:
        self._command = [sys.executable, "-m", "runner", "sandbox", "--port", "0", *options]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.url = next(word.strip(";") for word in line.split() if word.startswith("http"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=30)

    def stats(self) -> dict[str, Any]:
        """What the sandbox has seen so far."""
        with urllib.request.urlopen(f"{self.url}/sandbox/stats", timeout=30) as answer:  # noqa: S310
            return dict(json.load(answer))


def requests_of(stats: Mapping[str, Any]) -> tuple[int, int]:
    """How many requests counted against the rate, and how many of them were answered 429."""
    routes = [stats["requests"].get(name, {}) for name in COUNTED]
    total = sum(sum(statuses.values()) for statuses in routes)
    return total, sum(statuses.get("429", 0) for statuses in routes)
