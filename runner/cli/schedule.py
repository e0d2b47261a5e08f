"""The texts from which cron and systemd run a manifest every night, quoted as each of them wants it."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from string import Template

from runner.errors import UsageError

TEXTS = Path(__file__).with_name("texts")
ENVIRONMENT_FILE = "runner.env"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.~+/=-]*")


def text(name: str, /, **values: str) -> str:
    """A text of the package with its places filled."""
    return Template((TEXTS / f"{name}.txt").read_text(encoding="utf-8")).substitute(values)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A manifest in a folder, both absolute, that is run every day `at` HH:MM."""

    folder: Path
    manifest: Path
    at: str

    def __post_init__(self) -> None:
        for path in (self.folder, *map(Path, self._command())):
            if not str(path).isprintable() or "\\" in str(path):
                raise UsageError(
                    f"`{path}` holds a character that no schedule can name; move it to another folder"
                )

    @property
    def environment(self) -> Path:
        """The file that holds the key."""
        return self.folder / ENVIRONMENT_FILE

    @property
    def unit(self) -> str:
        """The name of the systemd units, without their suffix."""
        return "runner-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", self.manifest.stem)

    def cron(self) -> str:
        """A crontab's lines."""
        # A config that names no ledger and no output means those of the working directory.
        enter = f"cd {shlex.quote(str(self.folder))} && set -a && . ./{ENVIRONMENT_FILE} && set +a"
        command = f"{enter} && exec {shlex.join(self._command())}"
        hour, _, minute = self.at.partition(":")
        # cron takes a bare percent sign for the end of the command.
        line = command.replace("%", r"\%")
        return text("cron", at=self.at, hour=str(int(hour)), minute=str(int(minute)), command=line)

    def service(self) -> str:
        """A systemd service. `:` before its command leaves dollar signs alone."""
        command = " ".join(map(_systemd_word, self._command()))
        return text(
            "service",
            name=_systemd_text(self.manifest.stem),
            mounts=_systemd_word(str(self.folder)),
            folder=_systemd_text(str(self.folder)),
            # systemd takes it for a pattern.
            environment=_systemd_text(escape(str(self.environment))),
            command=command,
        )

    def timer(self) -> str:
        """The systemd timer of the service."""
        hour, _, minute = self.at.partition(":")
        name = _systemd_text(self.manifest.stem)
        return text("timer", name=name, at=f"{int(hour):02}:{minute}")

    def _command(self) -> list[str]:
        log = self.folder / "logs" / f"{self.manifest.stem}.jsonl"
        config = self.folder / "config.yaml"
        run = ["run", str(self.manifest), "-c", str(config), "--quiet", "--log-file", str(log)]
        return [*runner_command(), *run]


def environment_text(key: str) -> str:
    """The environment file's text, which shells and systemd read alike. Raises UsageError."""
    if not _PLAIN_KEY.fullmatch(key):
        raise UsageError("SEGMIND_API_KEY holds characters that no key has; was it copied whole?")
    return text("environment", key=key)


def runner_command() -> list[str]:
    """How this very program is started from anywhere."""
    script = Path(sys.executable).with_name("runner")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "runner"]


def _systemd_text(value: str) -> str:
    return value.replace("%", "%%")


def _systemd_word(value: str) -> str:
    plain = _systemd_text(value)
    return plain if re.fullmatch(r"[\w/.:=@%+-]+", plain) else '"' + plain.replace('"', '\\"') + '"'
