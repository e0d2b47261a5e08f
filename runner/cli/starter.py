"""`runner init` and `runner schema`: the first files and what editors know about them."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.errors import EXIT_OK, EXIT_USAGE, InputError, UsageError

if TYPE_CHECKING:
    from runner.cli.schedule import Schedule

PUBLIC, PRIVATE = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file to write; `kept`: one that is there already is left as it is."""

    path: Path
    text: str
    mode: int = PUBLIC
    kept: bool = False


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--name", default="pictures", show_default=True, help="The manifest's name.")
@click.option("--cron", is_flag=True, help="Write a crontab line that runs it every night, too.")
@click.option("--systemd", is_flag=True, help="Write a systemd service and timer, too.")
@click.option(
    "--at", default="01:15", show_default=True, metavar="HH:MM", help="When cron or systemd run it."
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing, and write examples.")
@click.option("-f", "--force", is_flag=True, help="Overwrite files that are there.")
def init_command(
    folder: Path, name: str, cron: bool, systemd: bool, at: str, yes: bool, force: bool
) -> int:
    """Write a first config.yaml and manifest into FOLDER.

    In a terminal it asks what to render. With --cron or --systemd it also writes what runs them every
    night, and runner.env for the key, which only you can read; files that are there are kept then.
    """
    from runner.cli.questions import Answers, ask, key_words
    from runner.manifest.definitions import name_fault
    from runner.policy.curfew import next_time_of_day

    try:
        next_time_of_day(at, 0.0)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from error
    if fault := name_fault(name):
        raise click.BadParameter(fault, param_hint="--name")
    asks = not yes and sys.stdin.isatty()
    scheduled = cron or systemd
    manifest = folder / f"{name}.yaml"
    config = folder / "config.yaml"
    is_new = not scheduled or not (manifest.exists() and config.exists())
    answers = ask() if asks and is_new else Answers()
    wanted = [
        _Wanted(config, answers.config(), kept=scheduled),
        _Wanted(manifest, answers.manifest(manifest), kept=scheduled),
    ]
    if scheduled:
        wanted += _scheduled(manifest, at, cron=cron, systemd=systemd)
    _write(folder, wanted, asks=asks, force=force)
    if not _is_sound(manifest):
        return EXIT_USAGE
    if scheduled:
        _tell_schedule(manifest, at, cron=cron, systemd=systemd)
        return EXIT_OK
    if asks:
        click.echo(key_words())
    click.echo(f"next: runner run {shlex.quote(str(manifest))} --sandbox{_config_option(folder)}")
    return EXIT_OK


def _config_option(folder: Path) -> str:
    is_here = folder.resolve() == Path.cwd()
    return "" if is_here else f" -c {shlex.quote(str(folder / 'config.yaml'))}"


def _schedule(manifest: Path, at: str) -> Schedule:
    from runner.cli.schedule import Schedule

    return Schedule(manifest.parent.absolute(), manifest.absolute(), at)


def _scheduled(manifest: Path, at: str, *, cron: bool, systemd: bool) -> list[_Wanted]:
    from runner.cli.schedule import environment_text

    schedule = _schedule(manifest, at)
    key = os.environ.get("SEGMIND_API_KEY", "").strip()
    found = [_Wanted(schedule.environment, environment_text(key), PRIVATE, kept=True)]
    if cron:
        found.append(_Wanted(manifest.with_suffix(".cron"), schedule.cron()))
    if systemd:
        unit = manifest.with_name(schedule.unit)
        found.append(_Wanted(unit.with_name(unit.name + ".service"), schedule.service()))
        found.append(_Wanted(unit.with_name(unit.name + ".timer"), schedule.timer()))
    return found


def _write(folder: Path, wanted: list[_Wanted], *, asks: bool, force: bool) -> None:
    there = [each for each in wanted if each.path.exists()]
    in_the_way = [str(each.path) for each in there if not each.kept]
    if in_the_way and not force and not asks:
        raise UsageError(f"{' and '.join(in_the_way)} exists already; --force overwrites it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each in wanted:
            question = f"{each.path} exists; overwrite it?"
            if each in there and (each.kept or not (force or click.confirm(question))):
                click.echo(f"kept {each.path}")
                if each.mode == PRIVATE:
                    each.path.chmod(PRIVATE)
                continue
            _write_whole(each)
            click.echo(f"wrote {each.path}")
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error


def _write_whole(wanted: _Wanted) -> None:
    """Writes beside and renames; a private file is never anybody else's, not for an instant."""
    part = wanted.path.with_name(f".{wanted.path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, wanted.mode)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (of a descriptor)
        file.write(wanted.text)
        file.flush()
        os.fsync(descriptor)
    part.replace(wanted.path)


def _is_sound(manifest: Path) -> bool:
    """Whether the manifest reads well from its first to its last job; says where it does not."""
    from runner.manifest import load

    try:
        for _ in load(manifest).jobs():
            pass
    except InputError as error:
        click.echo(f"{error}\nmend that, then: runner plan {shlex.quote(str(manifest))}", err=True)
        return False
    return True


def _tell_schedule(manifest: Path, at: str, *, cron: bool, systemd: bool) -> None:
    schedule = _schedule(manifest, at)
    text = schedule.environment.read_text(encoding="utf-8", errors="replace")
    if "SEGMIND_API_KEY=\n" in text:
        click.echo(f"next: put your key into {schedule.environment}")
    if cron:
        path = shlex.quote(str(manifest.with_suffix(".cron").absolute()))
        click.echo(f"then: (crontab -l; cat {path}) | crontab -")
    if systemd:
        unit = shlex.quote(str(schedule.folder / schedule.unit))
        click.echo(f"then: systemctl --user link {unit}.service")
        click.echo(f"      systemctl --user enable --now {unit}.timer")
        click.echo("      loginctl enable-linger   # so that it runs while you are logged out")


@click.command("schema")
@click.argument("kind", type=click.Choice(["manifest", "config"]))
def schema_command(kind: str) -> int:
    """Print the JSON Schema that editors complete and check from."""
    if kind == "manifest":
        from runner.manifest import manifest_schema

        schema = manifest_schema()
    else:
        from runner.config import config_schema

        schema = config_schema()
    click.echo(json.dumps(schema, indent=2))
    return 0
