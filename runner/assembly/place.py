"""Where a command or a program works: which config, ledger and output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SANDBOX_LEDGER = Path("sandbox.db")
SANDBOX_OUTPUT = Path("output-sandbox")


@dataclass(frozen=True, slots=True)
class Place:
    """The config, ledger and output that were named, if any."""

    config: Path | None = None
    ledger: Path | None = None
    output: Path | None = None
    sandbox: bool = False
