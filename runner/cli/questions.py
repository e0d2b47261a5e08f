"""`runner init` asks in a terminal: what to render first, and with what."""

from __future__ import annotations

import csv
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from runner.cli.schedule import text

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl")


@dataclass(frozen=True, slots=True)
class Answers:
    """What the first config and manifest are made of; without prompts and file, of examples."""

    model: str = "imagen"
    prompts: tuple[str, ...] = ()
    file: Path | None = None
    column: str | None = None
    aspect_ratio: str | None = None
    rpm: int | None = None
    output: str = "output"

    def config(self) -> str:
        """The config's text."""
        comment = "# requests per minute of your plan"
        api = f"api:\n  rpm: {self.rpm}                   {comment}"
        if self.rpm is None:
            api = f"# api:\n#   rpm: 60                 {comment}"
        output = self.output if self.output.isalnum() else _quoted(self.output)
        return text("config", api=api, output=f"{output:<20}# pictures go here")

    def manifest(self, path: Path) -> str:
        """The text of a manifest that will be at `path`."""
        if not self.prompts and self.file is None:
            return text("manifest", file=path.name)
        lines = [
            f"# What to render. `runner run {path.name} --sandbox` tries it without a key and at no cost.",
            f"model: {self.model}",
        ]
        if self.aspect_ratio:
            lines.append(f'params: {{aspect_ratio: "{self.aspect_ratio}"}}')
        lines.append("prompts:")
        lines += [f"  - {_quoted(prompt)}" for prompt in self.prompts]
        if self.file is not None:
            lines.append(f"  - file: {_quoted(_relative(self.file, path.parent))}")
        if self.column is not None:
            lines.append(f"    columns: {{{_quoted(self.column)}: prompt}}")
        return "\n".join(lines) + "\n"


def ask() -> Answers:
    """Asks for everything; Ctrl-C or Ctrl-D leaves without having written anything."""
    with suppress(ImportError):
        import readline  # noqa: F401  (lines can be edited from then on)
    from runner.manifest.catalogue import known_models

    click.echo("A few questions; Enter takes what stands in brackets.\n")
    model = click.prompt("Model", default="imagen").strip()
    prompts, file = _ask_prompts()
    column = _ask_column(file) if file is not None and file.suffix in (".csv", ".tsv") else None
    ratio = None
    parameter = known_models().get(model, {}).get("aspect_ratio")
    if parameter is not None:
        choice = click.Choice([str(value) for value in parameter.values])
        ratio = click.prompt("Aspect ratio", default="1:1", type=choice)
    rpm = click.prompt(
        "Requests per minute of your plan, 0 if you do not know",
        default=0,
        type=click.IntRange(min=0),
    )
    output = click.prompt("Folder for the pictures", default="output").strip()
    return Answers(model, prompts, file, column, ratio, rpm or None, output)


def key_words() -> str:
    """Whether there is a key, without a word of it."""
    if os.environ.get("SEGMIND_API_KEY", "").strip():
        return "SEGMIND_API_KEY is set."
    return (
        "SEGMIND_API_KEY is not set yet: `export SEGMIND_API_KEY=SG_…` before the first real run."
    )


def _ask_prompts() -> tuple[tuple[str, ...], Path | None]:
    click.echo("What to render: prompts, one a line, or the name of a file that holds them")
    click.echo(f"({', '.join(SUFFIXES)}). An empty line ends the list.")
    prompts: list[str] = []
    while True:
        line = click.prompt("  ", default="", show_default=False, prompt_suffix="").strip()
        if not line:
            return tuple(prompts), None
        path = Path(line).expanduser()
        if not prompts and path.suffix in SUFFIXES and " " not in path.name.strip():
            if path.is_file():
                return (), path
            click.echo(f"    there is no file {line}")
        elif "{{" in line:
            click.echo("    {{…}} is filled from `vars`, which you can add to the manifest later")
        else:
            prompts.append(line)


def _ask_column(file: Path) -> str | None:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        header = next(csv.reader(stream, delimiter="\t" if file.suffix == ".tsv" else ","), [])
    if not header or "prompt" in header:
        return None
    choice = click.Choice(header)
    return str(click.prompt("Which column holds the prompts", type=choice, default=header[0]))


def _relative(file: Path, folder: Path) -> str:
    path, near = file.absolute(), folder.absolute()
    return path.relative_to(near).as_posix() if path.is_relative_to(near) else str(path)


def _quoted(value: str) -> str:
    # A JSON string is a YAML string.
    return json.dumps(value, ensure_ascii=False)
