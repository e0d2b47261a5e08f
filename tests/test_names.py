"""Names of files: what a job's n-th file is called, whole, incomplete, and before it has come."""

from __future__ import annotations

import pytest

from runner.policy.names import file_name, likely_name, part_name, with_suffix
from runner.policy.outputs import Data, Medium, Output, Text


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (Medium("https://media.example/a/fox.png"), "fox.png"),
        (Medium("https://media.example/a/fox.JPEG?sig=a.b/c.png"), "fox.jpg"),
        (Medium("https://media.example/result"), None),
        (Medium("https://media.example/a/fox.0123456789"), None),
        (Medium("data:image/png;base64,iVBORw0KGgo="), None),
        (Text("a fox"), "fox.txt"),
        (Data({"fox": 1}), "fox.json"),
    ],
)
def test_a_name_is_guessed_from_what_is_known_before_the_file_comes(
    output: Output, name: str | None
):
    assert likely_name("fox.{ext}", 0, output) == name


def test_further_files_are_numbered_where_the_pattern_does_not():
    assert [file_name("a/fox.{ext}", n, "png") for n in range(3)] == [
        "a/fox.png",
        "a/fox-1.png",
        "a/fox-2.png",
    ]
    assert file_name("a/{n:02}.{ext}", 2, "png") == "a/02.png"


def test_an_incomplete_file_is_named_after_its_job():
    assert part_name("a/fox.{ext}", 0, 7) == "a/fox.7.part"
    assert part_name("a/fox.png", 0, 7) == "a/fox.png.7.part"
    assert part_name("a/fox.{ext}", 1, 7).endswith(".7.part")


def test_a_suffix_goes_before_the_extension():
    assert with_suffix("a.b/fox.tar", "2") == "a.b/fox-2.tar"
    assert with_suffix("a.b/fox", "2") == "a.b/fox-2"
    assert with_suffix(".hidden", "2") == ".hidden-2"
