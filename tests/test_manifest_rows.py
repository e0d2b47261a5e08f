"""Prompt files: every row becomes a job, every column has its place, every fault its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from manifests import faults_of, jobs_of, prompts_of, write

from runner.manifest import load

MANY_OF = "model: m\nprompts: [{{file: {}}}]"


def test_a_text_file_holds_a_prompt_a_line() -> None:
    text = "\ufeffa fox\r\n\r\n  # an owl, \u2028 at night  \nlast".encode()
    jobs = jobs_of(MANY_OF.format("a.txt"), {"a.txt": text})
    assert prompts_of(jobs) == ["a fox", "# an owl, \u2028 at night", "last"]
    assert [job.source for job in jobs] == ["a.txt:1", "a.txt:3", "a.txt:4"]


def test_special_columns_mean_themselves_and_all_others_are_metadata() -> None:
    csv = 'prompt,id,tags,repeat,params.seed,shot_by\nfox,f,"a, b",2,7,Ann\n'
    jobs = jobs_of(MANY_OF.format("a.csv"), {"a.csv": csv})
    assert [job.id for job in jobs] == ["f", "f-r1"]
    assert jobs[0].params == {"prompt": "fox", "seed": 7}
    assert jobs[0].tags == ("a", "b")
    assert jobs[0].meta == {"shot_by": "Ann"}


def test_columns_are_mapped_onto_what_they_are() -> None:
    text = """
model: m
tags: [all]
prompts:
  - file: a.tsv
    tags: [each]
    columns: {Prompt: prompt, Category: tags, Kind: tags, Nr: id, seed: params.seed}
"""
    tsv = "Prompt\tCategory\tKind\tNr\tseed\tNote\na fox\tanimals\twild,red\t1\t7\tnice\n"
    (job,) = jobs_of(text, {"a.tsv": tsv})
    assert (job.id, job.tags) == ("1", ("all", "each", "animals", "wild", "red"))
    assert job.params == {"prompt": "a fox", "seed": 7}
    assert job.meta == {"Note": "nice"}


def test_a_template_is_filled_from_the_columns() -> None:
    text = """
model: m
prompts:
  - prompt: "{{product}} on a {{ back ground }} table, {{prompt}}"
    id: "{{sku}}"
    params: {style: "{{product}} style"}
    file: products.csv
"""
    csv = "sku,product,back ground,prompt\nm1,mug,oak,soft light\nm2,vase,,\n"
    first, second = jobs_of(text, {"products.csv": csv})
    assert first.params == {"prompt": "mug on a oak table, soft light", "style": "mug style"}
    assert first.meta == {
        "sku": "m1",
        "product": "mug",
        "back ground": "oak",
        "prompt": "soft light",
    }
    assert (first.id, second.id) == ("m1", "m2")
    assert second.params["prompt"] == "vase on a  table, "


def test_a_template_takes_the_lines_of_a_text_file_as_prompts() -> None:
    text = "model: m\nprompts: [{prompt: 'a photo of {{prompt}}', file: a.txt}]"
    assert prompts_of(jobs_of(text, {"a.txt": "a fox\nan owl"})) == [
        "a photo of a fox",
        "a photo of an owl",
    ]


def test_prompts_of_rows_are_filled_too() -> None:
    text = "model: m\nvars: {season: [spring, autumn]}\nprompts: [{file: a.csv}]"
    csv = {"a.csv": 'prompt,who\n"{{who}}, {{season}}",fox\nplain,owl\n'}
    jobs = jobs_of(text, csv)
    assert prompts_of(jobs) == ["fox, spring", "fox, autumn", "plain"]
    assert [dict(job.meta) for job in jobs] == [
        {"who": "fox", "season": "spring"},
        {"who": "fox", "season": "autumn"},
        {"who": "owl"},
    ]


def test_a_column_wins_over_a_var_of_the_same_name() -> None:
    text = "model: m\nvars: {season: [x, y]}\nprompts: [{prompt: 'a {{season}}', file: a.csv}]"
    (job,) = jobs_of(text, {"a.csv": "season\nspring\n"})
    assert job.params["prompt"] == "a spring"
    assert job.meta == {"season": "spring"}


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("true", True),
        ("16:9", "16:9"),
        ("1:1", "1:1"),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("2026-01-31", "2026-01-31"),
        ("null", None),
        ("text", "text"),
    ],
)
def test_cells_of_parameters_are_read_as_yaml_scalars(cell: str, value: object) -> None:
    csv = f"prompt,params.x,note\nfox,{cell},{cell}\n"
    (job,) = jobs_of(MANY_OF.format("a.csv"), {"a.csv": csv})
    assert job.params["x"] == value
    assert type(job.params["x"]) is type(value)
    assert job.meta == {"note": cell}


def test_an_empty_cell_is_left_out() -> None:
    csv = "prompt,id,tags,repeat,params.x,note\nfox,, ,,,\n"
    (job,) = jobs_of(MANY_OF.format("a.csv"), {"a.csv": csv})
    assert job.params == {"prompt": "fox"}
    assert (job.tags, job.meta, job.repeat) == ((), {}, 0)


def test_quoted_cells_may_hold_line_breaks_and_lines_still_count() -> None:
    csv = 'prompt,note\n"a\nfox",x\n\nan owl,y\n'
    jobs = jobs_of(MANY_OF.format("a.csv"), {"a.csv": csv})
    assert [(job.params["prompt"], job.source) for job in jobs] == [
        ("a\nfox", "a.csv:2"),
        ("an owl", "a.csv:5"),
    ]


def test_a_lone_quote_inside_a_cell_is_text() -> None:
    jobs = jobs_of(MANY_OF.format("a.csv"), {"a.csv": 'prompt\na 5" nail\nan owl\n'})
    assert prompts_of(jobs) == ['a 5" nail', "an owl"]


def test_json_lines_are_objects_or_bare_prompts() -> None:
    jsonl = """
"a fox"
{"prompt": "an owl", "id": 7, "tags": ["a"], "repeat": 1, "params": {"s": 1}, "params.t": null}

{"prompt": "a bear", "include": [{"count": 1}], "tag": "x"}
"""
    fox, owl, bear = jobs_of(MANY_OF.format("a.jsonl"), {"a.jsonl": jsonl})
    assert fox.params == {"prompt": "a fox"}
    assert (owl.id, owl.tags) == ("7", ("a",))
    assert owl.params == {"prompt": "an owl", "s": 1, "t": None}
    assert bear.meta == {"include": [{"count": 1}], "tag": "x"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "prompt,x\na,1,2\n", "a.csv:2: has 3 cells, but the header names 2"),
        ("a.csv", "prompt,x,x\na,1,2\n", "a.csv:1: the column `x` is there twice"),
        ("a.csv", "Prompt\na\n", "a.csv:1: has no column `prompt`; name one with `columns: {Pro"),
        ("a.csv", "prompt,x\na,1\n,2\n", "a.csv:3: has no prompt"),
        ("a.csv", "prompt,repeat\na,0\n", "a.csv:2: repeat: must be from 1 to 100,000, not 0"),
        ("a.csv", "prompt,repeat\na,x\n", "a.csv:2: repeat: must be a whole number, not `x`"),
        ("a.csv", "prompt,id\na,x/y\n", "a.csv:2: id: the id `x/y` cannot be part"),
        ("a.csv", "prompt\na {{x}}\n", "a.csv:2: nothing fills `{{x}}`"),
        ("a.csv", "prompt,params.x\na,.nan\n", "a.csv:2: holds a value that cannot be sent"),
        ("a.csv", b"prompt\nok\n\xff\n", "a.csv:3: is not UTF-8 text"),
        ("a.csv", 'prompt\na\n"b\nc\nd\n', "a.csv:3: opens a quote that is never closed"),
        ("a.csv", "", "a.csv: holds no prompts"),
        ("a.txt", "\n \n", "a.txt: holds no prompts"),
        ("a.txt", b"ok\n\xff\n", "a.txt:2: is not UTF-8 text"),
        ("a.jsonl", "{bad", "a.jsonl:1: is not JSON: Expecting property name"),
        ("a.jsonl", "[1]", "a.jsonl:1: must be an object or a text, not a list"),
        ("a.jsonl", '{"prompt": 7}', "a.jsonl:1: prompt: must be a text, not a number"),
        ("a.jsonl", '{"prompt": "a", "params": 7}', "a.jsonl:1: params: must be an object"),
        ("a.jsonl", '{"prompt": "a", "tags": 7}', "a.jsonl:1: tags: must be a list of tags"),
        ("a.jsonl", '{"prompt": "a", "x": NaN}', "a.jsonl:1: is not JSON that can be sent"),
        ("a.jsonl", '{"prompt": "a", "params.x": 1e999}', "a.jsonl:1: holds a value that cannot"),
        ("a.jsonl", '"\\ud800"', "a.jsonl:1: holds a value that cannot be sent"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1: is not JSON that can be sent"),
        ("a.jsonl", '{"prompt": "a", "x": ' + "[" * 90 + "]" * 90 + "}", "nested too deeply"),
        ("a.jsonl", '{"note": "a"}', "a.jsonl:1: has no prompt"),
    ],
)
def test_a_wrong_row_is_told_with_its_line(name: str, content: str | bytes, told: str) -> None:
    (line,) = faults_of(MANY_OF.format(name), {name: content})
    assert line.startswith(told) or told in line


def test_faults_of_several_rows_are_listed_in_order() -> None:
    lines = faults_of(MANY_OF.format("a.jsonl"), {"a.jsonl": '"ok"\n7\n"ok"\n{\n'})
    assert [line.split(":")[1] for line in lines] == ["2", "4"]


def test_a_row_refused_by_a_known_model_is_told_with_the_file_of_the_row() -> None:
    text = "model: imagen\nprompts: [{file: a.csv}]"
    (line,) = faults_of(text, {"a.csv": "prompt,params.aspect_ratio\na,1:1\nb,2:1\n"})
    assert line.startswith("a.csv:3: aspect_ratio: `aspect_ratio` of model `imagen` is `2:1`")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("{Promt: prompt}", "a.csv:1: has no column `Promt`, did you mean `Prompt`?"),
        ("{Prompt: promt}", "columns: `promt` is nothing a column can be, did you mean `prompt`?"),
        ("{Prompt: prompt, b: prompt}", "columns: two columns cannot both be `prompt`"),
        ("{Prompt: params.}", "columns: `params.` is nothing a column can be"),
    ],
)
def test_a_wrong_mapping_of_columns_is_told(columns: str, told: str) -> None:
    text = f"model: m\nprompts: [{{file: a.csv, columns: {columns}}}]"
    (line,) = faults_of(text, {"a.csv": "Prompt,b\na,c\n"})
    assert told in line


def test_a_missing_file_is_told_in_the_manifest_with_the_nearest_name() -> None:
    (line,) = faults_of("model: m\nprompts:\n- file: foxs.txt\n", {"foxes.txt": "a"})
    assert line.startswith("animals.yaml:3: file: `foxs.txt`: there is no such file")
    assert line.endswith("did you mean `foxes.txt`?")


def test_an_unknown_kind_of_file_is_told_with_the_four_there_are() -> None:
    (line,) = faults_of(MANY_OF.format("a.xlsx"), {"a.xlsx": "a"})
    assert "`a.xlsx` is no picture, audio or video, and none of .txt, .csv, .tsv, .jsonl" in line


def test_a_file_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far.txt").write_text("a fox")
    monkeypatch.setenv("FOXES", str(tmp_path / "far.txt"))
    assert prompts_of(jobs_of(MANY_OF.format("'${FOXES}'"))) == ["a fox"]


def test_a_relative_file_from_the_environment_may_be_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "near.txt").write_text("a fox")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOXES", "near.txt")
    assert prompts_of(jobs_of(MANY_OF.format("'${FOXES}'"))) == ["a fox"]


def test_an_unset_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOXES", raising=False)
    (line,) = faults_of(MANY_OF.format("'${FOXES}'"))
    assert line == "animals.yaml:2: file: the environment variable `FOXES` is not set"


def test_rows_are_streamed(tmp_path: Path) -> None:
    lines = "".join(f"fox {i}\n" for i in range(50_000))
    manifest = load(write(tmp_path, MANY_OF.format("a.txt"), {"a.txt": lines + "{{"}))
    jobs = manifest.jobs()
    assert next(jobs).params["prompt"] == "fox 0"  # the fault at the end is not met yet
    jobs.close()  # type: ignore[attr-defined]
