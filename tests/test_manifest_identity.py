"""A job is what it asks for: nothing else changes its id, and nothing of that leaves it."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from manifests import jobs_of

from runner.manifest.identity import (
    MOST_ID_BYTES,
    PromptIdentity,
    canonical_json,
    content_id,
    id_fault,
    repeat_id,
    slug,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
PARAMS = st.dictionaries(TEXTS, JSON, max_size=5)
PROMPTS = st.lists(
    st.text("abcdefgh ,.é", min_size=1).filter(str.strip),
    min_size=1,
    max_size=8,
    unique_by=str.strip,
)


def ids_by_prompt(prompts: list[str], head: str = "model: m\n") -> dict[str, str]:
    text = head + "prompts: " + json.dumps(prompts)
    return {job.params["prompt"]: job.id for job in jobs_of(text)}


def test_an_id_is_the_start_of_a_sha256_over_canonical_json() -> None:
    text = '["animals","imagen",{"aspect_ratio":"1:1","prompt":"ein Füchslein"},3]'
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    params = {"prompt": "ein Füchslein", "aspect_ratio": "1:1"}
    assert content_id("animals", "imagen", params, 3) == expected


@given(PARAMS, TEXTS, st.integers(0, 5))
def test_the_quick_way_gives_the_same_id(params: dict[str, Any], prompt: str, repeat: int) -> None:
    params.pop("prompt", None)
    quick = PromptIdentity("n", "m", params).content_id(prompt, repeat)
    assert quick == content_id("n", "m", {**params, "prompt": prompt}, repeat)


@given(PARAMS, st.randoms())
def test_the_order_of_parameters_does_not_matter(params: dict[str, Any], random: Any) -> None:
    items = list(params.items())
    random.shuffle(items)
    assert content_id("n", "m", dict(items), 0) == content_id("n", "m", params, 0)


@given(PARAMS, TEXTS, JSON)
def test_any_change_of_a_parameter_is_another_job(
    params: dict[str, Any], key: str, value: Any
) -> None:
    changed = {**params, key: value}
    assume(canonical_json(changed) != canonical_json(params))
    assert content_id("n", "m", changed, 0) != content_id("n", "m", params, 0)


def test_name_model_and_repeat_are_part_of_the_id() -> None:
    ids = {content_id(n, m, {}, r) for n in "ab" for m in "ab" for r in (0, 1)}
    assert len(ids) == 8


@given(PROMPTS, st.randoms())
def test_reordering_lines_changes_no_id(prompts: list[str], random: Any) -> None:
    shuffled = random.sample(prompts, len(prompts))
    assert ids_by_prompt(shuffled) == ids_by_prompt(prompts)


@given(PROMPTS, st.text("xyz", min_size=1), st.integers(0, 8))
def test_adding_a_line_changes_no_id(prompts: list[str], added: str, at: int) -> None:
    more = [*prompts[:at], added, *prompts[at:]]
    assert ids_by_prompt(prompts).items() <= ids_by_prompt(more).items()


@given(PROMPTS, st.lists(st.text("abc", min_size=1)))
def test_output_and_tags_never_change_an_id(prompts: list[str], tags: list[str]) -> None:
    head = f"model: m\ntags: {json.dumps(tags)}\noutput: 'else/{{index}}.{{ext}}'\n"
    assert ids_by_prompt(prompts, head) == ids_by_prompt(prompts)


def test_metadata_never_changes_an_id() -> None:
    text = "model: m\nprompts: [{file: a.csv}]"
    (plain,) = jobs_of(text, {"a.csv": "prompt\nfox\n"})
    (noted,) = jobs_of(text, {"a.csv": "prompt,note\nfox,nice\n"})
    assert plain.id == noted.id
    assert noted.meta == {"note": "nice"}


def test_a_prompt_has_the_same_id_wherever_it_is_written() -> None:
    head = "model: m\nparams: {s: 1}\nprompts: "
    jobs = [
        *jobs_of(head + "[fox]"),
        *jobs_of(head + "[{prompt: fox}]"),
        *jobs_of(head + "[{file: a.txt}]", {"a.txt": "fox\n"}),
        *jobs_of(head + "[{file: a.csv}]", {"a.csv": "prompt,note\nfox,x\n"}),
        *jobs_of(head + "[{file: a.jsonl}]", {"a.jsonl": '{"prompt": "fox"}'}),
        *jobs_of(head + "['{{animal}}']\nvars: {animal: fox}"),
    ]
    assert len({job.id for job in jobs}) == 1


def test_repeats_have_ids_of_their_own() -> None:
    jobs = jobs_of("model: m\nprompts: [{prompt: a, repeat: 3}, {prompt: b, id: b, repeat: 3}]")
    assert len({job.id for job in jobs}) == 6
    assert [job.id for job in jobs[3:]] == ["b", "b-r1", "b-r2"]
    assert jobs[0].id == jobs_of("model: m\nprompts: [a]")[0].id


def test_a_given_id_survives_a_changed_prompt() -> None:
    ids = [jobs_of(f"model: m\nprompts: [{{prompt: {p}, id: k}}]")[0].id for p in "ab"]
    assert ids == ["k", "k"]


def test_a_given_id_is_told_apart_by_the_axes_that_vary() -> None:
    text = """
model: m
matrix: {ratio: ["1:1", "16:9"], fixed: [7]}
vars: {season: [early spring, autumn], place: [home]}
prompts: [{prompt: "fox, {{season}} {{place}}", id: fox}]
"""
    assert [job.id for job in jobs_of(text)] == [
        "fox-early-spring-1x1",
        "fox-early-spring-16x9",
        "fox-autumn-1x1",
        "fox-autumn-16x9",
    ]


def test_an_axis_that_the_id_refers_to_is_not_added_again() -> None:
    text = "model: m\nmatrix: {ratio: ['1:1', '16:9']}\nprompts: [{prompt: a, id: 'k-{{ratio}}'}]"
    assert [job.id for job in jobs_of(text)] == ["k-1x1", "k-16x9"]


@pytest.mark.parametrize("id_", ["a", "fox-1", "a b", "é", "_x", "a.b", "7"])
def test_ids_that_can_name_a_file(id_: str) -> None:
    assert id_fault(id_) is None


@pytest.mark.parametrize(
    "id_",
    [
        "",
        ".",
        "..",
        ".a",
        "a.",
        " a",
        "a ",
        "a/b",
        "a\\b",
        "-a",
        "a:b",
        "a\n",
        "a\0",
        "{n}",
        "a" * 200,
    ],
)
def test_ids_that_cannot_name_a_file(id_: str) -> None:
    assert id_fault(id_) is not None


@given(st.text())
def test_a_slug_can_always_be_added_to_an_id(text: str) -> None:
    assert id_fault(f"a-{slug(text)}") is None
    assert len(slug(text)) < MOST_ID_BYTES


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_cannot_write_has_no_identity(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_id("n", "m", {"x": value}, 0)


def test_repeat_zero_keeps_the_plain_id() -> None:
    assert [repeat_id("a", repeat) for repeat in (0, 1)] == ["a", "a-r1"]
