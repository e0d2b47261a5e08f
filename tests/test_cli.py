"""What is typed and what is read: every command, its options, its words, its exit status."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from desk import KEY, QUICK, Desk, Service, bare, finish, wait_until

from runner import __version__
from runner.cli.app import _COMMANDS, app
from runner.sandbox import MARKERS, Fixed, Options

ANIMALS = ["a red fox", "a grey owl", "a brown bear"]
SUMMARY_KEYS = {"manifests", "total", "states", "spent", "exit"}
JOB_KEYS = {
    "id", "manifest", "model", "state", "params", "tags", "request_id", "meta", "attempts",
    "submitted_at", "completed_at", "cost", "error", "files",
}  # fmt: skip
FILE_KEYS = {"path", "url", "bytes", "sha256", "content_type"}
ISO_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


def command(name: str) -> click.Command:
    found = app.get_command(click.Context(app), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_help_of_every_command_describes_every_option(desk: Desk, name: str) -> None:
    told = desk.run(name, "--help")
    assert told.status == 0
    assert command(name).help
    for parameter in command(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            for option in parameter.opts:
                assert option in told.out
    assert "Usage: runner" in told.out


def test_the_help_names_every_command(desk: Desk) -> None:
    told = desk.run("--help")
    assert told.status == 0
    for name in _COMMANDS:
        assert re.search(rf"^  {name} +\w", told.out, re.MULTILINE)
        assert desk.run(name, "-h").out == desk.run(name, "--help").out
    assert desk.run("--version").out.strip().endswith(__version__)


PROMISED = {
    "run": "-c --config --sandbox --ledger --output --concurrency --rpm --limit --dry-run --json "
    "-q --quiet -v --verbose",
    "plan": "-c --config --ledger --output --json",
    "status": "-c --config --ledger --output --json",
    "jobs": "-c --config --ledger --output --state --json",
    "retry": "-c --config --ledger --output --state --job --yes",
    "gallery": "-c --config --ledger --output --open --serve --host --port",
    "sandbox": "--port --latency --rpm --retention --credits --fail-rate --block-rate "
    "--lost-answers --error-rate --seed",
}


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_option_is_there(name: str) -> None:
    there = {option for parameter in command(name).params for option in parameter.opts}
    assert set(PROMISED[name].split()) <= there


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "Usage"),
        ("rn", "did you mean `run`"),
        ("frobnicate", "frobnicate"),
        ("--nonsense", "--nonsense"),
        ("run", "MANIFEST"),
        ("run nowhere.yaml", "nowhere.yaml"),
        ("run .", "folder"),
        ("run --nonsense a.yaml", "--nonsense"),
        ("run --concurrency 0 a.yaml", "concurrency"),
        ("run --limit -1 a.yaml", "limit"),
        ("run --rpm many a.yaml", "rpm"),
        ("run -c nowhere.yaml a.yaml", "nowhere.yaml"),
        ("plan nowhere.yaml", "nowhere.yaml"),
        ("status nowhere.yaml", "nowhere.yaml"),
        ("status nothing", "no file and no manifest `nothing`"),
        ("jobs nothing", "no file and no manifest `nothing`"),
        ("jobs --state odd", "odd"),
        ("jobs --job nobody", "nobody"),
        ("retry --state saved", "saved"),
        ("retry", "ledger"),
        ("sandbox --latency soon", "soon"),
        ("sandbox --fail-rate 2", "fail-rate"),
        ("sandbox --retention never", "never"),
        ("schema poem", "poem"),
        ("schema", "manifest"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(desk: Desk, arguments: str, words: str) -> None:
    told = desk.run(*arguments.split())
    assert told.status == 2
    assert words in told.err
    assert "Traceback" not in told.words
    assert told.out == ""


def test_a_fault_of_a_manifest_names_file_and_line(desk: Desk, api: Service) -> None:
    desk.write("animals.yaml", "model: imagen\nprompts:\n  - a fox\ncolor: red\nvars: 7\n")
    told = desk.run("run", "animals.yaml")
    assert told.status == 2
    assert "animals.yaml:4" in told.err
    assert "animals.yaml:5" in told.err
    assert told.err.startswith("runner: ")
    assert list(api.sandbox.requests) == []


def test_a_fault_of_a_config_names_file_and_line(desk: Desk) -> None:
    desk.write("config.yaml", "run:\n  concurency: 3\n")
    told = desk.run("run", desk.manifest("a fox"))
    assert told.status == 2
    assert "config.yaml:2" in told.err
    assert "concurrency" in told.err


@pytest.fixture
def mixed(desk: Desk, serve: Callable[..., Service]) -> Service:
    """A finished run: two saved, one failed, one in doubt."""
    service = serve(QUICK, on_doubt="hold")
    jobs = [
        {"prompt": "a red fox", "id": "fox", "tags": ["wild", "red"]},
        {"prompt": "a grey owl", "id": "owl", "params": {"aspect_ratio": "1:1"}},
        {"prompt": "a bear [[fail]]", "id": "bear"},
        {"prompt": "a swan [[lost]]", "id": "swan"},
    ]
    assert desk.run("run", desk.manifest(*jobs)).status == 1
    return service


def check_counts(told: dict[str, Any]) -> None:
    assert set(told) >= SUMMARY_KEYS
    assert told["total"] == 4
    assert told["states"] == {"saved": 2, "failed": 1, "in_doubt": 1}
    assert told["spent"] == pytest.approx(0.08)
    assert told["exit"] == 1
    (manifest,) = told["manifests"]
    assert set(manifest) >= {"name", "total", "states", "spent"}
    assert manifest["name"] == "animals"
    assert manifest["states"] == told["states"]


def test_run_json_is_one_object_on_stdout_and_all_else_on_stderr(
    desk: Desk, mixed: Service
) -> None:
    told = desk.run("run", "animals.yaml", "--json")
    assert told.status == 1
    assert len(told.out.splitlines()) == 1
    check_counts(told.json)


def test_run_json_is_pure_with_verbose_too(desk: Desk, api: Service) -> None:
    told = desk.run("run", desk.manifest("a fox"), "--json", "-v")
    assert told.json["states"] == {"saved": 1}
    assert told.json["exit"] == told.status == 0
    assert "submit" in told.err


def test_status_tells_what_the_ledger_holds(desk: Desk, mixed: Service) -> None:
    told = desk.run("status", "--json")
    assert told.status == 0
    check_counts(told.json)
    assert Path(told.json["output"]) in (Path("output"), desk.output)
    words = desk.run("status", "animals.yaml").out
    for each in ("animals", "4 jobs", "saved", "failed", "in doubt", "$0.08"):
        assert each in words


def test_status_of_one_manifest_leaves_out_the_others(desk: Desk, mixed: Service) -> None:
    desk.run("run", desk.manifest("a lamp", name="things"))
    assert desk.run("status", "things.yaml", "--json").json["total"] == 1
    assert desk.run("status", "--json").json["total"] == 5


def test_a_manifest_whose_file_is_gone_goes_by_its_name(desk: Desk, mixed: Service) -> None:
    (desk.folder / "animals.yaml").unlink()
    check_counts(desk.run("status", "animals", "--json").json)
    assert len(desk.jobs("animals")) == 4


def test_status_without_a_ledger_says_so_and_makes_none(desk: Desk) -> None:
    told = desk.run("status")
    assert told.status == 0
    assert "no ledger" in told.out
    assert desk.run("status", "--json").json["total"] == 0
    assert desk.run("jobs").out == ""
    assert list(desk.folder.iterdir()) == []


def test_status_tells_the_next_deadline(desk: Desk, serve: Callable[..., Service]) -> None:
    serve(Options(latency=Fixed(60), picture_px=64), drain="100ms")
    assert desk.run("run", desk.manifest("a fox"), "--limit", "1").status == 3
    told = desk.run("status", "--json").json
    assert ISO_UTC.fullmatch(told["next_deadline"])
    assert told["exit"] == 3
    assert "in 59 min" in desk.run("status").out or "in 1 h" in desk.run("status").out


def test_jobs_json_has_a_whole_job_on_every_line(desk: Desk, mixed: Service) -> None:
    jobs = desk.jobs()
    assert list(jobs) == ["fox", "owl", "bear", "swan"]
    for job in jobs.values():
        assert set(job) >= JOB_KEYS
        assert job["manifest"] == "animals"
        assert job["model"] == "imagen"
        assert job["attempts"] == 1
        assert ISO_UTC.fullmatch(job["submitted_at"])
    fox = jobs["fox"]
    assert fox["params"]["prompt"] == "a red fox"
    assert fox["tags"] == ["wild", "red"]
    assert ISO_UTC.fullmatch(fox["completed_at"])
    (file,) = fox["files"]
    assert set(file) >= FILE_KEYS
    assert file["path"] == "fox.png"
    assert file["url"].startswith(mixed.url)
    assert file["content_type"] == "image/png"
    assert len(file["sha256"]) == 64
    assert jobs["bear"]["cost"] in (None, 0)
    assert jobs["bear"]["files"] == []
    assert "Inference failed" in jobs["bear"]["error"] or jobs["bear"]["error"]
    assert jobs["swan"]["request_id"] is None


def test_jobs_can_be_chosen_by_state(desk: Desk, mixed: Service) -> None:
    assert list(desk.jobs("--state", "failed")) == ["bear"]
    assert list(desk.jobs("--state", "failed", "--state", "in_doubt")) == ["bear", "swan"]
    assert list(desk.jobs("--state", "pending")) == []
    lines = desk.run("jobs", "animals.yaml").out.splitlines()
    assert len(lines) == 4
    assert all(each in lines[0] for each in ("fox", "saved", "imagen"))


def test_the_story_of_one_job_is_told(desk: Desk, mixed: Service) -> None:
    told = desk.run("jobs", "--job", "bear").out
    for each in ("bear", "failed", "animals.yaml:", "a bear", "submitted", "HTTP 422", "history"):
        assert each in told


def test_a_prompt_cannot_steer_the_terminal(desk: Desk, api: Service) -> None:
    nasty = "a fox\x1b[2J\x1b]0;owned\x07\u202egnp"
    assert desk.run("run", "-v", desk.manifest({"prompt": nasty, "id": "fox"})).status == 0
    for line in (["jobs"], ["jobs", "--job", "fox"], ["status"]):
        told = desk.run(*line)
        assert "\x1b" not in told.words
        assert "\u202e" not in told.words
    assert desk.jobs()["fox"]["params"]["prompt"] == nasty


def test_plan_tells_what_a_run_would_do_and_sends_nothing(desk: Desk, mixed: Service) -> None:
    before = len(mixed.sandbox.requests)
    desk.manifest(
        {"prompt": "a red fox", "id": "fox"}, {"prompt": "a bear [[fail]]", "id": "bear"}, "a crane"
    )
    ledger = (desk.folder / "runner.db").read_bytes()
    told = desk.run("plan", "animals.yaml")
    assert told.status == 0
    assert "new, will be submitted" in told.out
    assert "saved already" in told.out
    assert "no longer in the manifest" in told.out
    plan = desk.run("plan", "animals.yaml", "--json").json
    assert plan["submits"] == 1
    assert plan["removed"] == 2
    # One in three failed so far, which cost nothing.
    assert plan["cost"] == pytest.approx(0.04 * 2 / 3)
    dry = desk.run("run", "--dry-run", "animals.yaml", "--json").json
    # Others write to the disk meanwhile.
    assert {**dry, "free_bytes": 0} == {**plan, "free_bytes": 0}
    assert len(mixed.sandbox.requests) == before
    assert (desk.folder / "runner.db").read_bytes() == ledger


def test_plan_needs_neither_key_nor_ledger(desk: Desk) -> None:
    told = desk.run("plan", desk.manifest(*ANIMALS))
    assert told.status == 0, told.words
    assert "to submit  3" in told.out
    assert {path.name for path in desk.folder.iterdir()} == {"animals.yaml"}


def test_plan_refuses_what_a_run_would_refuse(desk: Desk) -> None:
    told = desk.run("plan", desk.manifest("a fox", params={"aspect_ratio": "7:1"}))
    assert told.status == 2
    assert "aspect_ratio" in told.err


def test_retry_of_failed_jobs_sends_them_again(desk: Desk, mixed: Service) -> None:
    told = desk.run("retry")
    assert told.status == 0
    assert "1 job is pending again" in told.out
    assert desk.jobs()["bear"]["state"] == "pending"
    accepted = mixed.accepted
    assert desk.run("run", "animals.yaml").status == 1
    assert mixed.accepted == accepted + 1
    assert desk.jobs()["bear"]["attempts"] == 2


def test_retry_that_may_pay_twice_asks_first(desk: Desk, mixed: Service) -> None:
    alone = desk.process("retry", "--state", "in_doubt")
    assert alone.status == 2
    assert "--yes" in alone.err
    assert "twice" in alone.err
    assert desk.jobs()["swan"]["state"] == "in_doubt"
    assert desk.run("retry", "--state", "in_doubt", "--yes").status == 0
    assert desk.jobs()["swan"]["state"] == "pending"


def test_retry_takes_a_job_by_its_id(desk: Desk, mixed: Service) -> None:
    assert desk.run("retry", "--job", "bear").status == 0
    states = {id_: job["state"] for id_, job in desk.jobs().items()}
    assert states == {"fox": "saved", "owl": "saved", "bear": "pending", "swan": "in_doubt"}
    assert "no such job" in desk.run("retry", "--job", "fox").words


@pytest.mark.parametrize(("answer", "state"), [("y\n", "pending"), ("n\n", "in_doubt")])
def test_retry_takes_an_answer_from_the_terminal(
    desk: Desk, mixed: Service, answer: str, state: str
) -> None:
    shown, status = in_terminal(desk, ["retry", "--state", "in_doubt"], typed=answer)
    assert "twice" in shown
    assert desk.jobs()["swan"]["state"] == state
    assert (status == 0) == (state == "pending")


@pytest.mark.parametrize("kind", ["manifest", "config"])
def test_schema_prints_a_json_schema(desk: Desk, kind: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    told = desk.run("schema", kind)
    assert told.status == 0
    jsonschema.Draft202012Validator.check_schema(told.json)


def test_what_init_writes_runs_in_the_sandbox_without_a_key(desk: Desk) -> None:
    told = desk.run("init", "--name", "first")
    assert told.status == 0
    assert {path.name for path in desk.folder.iterdir()} == {"config.yaml", "first.yaml"}
    following = told.out.splitlines()[-1].partition("runner ")[2].split()
    ended = desk.run(*following)
    assert ended.status == 0, ended.words
    assert "SIMULATED" in ended.out
    assert desk.run("plan", "first.yaml").status == 0
    again = desk.run("init", "--name", "first")
    assert again.status == 2
    assert "--force" in again.err
    assert desk.run("init", "--name", "first", "--force").status == 0


def test_init_writes_into_a_folder_of_its_own(desk: Desk) -> None:
    assert desk.run("init", "new/deep").status == 0
    assert (desk.folder / "new" / "deep" / "config.yaml").exists()


def test_the_sandbox_keeps_its_own_ledger_and_output(desk: Desk, api: Service) -> None:
    simulated = desk.run("run", "--sandbox", desk.manifest("a fox"))
    assert simulated.status == 0, simulated.words
    assert api.accepted == 0
    assert not (desk.folder / "runner.db").exists()
    assert not desk.output.exists()
    assert (desk.folder / "sandbox.db").exists()
    assert desk.run("status", "--sandbox", "--json").json["simulated"] is True


def test_simulated_and_real_jobs_do_not_share_a_ledger(desk: Desk, api: Service) -> None:
    desk.environ["SEGMIND_API_KEY"] = KEY
    assert desk.run("run", desk.manifest("a fox")).status == 0
    desk.write("config.yaml", "api: {base_url: 'https://segmind.invalid'}")
    told = desk.run("run", "animals.yaml")
    assert told.status == 2
    assert "--ledger" in told.err


def test_quiet_says_only_how_it_ended(desk: Desk, api: Service) -> None:
    told = desk.run("run", "-q", desk.manifest("a fox"))
    assert told.err == ""
    assert "1 job is saved" in told.out


def test_verbose_has_a_line_for_every_request_and_move(desk: Desk, api: Service) -> None:
    told = desk.run("run", "-v", desk.manifest({"prompt": "a fox", "id": "fox"}))
    for each in ("submit: HTTP 200", "status: HTTP 200", "result: HTTP 200"):
        assert each in told.err
    for each in ("pending -> submitting", "submitting -> submitted", "completed -> saved"):
        assert each in told.err


def test_redirected_output_holds_no_escape_codes(desk: Desk, api: Service) -> None:
    told = desk.process("run", desk.manifest(*ANIMALS))
    assert "\x1b" not in told.words
    assert "\r" not in told.words
    assert len(told.err.splitlines()) <= 3


def test_paths_are_relative_to_where_they_are_written(desk: Desk, api: Service) -> None:
    (desk.folder / "conf").mkdir()
    config = (desk.folder / "config.yaml").read_text()
    desk.write("conf/my.yaml", config + "ledger: runner.db\noutput: output\n")
    (desk.folder / "config.yaml").unlink()
    manifest = desk.manifest("a fox")
    assert desk.run("run", manifest, "-c", "conf/my.yaml").status == 0
    assert (desk.folder / "conf" / "runner.db").exists()
    assert (desk.folder / "conf" / "output").is_dir()
    ended = desk.run(
        "run", manifest, "-c", "conf/my.yaml", "--ledger", "a/b.db", "--output", "pictures"
    )
    assert ended.status == 0, ended.words
    assert (desk.folder / "a" / "b.db").exists()
    assert (desk.folder / "pictures").is_dir()


def test_the_command_line_beats_the_environment_beats_the_config(desk: Desk, api: Service) -> None:
    manifest = desk.manifest("a fox")
    desk.environ["RUNNER_OUTPUT"] = "from-environment"
    assert desk.run("run", manifest).status == 0
    assert (desk.folder / "from-environment").is_dir()
    assert desk.run("run", manifest, "--output", "from-typing").status == 0
    assert not desk.output.exists()


def test_sandbox_lists_its_markers(desk: Desk) -> None:
    told = desk.run("sandbox", "--markers").out
    assert all(f"[[{name}]]" in told for name in MARKERS)


def test_sandbox_says_when_its_port_is_taken(desk: Desk, api: Service) -> None:
    told = desk.run("sandbox", "--port", api.url.rpartition(":")[2])
    assert told.status == 2
    assert "port" in told.err


def test_sandbox_ends_cleanly_with_a_signal(desk: Desk) -> None:
    process = desk.start("sandbox", "--port", "0")
    assert "http://127.0.0.1:" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    ended = finish(process, 5)
    assert ended.status == 0
    assert ended.err == ""


@pytest.mark.parametrize("line", [["--help"], ["run", "--help"], ["status"], ["jobs", "--help"]])
def test_what_only_looks_starts_without_the_heavy_libraries(desk: Desk, line: list[str]) -> None:
    script = (
        "import sys; from runner.cli import main\n"
        f"sys.argv = ['runner', *{line!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('aiohttp', 'PIL', 'rich', 'numpy') if m in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        cwd=desk.folder,
        env=bare(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1] == "[]"


def test_a_run_with_nothing_to_do_says_one_line_and_loads_nothing_heavy(
    desk: Desk, api: Service
) -> None:
    assert desk.run("run", desk.manifest("a fox")).status == 0
    again = desk.process("run", "animals.yaml", environ={"PYTHONPROFILEIMPORTTIME": "1"})
    assert again.out.count("\n") == 1
    assert "nothing to do" in again.out
    lines = again.err.splitlines()
    assert [line for line in lines if not line.startswith("import time:")] == []
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert "runner.ledger" in loaded
    assert not loaded & {"aiohttp", "PIL", "rich", "apprise"}


def test_a_reader_that_leaves_early_is_no_error(desk: Desk, mixed: Service) -> None:
    shell = f"{sys.executable} -m runner jobs | head -n 1"
    told = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}"],
        cwd=desk.folder,
        env=bare(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in told.stderr
    assert "Error" not in told.stderr


def in_terminal(
    desk: Desk, arguments: list[str], typed: str = "", columns: int = 90
) -> tuple[str, int]:
    """Runs the command in a pseudo terminal; returns all that it wrote, and its exit status."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover  (the other process)
        os.chdir(desk.folder)
        os.execve(  # noqa: S606
            sys.executable,
            [sys.executable, "-m", "runner", *arguments],
            bare({"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "30"}),
        )
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    shown = bytearray()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        if typed and b"?" in shown:
            os.write(terminal, typed.encode())
            typed = ""
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(status)


def test_a_terminal_shows_the_live_display_and_is_left_clean(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(0.6), picture_px=64))
    shown, status = in_terminal(desk, ["run", desk.manifest(*ANIMALS)])
    assert status == 0
    assert api.accepted == 3
    assert "\x1b[" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0
    final = shown[shown.rindex("\x1b[?25h") :]
    assert "all 3 jobs saved" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", final)
    assert "Traceback" not in shown


def test_a_signal_in_a_terminal_gives_the_cursor_back(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(30), picture_px=64), drain="200ms")
    manifest = desk.manifest(*ANIMALS)
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover  (the other process)
        os.chdir(desk.folder)
        os.execve(  # noqa: S606
            sys.executable,
            [sys.executable, "-m", "runner", "run", manifest],
            bare({"TERM": "xterm-256color"}),
        )
    wait_until(lambda: api.accepted == 3)
    os.write(terminal, b"\x03")  # Ctrl-C, as it is typed
    shown = bytearray()
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 3
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") > 0
    assert b"run again to go on" in shown
    assert b"Traceback" not in shown


def test_json_of_jobs_can_be_read_line_by_line_by_anything(desk: Desk, api: Service) -> None:
    odd = 'ein Fuchs \u2028 mit "Anführung"\tund 狐'
    desk.run("run", desk.manifest({"prompt": odd, "id": "fox"}))
    lines = desk.run("jobs", "--json").out.split("\n")
    assert len(lines) == 2
    assert json.loads(lines[0])["params"]["prompt"] == odd
