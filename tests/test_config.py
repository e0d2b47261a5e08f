"""Settings: the command line beats the environment beats the file beats the defaults."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from runner.config import Settings, config_schema, load_settings, parse_duration
from runner.documents import YamlFile, keys_of
from runner.errors import InputError

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.yaml"
SECRET = "SG_0123456789abcdef"


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(
    text: str | None = None,
    environ: dict[str, str] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Settings:
    if text is not None:
        Path("config.yaml").write_text(text, encoding="utf-8")
    return load_settings(None, environ or {}, overrides or {})


def faults(*sources: Any) -> str:
    with pytest.raises(InputError) as caught:
        settings(*sources)
    return str(caught.value)


def test_defaults() -> None:
    found = settings()
    assert found.api.base_url == "https://api.segmind.com"
    assert found.api.history_url == "https://api.spotprod.segmind.com"
    assert found.api.key is None
    assert found.api.rpm is None
    assert found.api.timeout_s == 60
    assert (found.run.concurrency, found.run.submit_attempts) == (None, 5)
    assert (found.run.download_attempts, found.run.retention_s, found.run.drain_s) == (5, 3600, 900)
    assert (found.ledger, found.output) == (Path("runner.db"), Path("output"))


def test_each_source_beats_the_one_before() -> None:
    text = "run: {concurrency: 1}"
    environ = {"RUNNER_RUN_CONCURRENCY": "2"}
    assert settings(text).run.concurrency == 1
    assert settings(text, environ).run.concurrency == 2
    assert settings(text, environ, {"run.concurrency": 3}).run.concurrency == 3
    assert settings(text, environ, {"run.concurrency": None}).run.concurrency == 2


def test_sources_complete_each_other() -> None:
    found = settings(
        "run: {drain: 1m}", {"RUNNER_RUN_RETENTION": "2h", "RUNNER_API_RPM": "60"}, {"output": "o"}
    )
    assert (found.run.drain_s, found.run.retention_s, found.api.rpm) == (60, 7200, 60)
    assert found.output == Path("o")


def test_the_config_of_the_working_directory_is_read_unless_one_is_named(tmp_path: Path) -> None:
    Path("config.yaml").write_text("api: {rpm: 1}")
    (tmp_path / "other.yaml").write_text("api: {rpm: 2}")
    assert load_settings(None, {}, {}).api.rpm == 1
    assert load_settings(Path("other.yaml"), {}, {}).api.rpm == 2


def test_a_named_config_must_be_there() -> None:
    with pytest.raises(InputError, match=r"other\.yaml: there is no such file"):
        load_settings(Path("other.yaml"), {}, {})


@pytest.mark.parametrize("text", ["", "# nothing\n", "api:\nrun:\n  drain:\n", "api: {}"])
def test_a_config_may_be_empty(text: str) -> None:
    assert settings(text) == Settings.model_validate({})


def test_the_key_comes_from_the_environment_unless_the_config_says_otherwise() -> None:
    environ = {"SEGMIND_API_KEY": "SG_env"}
    assert secret(settings("", environ)) == "SG_env"
    assert secret(settings("api: {key: SG_file}", environ)) == "SG_file"
    assert secret(settings("api: {key: '${OTHER}'}", {**environ, "OTHER": "SG_o"})) == "SG_o"
    assert secret(settings("api: {key: ''}", environ)) == "SG_env"


def secret(found: Settings) -> str | None:
    return None if found.api.key is None else found.api.key.get_secret_value()


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_an_empty_key_counts_as_none(blank: str) -> None:
    assert settings(None, {"SEGMIND_API_KEY": blank}).api.key is None
    assert settings(json.dumps({"api": {"key": blank}})).api.key is None


def test_whitespace_around_the_key_is_stripped() -> None:
    assert secret(settings(None, {"SEGMIND_API_KEY": f" {SECRET}\r\n"})) == SECRET


def test_the_key_is_never_shown() -> None:
    found = settings(None, {"SEGMIND_API_KEY": SECRET})
    assert SECRET not in repr(found) + str(found) + found.model_dump_json()


@pytest.mark.parametrize("key", [f"{SECRET}\0x", f"{SECRET} x", f"{SECRET}\nx", f"{SECRET}é"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key: str) -> None:
    told = faults(None, {"SEGMIND_API_KEY": key})
    assert told == "SEGMIND_API_KEY: holds characters that no key has; was it copied whole?"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("api:\n  rpm: 0", "config.yaml:2: api.rpm: must be at least 1, not 0"),
        ("api: {rpm: true}", "config.yaml:1: api.rpm: must be a number, not true"),
        ("api: {rpm: 1.5}", "config.yaml:1: api.rpm: must be a whole number, not a number"),
        (
            "run: {drain: soon}",
            "run.drain: must be a duration like `90s`, `15m` or `1h30m`, not `so",
        ),
        ("run: {drain: 0s}", "run.drain: must be longer than nothing"),
        ("run: 7", "config.yaml:1: run: must be a mapping, not a number"),
        ("- a", "config.yaml:1: must be a mapping from keys to values, not a list"),
        ("ledger: [a]", "config.yaml:1: ledger: must be a path, not a list"),
        ("ledgr: a", "config.yaml:1: unknown key `ledgr`, did you mean `ledger`?"),
        (
            "run:\n  concurency: 3",
            "config.yaml:2: unknown key `run.concurency`, did you mean `conc",
        ),
        ("output: ${NOPE}/x", "config.yaml:1: output: the environment variable `NOPE` is not set"),
        ("api: {key: [a]}", "config.yaml:1: api.key: must be a text, not a list"),
        ("run:\n\tdrain: 1", "config.yaml:2: is indented with a tab"),
        ("output: ~nobody-here/x", "config.yaml:1: output: `~nobody-here/x` begins with a home"),
        ('ledger: "a\\0b"', "config.yaml:1: ledger: holds characters that no path should have"),
    ],
)
def test_a_fault_of_the_file_is_told_with_line_and_key(text: str, told: str) -> None:
    assert told in faults(text)


def test_a_fault_of_the_environment_names_the_variable() -> None:
    told = faults(None, {"RUNNER_RUN_CONCURRENCY": "many"})
    assert told == "RUNNER_RUN_CONCURRENCY: must be a whole number, not a text"


def test_a_fault_of_the_command_line_names_the_option() -> None:
    told = faults(None, {}, {"run.submit_attempts": 0})
    assert told == "--submit-attempts: must be at least 1, not 0"


def test_a_misspelt_variable_is_told_and_those_of_other_programs_are_not() -> None:
    told = faults(None, {"RUNNER_RUN_CONCURENCY": "3", "RUNNER_OS": "Linux", "RUNNER_TEMP": "/t"})
    assert told == (
        "RUNNER_RUN_CONCURENCY: this variable is not known, did you mean `RUNNER_RUN_CONCURRENCY`?"
    )


def test_every_fault_is_listed_in_the_order_of_its_lines() -> None:
    told = faults("api:\n  rpm: 0\nrun:\n  drain: x\noutput: ${NOPE}\n").splitlines()
    assert [line.split(":")[1] for line in told] == ["2", "4", "5"]


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://api.segmind.com/", "https://api.segmind.com"),
        ("HTTPS://API.Segmind.com:8443", "https://api.segmind.com:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://192.168.1.7", "http://192.168.1.7"),
    ],
)
def test_an_address_is_an_origin(text: str, origin: str) -> None:
    assert settings(f"api: {{base_url: '{text}'}}").api.base_url == origin


@pytest.mark.parametrize(
    "text",
    [
        "api.segmind.com",
        "ftp://api.segmind.com",
        "https://",
        "https://api.segmind.com/v2",
        "https://api.segmind.com?x=1",
        "https://api.segmind.com/#x",
        "https://me:pw@api.segmind.com",
        "https://api.segmind.com:99999",
        "http://api.segmind.com",
        "http://8.8.8.8",
        "http://localhost.evil.com",
    ],
)
def test_what_is_no_origin_or_would_carry_the_key_in_clear_is_refused(text: str) -> None:
    assert "api.history_url" in faults(f"api: {{history_url: '{text}'}}")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("8h", 28_800),
        ("1h30m", 5_400),
        ("500ms", 0.5),
        ("1.5h", 5_400),
        ("1d", 86_400),
        (" 7 ", 7),
        (7, 7),
        (0.5, 0.5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1x", "1h 30", "0", "inf", "nan", "1e3", True, None, [], "9" * 400]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration(text)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_durations_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


def test_paths_of_a_config_are_relative_to_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    (folder / "c.yaml").write_text("ledger: a.db\noutput: /abs/out\n")
    found = load_settings(folder / "c.yaml", {}, {})
    assert (found.ledger, found.output) == (folder / "a.db", Path("/abs/out"))


def test_other_paths_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    (folder / "c.yaml").write_text("api: {rpm: 1}")
    found = load_settings(folder / "c.yaml", {"RUNNER_LEDGER": "e.db"}, {"output": Path("o")})
    assert (found.ledger, found.output) == (Path("e.db"), Path("o"))


def test_a_tilde_is_the_home_folder_wherever_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    found = settings("output: ~/pictures", {"RUNNER_LEDGER": "~/runner.db"})
    assert found.output == Path("/home/ann/pictures")
    assert found.ledger == Path("/home/ann/runner.db")


def test_the_environment_fills_strings_of_the_file() -> None:
    text = "api: {rpm: '${RPM}'}\noutput: $${kept}/${DIR}\n"
    found = settings(text, {"RPM": "60", "DIR": "d"})
    assert (found.api.rpm, found.output) == (60, Path("${kept}/d"))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings().run.concurrency = 1


def test_the_example_loads_and_says_the_defaults() -> None:
    found = load_settings(EXAMPLE, {}, {})
    assert found.api == Settings.model_validate({}).api
    assert found.run == Settings.model_validate({}).run
    assert (found.ledger, found.output) == (ROOT / "runner.db", ROOT / "output")


def test_the_example_has_every_key_with_a_line_of_why() -> None:
    value = YamlFile(EXAMPLE, "config.example.yaml").read().value
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            assert list(value[name]) == keys_of(section)
        else:
            assert name in value
    for above, line in pairwise(lines):
        if re.match(r"  \w+:|ledger:|output:", line):
            assert above.lstrip().startswith("#"), line


def test_every_key_of_the_schema_has_a_description() -> None:
    schema = config_schema()
    for definition in (schema, *schema["$defs"].values()):
        for name, about in definition["properties"].items():
            assert about.get("description"), name


def test_the_shipped_schema_is_up_to_date() -> None:
    shipped = ROOT / "schemas" / "config.json"
    assert json.loads(shipped.read_text(encoding="utf-8")) == config_schema()


def test_a_key_whose_variable_is_not_set_is_no_key(tmp_path: Path):
    config = tmp_path / "config.yaml"
    config.write_text("api: {key: '${NO_SUCH_VARIABLE}'}\n", "utf-8")

    assert load_settings(config, {}, {}).api.key is None
    assert load_settings(config, {"SEGMIND_API_KEY": "SG_1"}, {}).api.key is not None
