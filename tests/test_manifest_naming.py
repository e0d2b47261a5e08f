"""Output names are what the template says, and can never leave the output directory."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import faults_of, jobs_of

from runner.manifest.naming import MOST_VALUE_BYTES, NamingError, OutputTemplate, safe_value

VALUES = st.one_of(
    st.text(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(["..", ".", "", "/etc/passwd", "..\\..\\x", "C:\\x", "a/../../b", "{n}", "}{"]),
)


def named(template: str, **values: Any) -> str:
    return OutputTemplate(template).format(values.__getitem__)


@given(
    st.lists(
        st.sampled_from(["{a}", "{b}", "{a:>5}", "{c:.<4}", "/", "x", ".", "{n}"]), max_size=8
    ),
    st.fixed_dictionaries({"a": VALUES, "b": VALUES, "c": st.text()}),
)
def test_no_value_leads_out_of_the_output_directory(
    pieces: list[str], values: dict[str, Any]
) -> None:
    try:
        name = OutputTemplate("".join(pieces) or "{a}").format(values.__getitem__)
    except NamingError:
        return
    final = name.format(n=0, ext="png")
    root = Path("/out")
    assert not PurePosixPath(final).is_absolute()
    assert not PureWindowsPath(final).drive
    assert (root / final).resolve().is_relative_to(root)
    assert ".." not in final.split("/")
    assert "\\" not in final
    assert "\0" not in final
    assert final.count("/") == ("".join(pieces)).count("/")


@given(VALUES, VALUES)
def test_only_n_and_ext_stay_open(a: Any, b: Any) -> None:
    name = named("{a}-{b}/{{x}}{n:03}.{ext}", a=a, b=b)
    assert name.format(n=7, ext="png").endswith("/{x}007.png")


@given(st.text())
def test_a_safe_value_is_a_component_of_bounded_length(text: str) -> None:
    value = safe_value(text)
    assert 0 < len(value.encode()) <= MOST_VALUE_BYTES
    assert value not in (".", "..")
    assert not set(value) & set('/\\<>:"|?*\0\n')
    assert safe_value(value) == value


@pytest.mark.parametrize(
    "template",
    [
        "../{id}",
        "a/../{id}",
        "/{id}",
        "~/{id}",
        "C:/{id}",
        "a\\{id}",
        "a//{id}",
        "{id}/",
        "./{id}",
        ". /{id}",
        "{}",
        "{0}",
        "{id.__class__}",
        "{id[0]}",
        "{id!r}",
        "{id:{n}}",
        "{id:9999}",
        "{n:.>5}",
        "{ext:5}",
        "{id",
        "id}",
        "a\n{id}",
    ],
)
def test_a_template_that_is_wrong_or_leads_elsewhere_is_refused(template: str) -> None:
    with pytest.raises(NamingError):
        OutputTemplate(template)


def test_format_specs_apply() -> None:
    assert named("{index:05}/{x:.2f}-{s:>4}", index=7, x=1.005, s="a") == "00007/1.00-a"


def test_a_format_that_does_not_fit_its_value_is_told() -> None:
    with pytest.raises(NamingError, match="cannot write `abc`"):
        named("{x:d}", x="abc")


def test_a_name_too_long_for_file_systems_is_told() -> None:
    with pytest.raises(NamingError, match="more than 230 bytes"):
        named("{a}{b}", a="x" * 200, b="y" * 200)


def test_every_field_of_a_job_can_be_used() -> None:
    text = """
model: imagen
params: {aspect_ratio: "16:9"}
vars: {season: [late spring]}
repeat: 2
tags: [coast, sea]
prompts: ["fox, {{season}}"]
output: "{name}/{model}/{tag}/{season}/{aspect_ratio}/{index:03}-{repeat}-{n}.{ext}"
"""
    assert [job.output for job in jobs_of(text)] == [
        f"animals/imagen/coast/late spring/16_9/000-{r}-{{n}}.{{ext}}" for r in (0, 1)
    ]


def test_columns_name_files_and_an_empty_cell_leaves_no_hole() -> None:
    jobs = jobs_of(
        "model: m\nprompts: [{file: a.csv}]\noutput: '{note}/{id}.{ext}'",
        {"a.csv": "prompt,id,note\nfox,a,red/1\nowl,b,\n"},
    )
    assert [job.output for job in jobs] == ["red_1/a.{ext}", "_/b.{ext}"]


def test_the_tag_is_the_first_tag_else_the_column_else_says_so() -> None:
    text = "model: m\nprompts: [{file: a.csv}]\noutput: '{tag}/{id}'"
    csv = {"a.csv": 'prompt,id,tag,tags\na,1,column,\nb,2,column,"x,y"\nc,3,,\n'}
    assert [job.output for job in jobs_of(text, csv)] == ["column/1", "x/2", "_/3"]
    (job,) = jobs_of("model: m\nprompts: [{prompt: a, id: k}]\noutput: '{tag}/{id}'")
    assert job.output == "untagged/k"


def test_builtin_fields_win_over_columns() -> None:
    text = "model: m\nprompts: [{prompt: '{{id}}', id: 'x{{id}}', file: a.csv}]\noutput: '{id}'"
    (job,) = jobs_of(text, {"a.csv": "id\n7\n"})
    assert job.output == "x7"


def test_an_unknown_field_is_told_with_the_nearest_known_one() -> None:
    text = "model: m\nprompts: [{file: a.csv}]\noutput: '{sed}.{ext}'"
    assert faults_of(text, {"a.csv": "prompt,seed\na,1\nb,2\n"}) == [
        "animals.yaml:3: output: has no value for `{sed}`, did you mean `seed`?"
        " (for the job of a.csv:2)"
    ]
