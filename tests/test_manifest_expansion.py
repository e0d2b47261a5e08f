"""Entries are crossed over the vars they refer to and the matrix; layers win in a settled order."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from manifests import faults_of, jobs_of, prompts_of, write

from runner.manifest import load

WORDS = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=3, unique=True)


def as_yaml(**keys: Any) -> str:
    return json.dumps({"model": "m", **keys})


@given(
    st.dictionaries(st.sampled_from(["s", "t", "u"]), WORDS),
    st.dictionaries(st.sampled_from(["x", "y"]), WORDS),
    st.sets(st.sampled_from(["s", "t", "u"])),
    st.integers(1, 3),
)
def test_the_jobs_of_an_entry_are_the_product_of_what_it_is_crossed_over(
    vars_: dict[str, list[str]], matrix: dict[str, list[str]], wanted: set[str], repeat: int
) -> None:
    used = [name for name in vars_ if name in wanted]
    prompt = "p " + " ".join(f"{{{{{name}}}}}" for name in used)
    jobs = jobs_of(as_yaml(vars=vars_, matrix=matrix, prompts=[prompt], repeat=repeat))
    expected = [
        ({"prompt": "p " + " ".join(texts), **dict(zip(matrix, values, strict=True))}, index, r)
        for index, (texts, values) in enumerate(
            product(product(*(vars_[name] for name in used)), product(*matrix.values()))
        )
        for r in range(repeat)
    ]
    assert [(job.params, job.index, job.repeat) for job in jobs] == expected
    assert len({job.id for job in jobs}) == len(jobs)
    assert len({job.output for job in jobs}) == len(jobs)
    assert all(set(job.meta) == set(used) for job in jobs)


def test_a_job_is_crossed_only_over_the_vars_it_refers_to() -> None:
    text = "model: m\nvars: {s: [x, y], t: [1, 2, 3]}\nprompts: [a, 'b {{s}}', 'c {{s}} {{t}}']"
    assert len(jobs_of(text)) == 1 + 2 + 6


def test_vars_fill_parameters_however_deep_and_the_id() -> None:
    text = """
model: m
vars: {s: [x, y]}
params: {style: ["{{s}} light", {deep: "{{s}}"}]}
prompts: [{prompt: a, id: "k-{{s}}"}]
"""
    first, second = jobs_of(text)
    assert first.params == {"prompt": "a", "style": ["x light", {"deep": "x"}]}
    assert (first.id, second.id) == ("k-x", "k-y")


def test_a_var_in_the_output_alone_is_crossed_too() -> None:
    text = "model: m\nvars: {s: [x, y]}\nprompts: [{prompt: a, id: k}]\noutput: '{s}/{id}'"
    assert [job.output for job in jobs_of(text)] == ["x/k-x", "y/k-y"]


def test_a_matrix_value_is_crossed_over_just_the_vars_it_refers_to() -> None:
    text = "model: m\nvars: {s: [x, y]}\nmatrix: {style: ['{{s}}', plain]}\nprompts: [a]"
    assert [job.params["style"] for job in jobs_of(text)] == ["x", "plain", "y"]


def test_values_of_vars_may_be_numbers() -> None:
    text = "model: m\nvars: {n: [1, 2.5, true]}\nprompts: ['{{n}} foxes']"
    assert prompts_of(jobs_of(text)) == ["1 foxes", "2.5 foxes", "true foxes"]


def test_a_single_value_needs_no_list() -> None:
    text = "model: m\nvars: {s: x}\nmatrix: {n: 1}\nprompts: ['a {{s}}']"
    assert [job.params for job in jobs_of(text)] == [{"prompt": "a x", "n": 1}]


def test_entry_parameters_win_over_the_matrix_and_this_over_the_manifests() -> None:
    text = """
model: m
params: {a: 0, b: 0, c: 0}
matrix: {b: [1, 2], c: [1, 2]}
prompts: [{prompt: p, params: {c: 9}}]
"""
    assert [job.params for job in jobs_of(text)] == [
        {"prompt": "p", "a": 0, "b": 1, "c": 9},
        {"prompt": "p", "a": 0, "b": 2, "c": 9},
    ]


def test_a_row_wins_over_its_entry_and_pins_the_axis() -> None:
    text = "model: m\nmatrix: {a: [1, 2]}\nprompts: [{file: r.csv, params: {b: 0}}]"
    csv = {"r.csv": "prompt,params.a,params.b\nx,9,8\ny,,\n"}
    assert [job.params for job in jobs_of(text, csv)] == [
        {"prompt": "x", "a": 9, "b": 8},
        {"prompt": "y", "a": 1, "b": 0},
        {"prompt": "y", "a": 2, "b": 0},
    ]


def test_the_prompt_may_be_an_axis() -> None:
    text = "model: m\nmatrix: {prompt: [a, b]}\nprompts: [{params: {s: 1}}, c]"
    assert prompts_of(jobs_of(text)) == ["a", "b", "c"]


def test_an_entry_without_a_prompt_is_its_parameters() -> None:
    (job,) = jobs_of("model: upscaler\nprompts: [{params: {image: 'https://x/y.png'}}]")
    assert job.params == {"image": "https://x/y.png"}


def test_repeats_of_a_request_share_its_index() -> None:
    text = "model: m\nrepeat: 2\nprompts: [a, {prompt: b, repeat: 1}, {file: r.csv}]"
    jobs = jobs_of(text, {"r.csv": "prompt,repeat\nc,3\nd,\n"})
    assert [(job.params["prompt"], job.index, job.repeat) for job in jobs] == [
        *(("a", 0, r) for r in range(2)),
        ("b", 1, 0),
        *(("c", 2, r) for r in range(3)),
        *(("d", 3, r) for r in range(2)),
    ]


def test_a_row_wins_over_its_entrys_repeat() -> None:
    text = "model: m\nprompts: [{file: r.csv, repeat: 2}]"
    assert len(jobs_of(text, {"r.csv": "prompt,repeat\nc,3\nd,\n"})) == 5


def test_tags_of_manifest_entry_and_row_are_joined() -> None:
    text = "model: m\ntags: [a, b]\nprompts: [x, {prompt: y, tags: 'b, c'}]"
    assert [job.tags for job in jobs_of(text)] == [("a", "b"), ("a", "b", "c")]


def test_an_unknown_placeholder_is_told_with_the_nearest_known_one() -> None:
    text = "model: m\nvars: {season: [x]}\nprompts:\n- ok\n- fox, {{seasn}}\n"
    assert faults_of(text) == ["animals.yaml:5: nothing fills `{{seasn}}`, did you mean `season`?"]


def test_an_unknown_placeholder_is_told_with_the_known_names() -> None:
    text = "model: m\nvars: {season: [x]}\nprompts: [{prompt: 'a {{zzz}}', file: r.csv}]"
    (line,) = faults_of(text, {"r.csv": "sku\n1\n2\n"})
    assert line == (
        "animals.yaml:3: prompt: nothing fills `{{zzz}}`; there are `season`, `sku`"
        " (for the row of r.csv:2)"
    )


def test_a_literal_placeholder_is_written_with_a_backslash() -> None:
    assert prompts_of(jobs_of("model: m\nprompts: ['a \\{{b}}']")) == ["a {{b}}"]


def test_a_value_refused_after_filling_is_told_where_it_was_written() -> None:
    text = """
model: imagen
vars: {shape: ["1:1", "2:1"]}
params:
  aspect_ratio: "{{shape}}"
prompts: [a]
"""
    (line,) = faults_of(text)
    assert line.startswith("animals.yaml:5: params.aspect_ratio: `aspect_ratio` of model `imagen`")


def test_an_entry_for_another_model_is_checked_against_that_model() -> None:
    text = "model: m\nparams: {steps: 4}\nprompts: [a, {prompt: b, model: imagen}]"
    (line,) = faults_of(text)
    assert line.startswith("animals.yaml:2: params.steps: model `imagen` has no parameter `steps`")


def test_a_huge_matrix_is_crossed_lazily(tmp_path: Path) -> None:
    axes = {f"a{number}": list(range(10)) for number in range(12)}
    jobs = load(write(tmp_path, as_yaml(matrix=axes, prompts=["a"]))).jobs()
    assert next(jobs).params == {"prompt": "a", **dict.fromkeys(axes, 0)}


def test_a_job_knows_where_it_was_written() -> None:
    jobs = jobs_of("model: m\nprompts:\n- a\n- prompt: b\n- file: r.txt\n", {"r.txt": "c\nd"})
    assert [job.source.rpartition("/")[2] for job in jobs] == [
        "animals.yaml:3",
        "animals.yaml:4",
        "r.txt:1",
        "r.txt:2",
    ]
