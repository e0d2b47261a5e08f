"""Shells complete what can be typed, and nothing that goes wrong there is ever shown."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from desk import Desk, Service, bare

from runner.cli.app import _COMMANDS
from runner.job import RETRYABLE_STATES

SCRIPTS = Path(sys.executable).parent


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
class TestInBash:
    def offered(self, desk: Desk, line: str) -> list[str]:
        """What a real bash offers for the last word of a line; empty also where it offers files."""
        words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
        script = (
            'eval "$(runner completion bash)"\n'
            f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}\n"
            # Programmable completion sets options of the completion that is under way.
            "compopt() { :; }\n"
            "_runner_completion runner\n"
            'printf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        environ = bare({**desk.environ, "PATH": f"{SCRIPTS}:/usr/bin:/bin"})
        told = subprocess.run(
            ["bash", "--norc", "-c", script],
            cwd=desk.folder,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert told.stderr == ""
        return told.stdout.split()

    def test_commands_and_options(self, desk: Desk) -> None:
        assert set(self.offered(desk, "runner ")) == set(_COMMANDS)
        assert self.offered(desk, "runner comp") == ["completion"]
        assert "--max-time" in self.offered(desk, "runner run --ma")
        assert self.offered(desk, "runner completion ") == ["bash", "zsh", "fish"]

    def test_states(self, desk: Desk) -> None:
        assert set(self.offered(desk, "runner retry --state ")) == {*map(str, RETRYABLE_STATES)}

    def test_manifests_and_configs_apart(self, desk: Desk) -> None:
        (desk.folder / "jobs").mkdir()
        desk.manifest("a fox", name="jobs/night")
        desk.manifest("a fox")
        desk.write("config.yaml", "ledger: runner.db\n")
        desk.write("notes.txt", "prompts: none\n")
        assert self.offered(desk, "runner run ") == ["animals.yaml", "jobs/night.yaml"]
        assert self.offered(desk, "runner plan jobs/n") == ["jobs/night.yaml"]
        assert self.offered(desk, "runner status -c ") == ["config.yaml"]
        assert self.offered(desk, "runner run nothing-like-it") == []

    def test_ids_of_jobs(self, desk: Desk, api: Service) -> None:
        ids = ["it's a fox", "fox", "owl"]
        assert (
            desk.run("run", desk.manifest(*({"prompt": i, "id": i} for i in ids[1:]))).status == 0
        )
        assert self.offered(desk, "runner jobs --job ") == ["fox", "owl"]
        assert self.offered(desk, "runner jobs --job o") == ["owl"]
        assert self.offered(desk, "runner jobs --ledger other.db --job ") == []

    @pytest.mark.parametrize("text", ["run: {budgt: 3}", "\t{"])
    def test_a_broken_config_or_ledger_is_silent(self, desk: Desk, text: str) -> None:
        desk.write("config.yaml", text)
        assert self.offered(desk, "runner jobs --job ") == []
        desk.write("config.yaml", "")
        desk.write("runner.db", "no database")
        assert self.offered(desk, "runner jobs --job ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_takes_its_script(desk: Desk, shell: str) -> None:
    told = desk.run("completion", shell)
    assert told.status == 0
    assert "_RUNNER_COMPLETE" in told.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=told.out, text=True, check=True, timeout=60)
