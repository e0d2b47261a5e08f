"""The floors of the house, read from the imports: a room knows only what is below it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import runner

ROOT = Path(runner.__file__).parent
LONGEST_MODULE_LINES = 330

FLOORS = {
    "errors": 0,
    "job": 0,
    "events": 0,
    "crash_points": 0,
    "references": 0,
    "characters": 0,
    "clock": 1,
    "policy": 1,
    "documents": 1,
    "manifest": 2,
    "config": 2,
    "ledger": 2,
    "api": 2,
    "governor": 2,
    "disk": 0,
    "fetcher": 2,
    "media": 1,
    "inline": 2,
    "notify": 2,
    "provenance": 2,
    "archive": 3,
    "submitter": 4,
    "poller": 4,
    "downloader": 4,
    "reconciler": 4,
    "inventory": 4,
    "inputs": 4,
    "gate": 4,
    "treasurer": 4,
    "engine": 5,
    "report": 5,
    "assembly": 6,
    "cli": 7,
    "door": 7,
}
# `events` and `errors` speak of job states; that is all a room of the ground floor may know.
GROUND_FLOOR_VALUES = {("events", "job")}
APART = "sandbox"
MAIN = "__main__"


def module_name(path: Path) -> str:
    parts = ("runner", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}


def room(module: str) -> str:
    """The file or folder right under `runner/` that a module lives in; empty for `runner` itself."""
    return [*module.split("."), ""][1]


def imported(module: str) -> Iterator[str]:
    """Every module of the project that a module imports anywhere in it."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level])
            base = node.module or ""
            base = f"{above}.{base}".rstrip(".") if node.level else base
            whole = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in whole]
        else:
            continue
        yield from (name for name in names if name == "runner" or name.startswith("runner."))


def outside(module: str) -> set[str]:
    """The top-level names of everything a module imports."""
    found: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def in_rooms(*rooms: str) -> list[str]:
    return [name for name in MODULES if room(name) in rooms]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_floor(module: str):
    assert room(module) in {*FLOORS, APART, MAIN, ""}, "give it a line in the table of the house"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in FLOORS])
def test_imports_point_to_a_lower_floor(module: str):
    here = room(module)
    for other in set(imported(module)) - {"runner"}:
        there = room(other)
        if there == here or (here, there) in GROUND_FLOOR_VALUES:
            continue
        if there == APART:
            assert here in {"assembly", "cli"}, (
                f"{module} imports {other}: only the composition root may"
            )
            continue
        assert there != MAIN
        assert FLOORS[there] < FLOORS[here], f"{module} imports {other}: sideways or up"


def test_the_package_itself_imports_nothing_until_somebody_reaches_for_a_name():
    # What stands under TYPE_CHECKING is for type checkers, and leads to the door for programs.
    assert {room(name) for name in imported("runner")} <= {"door", "errors"}
    code = "import sys; before = set(sys.modules); import runner; print(set(sys.modules) - before)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "{'runner'}"


def test_what_type_checkers_see_of_the_package_is_what_there_is():
    seen = {
        alias.asname
        for node in ast.walk(TREES["runner"])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(runner.__all__)
    assert all(getattr(runner, name) is not None for name in runner.__all__)


def test_the_main_module_leads_to_the_command_line():
    assert {room(name) for name in imported("runner.__main__")} == {"cli"}


@pytest.mark.parametrize("module", in_rooms(APART))
def test_the_sandbox_knows_nothing_of_the_rest(module: str):
    assert {room(name) for name in imported(module)} <= {APART}


@pytest.mark.parametrize("module", in_rooms("policy"))
def test_policies_know_only_values_and_each_other(module: str):
    assert all(FLOORS[room(name)] <= FLOORS["policy"] for name in imported(module))
    forbidden = {"asyncio", "anyio", "aiohttp", "sqlite3", "socket", "time", "os"}
    assert not outside(module) & forbidden


def test_imports_form_no_cycle():
    graph = {name: {other for other in imported(name) if other != "runner"} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) not in {"api", APART}])
def test_only_the_api_speaks_of_the_key_header(module: str):
    assert "x-api-key" not in MODULES[module].read_text("utf-8").lower()


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) not in {"ledger", APART}])
def test_only_the_ledger_speaks_sql(module: str):
    assert not outside(module) & {"sqlite3", "aiosqlite"}


@pytest.mark.parametrize("module", [*in_rooms("policy", "ledger")])
def test_policies_and_ledger_never_ask_what_time_it_is(module: str):
    assert "time" not in outside(module)
    clocks = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "localtime"}
    called = {
        node.func.attr
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not called & clocks
    text = MODULES[module].read_text("utf-8")
    assert not re.search(r"CURRENT_TIME|'now'|unixepoch|julianday", text, re.IGNORECASE)


@pytest.mark.parametrize(
    "module", [m for m in MODULES if FLOORS.get(room(m), 9) < FLOORS["assembly"]]
)
def test_the_governor_is_the_only_clock_and_the_only_sleeper_of_a_run(module: str):
    if room(module) in ("clock", "governor"):
        return
    assert "time" not in outside(module)
    slept = [
        node
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute)
        and node.attr == "sleep"
        and isinstance(node.value, ast.Name)
        and node.value.id in {"asyncio", "anyio", "time"}
    ]
    assert not slept


@pytest.mark.parametrize("module", in_rooms("ledger", "manifest", "engine"))
def test_storage_and_engine_know_no_http(module: str):
    assert not outside(module) & {"aiohttp", "http", "urllib", "requests"}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_longer_than_a_person_reads_at_once(module: str):
    lines = len(MODULES[module].read_text("utf-8").splitlines())
    assert lines <= LONGEST_MODULE_LINES, f"{module} has {lines} lines; give it a second room"


def test_the_reader_of_imports_sees_through_every_way_of_writing_them():
    assert "runner.ledger.reading_queries" in set(imported("runner.ledger.reading"))
    assert "runner.cli.app" in set(imported("runner.cli"))
    assert set(imported("runner.submitter")) >= {"runner.api", "runner.policy.verdict"}
