"""YAML is read with line numbers, and what is wrong is told in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.documents import (
    Place,
    ProblemList,
    YamlFile,
    did_you_mean,
    fill_environment,
    open_text,
    path_text,
    scalar_of,
)
from runner.errors import InputError, Problem


def read(folder: Path, text: str | bytes) -> Any:
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return YamlFile(path, "a.yaml").read().value


def faults(folder: Path, text: str | bytes) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16:9", "16:9"),
        ("1:1", "1:1"),
        ("no", "no"),
        ("on", "on"),
        ("2026-01-31", "2026-01-31"),
        ("1_000", "1_000"),
        ("7", 7),
        ("007", 7),
        ("-3", -3),
        ("0x1f", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("nightfall", "nightfall"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert scalar_of(text) == value
    assert type(scalar_of(text)) is type(value)


def test_quoted_scalars_stay_texts_and_keys_always_are(tmp_path: Path) -> None:
    value = read(tmp_path, "1: '7'\ntrue: \"true\"\nyes: 16:9\nblock: |\n  7\n")
    assert value == {"1": "7", "true": "true", "yes": "16:9", "block": "7\n"}


def test_agrees_with_the_safe_loader_on_plain_documents(tmp_path: Path) -> None:
    text = "a: &x {b: [1, two, 3.5, null, false]}\nc: *x\nd: {<<: *x, e: 1}\nf:\n- - g\n  - ''\n"
    assert read(tmp_path, text) == yaml.safe_load(text)


def test_a_place_knows_the_line_of_every_part(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb:\n  c:\n    - x\n    - y\n")
    place = YamlFile(path, "a.yaml").read().place
    assert place.line_of(()) == 1
    assert place.line_of(("b", "c")) == 3
    assert place.line_of(("b", "c", 1)) == 5
    assert place.line_of(("b", "missing", "deeper")) == 2


def test_an_empty_file_has_no_value(tmp_path: Path) -> None:
    assert read(tmp_path, "") is None
    assert read(tmp_path, "# a comment\n") is None


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\r\n") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a:\n\tb: 1", "a.yaml:2: is indented with a tab; YAML wants spaces"),
        ("a: {{x}} y", "a.yaml:1: a text that begins with `{{` must stand in quotes"),
        ("a: @x", "a.yaml:1: a text cannot begin with this character; put it in quotes"),
        ("a: b: c", "a.yaml:1: a `: ` does not belong here"),
        ("a: 'x", "the file ends inside a quoted text"),
        ("a: [1, 2\nb: 3", "a bracket was opened and is not closed"),
        ("a:\n  - 1\n b: 2", "a.yaml:3: does not fit what is above"),
        ("a: 1\n---\nb: 2", "a.yaml:2: a second document starts here"),
        ("a: 1\nb: 2\na: 3", "a.yaml:3: the key `a` is written twice"),
        ("a: !python/object:os.system x", "a.yaml:1: the tag `!python/object:os.system`"),
        ("a: *b", "a.yaml:1: `*b` has no anchor `&b` above it"),
        ("a: &b [*b]", "a.yaml:1: `*b` has no anchor"),
        ("[a]: 1", "a.yaml:1: a key must be a text"),
        ("a: {<<: 7}", "a.yaml:1: `<<` takes a mapping"),
        ("a: \x01", "a.yaml: is not YAML: it holds a control character"),
        (b"a: 1\nb: \xff", "a.yaml:2: is not UTF-8 text"),
        ("[" * 70 + "]" * 70, "a.yaml:1: is nested too deeply"),
    ],
)
def test_what_is_no_good_yaml_is_told_with_its_line(
    tmp_path: Path, text: str | bytes, told: str
) -> None:
    assert told in faults(tmp_path, text)


def test_aliases_cannot_stand_for_billions_of_values(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "holds too many values" in faults(tmp_path, "\n".join(lines))


def test_several_faults_are_listed_at_once(tmp_path: Path) -> None:
    assert faults(tmp_path, "a: 1\na: 2\nb: !x 1\n").splitlines() == [
        "a.yaml:2: the key `a` is written twice",
        "a.yaml:3: the tag `!x` is not used here; write the plain value",
    ]


def test_a_streamed_list_is_handed_out_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &b {x: 1}\nitems:\n  - one\n  - two: *b\nafter: 7\n")
    file = YamlFile(path, "a.yaml", streamed="items")
    items = list(file.items())
    assert [(item.value, item.place.line) for item in items] == [("one", 3), ({"two": {"x": 1}}, 4)]
    assert file.document.value == {"base": {"x": 1}, "items": [], "after": 7}


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "animals.yaml").touch()
    with pytest.raises(InputError, match=r"no such file, did you mean `animals\.yaml`\?"):
        YamlFile(tmp_path / "animal.yaml", "animal.yaml").read()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"), open_text(tmp_path, "here"):
        pass


def test_near_misses_ignore_case() -> None:
    assert did_you_mean("promts", ["prompts", "params"]) == ", did you mean `prompts`?"
    assert did_you_mean("PROMPT", ["prompt"]) == ", did you mean `prompt`?"
    assert did_you_mean("zzz", ["prompts"]) == ""


def test_the_environment_fills_references() -> None:
    environ = {"NAME": "x", "EMPTY": ""}
    assert fill_environment("a/${NAME}/$${NAME}/$NAME", environ) == "a/x/${NAME}/$NAME"
    with pytest.raises(ValueError, match="`EMPTY` is not set"):
        fill_environment("${EMPTY}", environ)


def test_a_problem_list_tells_each_fault_once_and_stops_at_twenty() -> None:
    problems = ProblemList()
    for line in range(20):
        problems.add(Problem("a", "wrong", line))
        problems.add(Problem("a", "wrong", line))
    with pytest.raises(InputError) as caught:
        problems.add(Problem("a", "wrong", 99))
    assert len(caught.value.problems) == 20
    assert caught.value.more


def test_a_problem_list_without_faults_closes_quietly() -> None:
    ProblemList().close()


def test_paths_read_like_yaml() -> None:
    assert path_text(("prompts", 3, "params", "seed")) == "prompts[3].params.seed"
    assert Place(4).line_of(("a",)) == 4
