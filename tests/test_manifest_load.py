"""A manifest's header is checked at once, and every fault is told with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from manifests import faults_of, jobs_of, prompts_of, write

from runner.errors import InputError
from runner.manifest import load, manifest_schema

HEAD = "model: imagen\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "animals.yaml: is empty; a manifest needs `model` and `prompts`"),
        ("- a", "animals.yaml:1: must be a mapping with `model` and `prompts`, not a list"),
        ("prompts: [a]", "animals.yaml:1: `model` is missing"),
        (HEAD, "animals.yaml:1: `prompts` is missing"),
        (HEAD + "prompts: []", "animals.yaml:2: prompts: is empty; say what is wanted"),
        (HEAD + "prompts: fox", "animals.yaml:2: prompts: must be a list, not a text"),
        (HEAD + "prompts: [a]\nrepeat: 0", "animals.yaml:3: repeat: must be from 1 to 100,000"),
        (HEAD + "prompts: [a]\nrepeat: yes", "repeat: must be a whole number, not `yes`"),
        (HEAD + "prompts: [a]\nparams: 7", "animals.yaml:3: params: must be a mapping"),
        (HEAD + "prompts: [a]\nvars: {s: []}", "animals.yaml:3: vars: `s` has no values"),
        (HEAD + "prompts: [a]\nvars: {s: [[1]]}", "vars: `s` takes texts and numbers only"),
        (HEAD + "prompts: [a]\nparams: {x: .inf}", "holds a value that JSON has no way to write"),
        (HEAD + "prompts: [a]\nname: a/b", "name: `a/b` cannot be part of a file name"),
        ("model: ../v1/imagen\nprompts: [a]", "model: `../v1/imagen` is no model slug"),
        (HEAD + "prompts: [a]\nmodel: b", "animals.yaml:3: the key `model` is written twice"),
    ],
)
def test_a_wrong_header_is_told_with_its_line(text: str, told: str) -> None:
    assert told in "\n".join(faults_of(text))


def test_an_unknown_key_is_told_with_the_nearest_known_one() -> None:
    assert faults_of(HEAD + "promts: [a]\nprompts: [a]") == [
        "animals.yaml:2: unknown key `promts`, did you mean `prompts`?"
    ]


def test_every_fault_of_the_header_is_listed_in_the_order_of_its_lines() -> None:
    lines = faults_of("nam: x\nmodel: 7\nprompts: [a]\ntags: 7\n")
    assert [line.split(":")[1] for line in lines] == ["1", "2", "4"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("a lighthouse: at dusk", "unknown key `a lighthouse`; a prompt that holds a `: ` goes in"),
        ("7", "an entry must be a text or a mapping, not a number"),
        ("{id: a}", "an entry needs a prompt, params or a file"),
        ("{prompt: a, columns: {a: id}}", "columns: `columns` describe a `file`"),
        ("{prompt: a, params: {prompt: b}}", "prompt: the prompt is given twice"),
        ("{prompt: a, id: a/b}", "id: the id `a/b` cannot be part of a file name"),
        ("{prompt: a, id: a/b}", "`a-b` would do"),
        ("{prompt: 7}", "prompt: must be a text, not a number"),
        ("{prompt: a, tag: [x]}", "unknown key `tag`, did you mean `tags`?"),
        ("''", "prompt: `prompt` of model `imagen` is empty"),
        ("{params: {aspect_ratio: 1:1}}", "prompt: model `imagen` needs a `prompt`"),
        (
            "{prompt: a, params: {steps: 1}}",
            "params.steps: model `imagen` has no parameter `steps`",
        ),
        ("'{{'", "`{{` is never closed"),
        ("'{{}}'", "`{{}}` names nothing"),
    ],
)
def test_a_wrong_entry_is_told_with_its_line(entry: str, told: str) -> None:
    (line,) = faults_of(f"{HEAD}prompts:\n  - fox\n  - {entry}\n  - owl\n")
    assert line.startswith("animals.yaml:4: ")
    assert told in line


def test_a_refused_value_is_told_with_the_allowed_ones() -> None:
    (line,) = faults_of(HEAD + "params:\n  aspect_ratio: 16:09\nprompts: [a]")
    assert line == (
        "animals.yaml:3: params.aspect_ratio: `aspect_ratio` of model `imagen` is `16:09`;"
        " allowed: `16:9`, `1:1`, `4:3`, `3:4`, `9:16`, did you mean `16:9`?"
    )


def test_a_refused_value_of_the_matrix_is_told_before_any_job_is_made(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "matrix: {aspect_ratio: [1:1, 2:1]}\nprompts: [a]")
    with pytest.raises(InputError, match=r"animals\.yaml:2: matrix\.aspect_ratio: .* is `2:1`"):
        load(path)


def test_unknown_models_take_any_parameters() -> None:
    (job,) = jobs_of("model: flux-dev\nparams: {steps: 20, size: [1, 2]}\nprompts: [a]")
    assert job.params == {"prompt": "a", "steps": 20, "size": [1, 2]}


def test_defaults_of_a_known_model_are_not_sent() -> None:
    (job,) = jobs_of(HEAD + "prompts: [a]")
    assert job.params == {"prompt": "a"}


def test_a_misspelt_model_is_worth_a_note_and_no_error(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, "model: imagn\nprompts: [a]"))
    assert len(manifest.notes) == 1
    assert "did you mean `imagen`?" in manifest.notes[0]


def test_a_long_list_is_worth_a_note(tmp_path: Path) -> None:
    text = HEAD + "prompts:\n" + "".join(f"- fox {i}\n" for i in range(5_001))
    (note,) = load(write(tmp_path, text)).notes
    assert "5,001 entries" in note
    assert "`file:`" in note


def test_entries_may_each_have_their_own_model() -> None:
    jobs = jobs_of("prompts: [{prompt: a, model: x}, {prompt: a, model: y}]")
    assert [job.model for job in jobs] == ["x", "y"]


def test_the_name_is_the_stem_of_the_file_unless_given(tmp_path: Path) -> None:
    assert load(write(tmp_path, HEAD + "prompts: [a]")).name == "animals"
    assert load(write(tmp_path, HEAD + "name: zoo\nprompts: [a]")).name == "zoo"


def test_a_file_name_that_is_no_name_asks_for_one(tmp_path: Path) -> None:
    path = tmp_path / "a{b}.yaml"
    path.write_text(HEAD + "prompts: [a]")
    with pytest.raises(InputError, match="set `name:`"):
        load(path)


def test_no_more_than_twenty_faults_are_listed() -> None:
    lines = faults_of(HEAD + "prompts:\n" + "- 7\n" * 30)
    assert len(lines) == 21
    assert lines[-1].startswith("… and more")


def test_a_fault_that_all_jobs_share_is_told_once() -> None:
    (line,) = faults_of(HEAD + "output: '{sed}.{ext}'\nprompts: [a, b, c]")
    assert line.startswith("animals.yaml:2: output: has no value for `{sed}`")


def test_keys_may_stand_after_the_prompts() -> None:
    (job,) = jobs_of("prompts: ['{{x}}']\nvars: {x: fox}\nmodel: imagen\n")
    assert job.params == {"prompt": "fox"}


def test_anchors_of_the_header_serve_the_entries() -> None:
    jobs = jobs_of("model: m\nparams: &p {s: 1}\nprompts:\n- {prompt: a, params: {<<: *p, t: 2}}\n")
    assert jobs[0].params == {"prompt": "a", "s": 1, "t": 2}


def test_an_anchor_of_one_entry_does_not_serve_another() -> None:
    (line,) = faults_of("model: m\nprompts:\n- {prompt: a, params: &p {s: 1}}\n- {params: *p}\n")
    assert "animals.yaml:4: `*p` has no anchor" in line


def test_unquoted_ratios_and_words_stay_texts() -> None:
    (job,) = jobs_of("model: m\nparams: {ratio: 16:9, safe: no}\nprompts: [a]")
    assert job.params == {"prompt": "a", "ratio": "16:9", "safe": "no"}


def test_the_files_are_the_manifest_and_each_prompt_file_once(tmp_path: Path) -> None:
    text = HEAD + "prompts: [{file: a.txt}, {file: b.txt, tags: x}, {file: a.txt}]"
    manifest = load(write(tmp_path, text, {"a.txt": "x", "b.txt": "y"}))
    assert [path.name for path in manifest.files()] == ["animals.yaml", "a.txt", "b.txt"]


def test_the_fingerprint_changes_with_any_file_and_only_then(tmp_path: Path) -> None:
    text = HEAD + "prompts: [{file: a.txt}]"
    first = load(write(tmp_path, text, {"a.txt": "x"})).fingerprint()
    again = load(write(tmp_path, text, {"a.txt": "x"})).fingerprint()
    changed = load(write(tmp_path, text, {"a.txt": "y"})).fingerprint()
    header_changed = load(write(tmp_path, text + "\n", {"a.txt": "x"})).fingerprint()
    assert first == again
    assert len({first, changed, header_changed}) == 3


def test_the_schema_accepts_what_reading_accepts() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    text = """
name: animals
model: imagen
params: {aspect_ratio: "1:1"}
vars: {season: [spring, 7], place: home}
matrix: {aspect_ratio: ["1:1", "16:9"]}
repeat: 2
tags: [a]
prompts:
  - a fox
  - {prompt: b, id: c, tags: coast, model: m, params: {}, repeat: 4}
  - {file: a.csv, columns: {A: prompt, B: params.seed}}
output: "{id}.{ext}"
"""
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    jsonschema.validate(yaml.safe_load(text), manifest_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"model": "m", "promts": []}, manifest_schema())


def test_every_key_of_the_schema_has_a_description() -> None:
    schema = manifest_schema()
    for definition in (schema, *schema["$defs"].values()):
        for name, about in definition["properties"].items():
            assert about.get("description"), name


def test_the_shipped_schema_is_up_to_date() -> None:
    shipped = Path(__file__).parent.parent / "schemas" / "manifest.json"
    assert json.loads(shipped.read_text(encoding="utf-8")) == manifest_schema()


def test_prompts_keep_their_order() -> None:
    assert prompts_of(jobs_of(HEAD + "prompts: [c, a, b]")) == ["c", "a", "b"]
