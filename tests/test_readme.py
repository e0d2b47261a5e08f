"""The README promises nothing that is not there: its commands exist, and the first steps work as written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from runner.cli.app import app
from runner.errors import (
    EXIT_KEY_REFUSED,
    EXIT_LEDGER_BUSY,
    EXIT_OK,
    EXIT_STOPPED_EARLY,
    EXIT_UNSAVED,
    EXIT_USAGE,
)
from runner.job import TRANSITIONS
from runner.manifest import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = "".join(
    (ROOT / name).read_text("utf-8")
    for name in ("README.md", "docs/guarantees.md", "docs/datasets.md")
)


def written_commands() -> list[str]:
    """Every `runner …` in code blocks and inline code, without what a shell adds to it."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`((?:runner|--)[^`]*)`", DOCS)
    found = []
    for text in lines + inline:
        for part in re.split(r"&&", text):
            words = part.strip()
            words = words[words.index("runner ") :] if re.search(r"(^|/)runner ", words) else words
            if words.startswith("runner "):
                found.append(words)
    return sorted(set(found))


@pytest.mark.parametrize("command", written_commands())
def test_every_command_that_is_written_down_exists_with_its_options(command: str):
    _, name, *rest = shlex.split(command.replace("…", "X"))

    with click.Context(app) as context:
        found = app.get_command(context, name)
        assert found is not None, name
        options = {text for each in found.params for text in each.opts}

    assert {word for word in rest if word.startswith("-")} <= options


def test_it_has_two_single_lines_that_render_and_test():
    commands = re.findall(r"<!-- (\S+-command) -->\n```sh\n(.*)\n```", README)

    assert [name for name, _ in commands] == ["render-command", "test-command"]
    assert all("\n" not in line for _, line in commands)


def test_the_manifest_it_shows_is_one(tmp_path: Path):
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    (tmp_path / "more.csv").write_text("Prompt,Category,seed\na pond,water,7\n", "utf-8")
    manifest = tmp_path / "animals.yaml"
    manifest.write_text(shown[1], "utf-8")

    jobs = list(load(manifest).jobs())

    assert len(jobs) == 2 * 2 + 2 * 4 + 2
    assert yaml.safe_load(shown[1])["name"] == "animals"


def test_every_exit_status_is_explained():
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}

    assert explained == {
        EXIT_OK,
        EXIT_UNSAVED,
        EXIT_USAGE,
        EXIT_STOPPED_EARLY,
        EXIT_KEY_REFUSED,
        EXIT_LEDGER_BUSY,
    }


def test_the_diagram_shows_only_moves_that_jobs_can_make():
    arrows = re.findall(r"^    (\w+) --> (\w+)", README, re.MULTILINE)

    assert arrows
    assert [pair for pair in arrows if pair[1] not in TRANSITIONS[pair[0]]] == []


def test_files_that_it_names_are_there():
    named = re.findall(r"\]\(((?!http)[^)]+)\)", DOCS) + re.findall(
        r"`((?:jobs|tests|docs)/[\w./]+)`", DOCS
    )

    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_first_real_run_works_as_written(tmp_path: Path):
    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "runner", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    assert "pictures.yaml" in run("init")
    assert "will be submitted" in run("plan", "pictures.yaml")
    assert "all 4 jobs saved" in run("run", "pictures.yaml", "--sandbox")
