"""`runner init`: first files that work, by questions in a terminal; and what runs them every night."""

from __future__ import annotations

import os
import pty
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from desk import KEY, Desk, Service, bare

from runner.cli.schedule import Schedule
from runner.errors import UsageError
from runner.manifest import load

AWKWARD = "my 100% $HOME 'quoted' [x]"


def in_terminal(desk: Desk, words: Sequence[str], answers: Sequence[tuple[str, str]]) -> str:
    """Types each answer when its question is shown; returns all that was shown."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover  (the other process)
        os.chdir(desk.folder)
        environ = bare({"TERM": "dumb", "COLUMNS": "200", **desk.environ})
        os.execve(sys.executable, [sys.executable, "-m", "runner", *words], environ)  # noqa: S606
    shown, seen, left = b"", 0, list(answers)
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        while left and left[0][0].encode() in shown[seen:]:
            seen = shown.index(left[0][0].encode(), seen) + len(left[0][0])
            os.write(terminal, left.pop(0)[1].encode() + b"\n")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, shown.decode(errors="replace")
    assert not left, (left, shown)
    return shown.decode(errors="replace")


ALL_DEFAULTS = [("Aspect ratio", ""), ("Requests per minute", ""), ("Folder for", "")]


def test_answers_become_a_manifest_and_a_config_that_work(desk: Desk) -> None:
    desk.environ["SEGMIND_API_KEY"] = KEY
    shown = in_terminal(
        desk,
        ["init"],
        [
            ("Model [imagen]", ""),
            ("ends the list", 'a "red" fox: #1'),
            ("\n  ", "no"),
            ("\n  ", "{{season}} forest"),
            ("later", "ein Wald im März"),
            ("\n  ", ""),
            ("Aspect ratio", "16:9"),
            ("Requests per minute", "50"),
            ("Folder for", "my pictures"),
        ],
    )
    assert KEY not in shown
    assert "SEGMIND_API_KEY is set" in shown
    jobs = list(load(desk.folder / "pictures.yaml").jobs())
    assert [job.params["prompt"] for job in jobs] == ['a "red" fox: #1', "no", "ein Wald im März"]
    assert {job.params["aspect_ratio"] for job in jobs} == {"16:9"}
    config = yaml.safe_load((desk.folder / "config.yaml").read_text())
    assert config["api"]["rpm"] == 50
    assert config["output"] == "my pictures"
    ended = desk.run("run", "pictures.yaml", "--sandbox")
    assert ended.status == 0, ended.words


def test_a_file_of_prompts_is_taken_with_the_column_that_holds_them(desk: Desk) -> None:
    desk.write("night list.csv", "Text,Category\na pond,water\na hill,land\n")
    desk.write("list.csv", "Text,Category\na pond,water\na hill,land\n")
    shown = in_terminal(
        desk,
        ["init"],
        [
            ("Model", ""),
            ("ends the list", "nowhere.csv"),
            ("there is no file", "list.csv"),
            ("Which column", ""),
            *ALL_DEFAULTS,
        ],
    )
    assert "SEGMIND_API_KEY is not set" in shown
    jobs = list(load(desk.folder / "pictures.yaml").jobs())
    assert [job.params["prompt"] for job in jobs] == ["a pond", "a hill"]


def test_nothing_is_overwritten_without_asking(desk: Desk) -> None:
    desk.write("config.yaml", "ledger: mine.db\n")
    desk.write("pictures.yaml", "model: imagen\nprompts: [mine]\n")
    questions = [("Model", ""), ("ends the list", "a fox"), ("\n  ", ""), *ALL_DEFAULTS]
    in_terminal(
        desk, ["init"], [*questions, ("config.yaml exists", "n"), ("pictures.yaml exists", "y")]
    )
    assert (desk.folder / "config.yaml").read_text() == "ledger: mine.db\n"
    assert "a fox" in (desk.folder / "pictures.yaml").read_text()


def test_a_faulty_file_of_prompts_is_told_with_its_line(desk: Desk) -> None:
    desk.write("prompts.txt", "a fox\na {{colour}} owl\n")
    desk.write("pictures.yaml", "model: imagen\nprompts:\n  - file: prompts.txt\n")
    told = desk.run("init", "--cron")
    assert told.status == 2
    assert "prompts.txt:2" in told.err
    assert "runner plan pictures.yaml" in told.err


# Schedules


def scheduled(desk: Desk, *options: str, folder: str = AWKWARD) -> Path:
    """A folder of an awkward name with a manifest in it and what runs it."""
    home = desk.folder / folder
    told = desk.run("init", folder, "--name", "night", *options)
    assert told.status == 0, told.words
    return home


def cron_command(crontab: str) -> tuple[str, str]:
    """The times of a crontab's line, and the command that cron hands to the shell, as cron reads it."""
    (line,) = [line for line in crontab.splitlines() if line and not line.startswith("#")]
    times = " ".join(line.split()[:5])
    rest, command, escaped = line.split(None, 5)[5], "", False
    for character in rest:
        if escaped and character == "%":
            command = command[:-1] + character
            escaped = False
        elif escaped:
            command += character
            escaped = False
        elif character == "%":
            break
        else:
            command += character
            escaped = character == "\\"
    return times, command


def test_the_crontab_line_works_where_cron_runs_it(desk: Desk, api: Service) -> None:
    desk.environ["SEGMIND_API_KEY"] = KEY
    home = desk.folder / AWKWARD
    home.mkdir()
    desk.configure(api.url, key=None)
    shutil.move(desk.folder / "config.yaml", home / "config.yaml")
    scheduled(desk, "--cron", "--at", "3:05")
    times, command = cron_command((home / "night.cron").read_text())
    assert times == "5 3 * * *"
    told = subprocess.run(
        ["env", "-i", "HOME=/", "PATH=/usr/bin:/bin", "/bin/sh", "-c", command],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    assert api.accepted == 4, told.stdout
    assert len(list((home / "output" / "night").iterdir())) == 4
    assert (home / "logs" / "night.jsonl").exists()
    assert KEY not in (home / "night.cron").read_text()


def test_the_keys_file_is_its_owners_alone_from_the_first_instant(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.environ["SEGMIND_API_KEY"] = KEY
    modes, real = [], os.open

    def watched(path: str, flags: int, mode: int = 0o777, **rest: int) -> int:
        descriptor = real(path, flags, mode, **rest)
        if "runner.env" in str(path):
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(0)
    try:
        home = scheduled(desk, "--cron")
    finally:
        os.umask(before)
    assert modes == [0o600]
    environment = home / "runner.env"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    assert f"SEGMIND_API_KEY={KEY}\n" in environment.read_text()
    holders = [p.name for p in home.iterdir() if KEY in p.read_text(errors="replace")]
    assert holders == ["runner.env"]


def test_a_keys_file_that_is_there_is_kept_and_closed_to_others(desk: Desk) -> None:
    home = scheduled(desk, "--cron")
    told = desk.run("init", AWKWARD, "--name", "night", "--cron", "--force")
    assert "put your key into" in told.out
    environment = home / "runner.env"
    environment.write_text("SEGMIND_API_KEY=SG_mine\n")
    environment.chmod(0o644)
    scheduled(desk, "--systemd", "--force")
    assert environment.read_text() == "SEGMIND_API_KEY=SG_mine\n"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600


def test_a_schedule_keeps_config_and_manifest_and_does_not_overwrite_itself(desk: Desk) -> None:
    home = desk.folder / "here"
    home.mkdir()
    (home / "config.yaml").write_text("ledger: mine.db\n")
    scheduled(desk, "--cron", folder="here")
    assert (home / "config.yaml").read_text() == "ledger: mine.db\n"
    again = desk.run("init", "here", "--name", "night", "--cron")
    assert again.status == 2
    assert "night.cron" in again.err
    assert desk.run("init", "here", "--name", "night", "--cron", "--force").status == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_takes_service_and_timer(desk: Desk) -> None:
    home = scheduled(desk, "--systemd")
    units = [str(home / f"runner-night.{kind}") for kind in ("service", "timer")]
    told = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, told.stderr
    assert "runner-night" not in told.stderr


def test_the_service_says_paths_and_exit_statuses_as_systemd_reads_them(desk: Desk) -> None:
    home = scheduled(desk, "--systemd", "--at", "3:05")
    service = (home / "runner-night.service").read_text()
    found = dict(re.findall(r"^(\w+)=(.*)$", service, re.MULTILINE))
    path = str(home).replace("%", "%%")
    assert found["WorkingDirectory"] == path
    assert found["EnvironmentFile"] == path.replace("[", "[[]") + "/runner.env"
    assert found["ExecStart"].startswith(":/")
    assert f'"{path}/night.yaml"' in found["ExecStart"]
    assert found["SuccessExitStatus"] == "3 75"
    assert "OnCalendar=*-*-* 03:05:00" in (home / "runner-night.timer").read_text()


@pytest.mark.skipif(shutil.which("crontab") is None, reason="there is no cron")
def test_cron_takes_the_crontab(desk: Desk) -> None:
    home = scheduled(desk, "--cron")
    told = subprocess.run(
        ["crontab", "-n", "night.cron"], cwd=home, capture_output=True, text=True, timeout=60
    )
    if "invalid option" not in told.stderr:
        assert told.returncode == 0, told.stderr


def test_a_folder_that_no_schedule_can_name_is_refused(tmp_path: Path) -> None:
    for name in ("back\\slash", "new\nline"):
        with pytest.raises(UsageError, match="another folder"):
            Schedule(tmp_path / name, tmp_path / name / "night.yaml", "01:15")


def test_a_time_that_is_none_is_told(desk: Desk) -> None:
    told = desk.run("init", "--cron", "--at", "25:00")
    assert told.status == 2
    assert "--at" in told.err
    assert list(desk.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "", ".hidden", "night: 1"])
def test_a_name_that_no_manifest_can_have_is_told(desk: Desk, name: str) -> None:
    told = desk.run("init", "--name", name)
    assert told.status == 2
    assert "--name" in told.err
    assert list(desk.folder.iterdir()) == []
