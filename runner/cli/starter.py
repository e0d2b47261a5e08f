"""`runner init` and `runner schema`: the first files and what editors know about them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runner.errors import UsageError

CONFIG = """\
# Settings of runner; every key can be left out. `runner schema config` describes them all.
# The key is taken from the environment variable SEGMIND_API_KEY, so that it stands in no file.
# api:
#   rpm: 60                 # requests per minute of your plan
ledger: runner.db           # remembers every job; keep it with your pictures
output: output              # pictures go here
"""

MANIFEST = """\
# What to render. `runner run {file} --sandbox` tries it without a key and at no cost.
model: imagen
params: {{aspect_ratio: "1:1"}}
vars: {{season: [spring, autumn]}}
prompts:
  - a red fox in a {{{{season}}}} forest
  - prompt: a lighthouse at dusk
    id: lighthouse
    params: {{aspect_ratio: "16:9"}}
    repeat: 2
"""


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--name", default="pictures", show_default=True, help="The manifest's name.")
@click.option("-f", "--force", is_flag=True, help="Overwrite files that are there.")
def init_command(folder: Path, name: str, force: bool) -> int:
    """Write a starter config.yaml and manifest into FOLDER."""
    manifest = folder / f"{name}.yaml"
    files = {folder / "config.yaml": CONFIG, manifest: MANIFEST.format(file=manifest.name)}
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise UsageError(f"{' and '.join(there)} exists already; --force overwrites it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    for path in files:
        click.echo(f"wrote {path}")
    click.echo(f"next: runner run {manifest} --sandbox")
    return 0


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
