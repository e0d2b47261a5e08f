r"""`{{name}}` is filled, `\{{` is literal, and values are put in only once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.manifest.template import Template, TemplateError, escape, fill_value, names_in

NAMES = st.text(alphabet="abc XYZ_9-", min_size=1).map(str.strip).filter(bool)


@given(st.text())
def test_an_escaped_text_stands_for_itself(text: str) -> None:
    assert Template.parse(escape(text)).fill({}) == text


@given(st.lists(st.tuples(st.text(), NAMES)), st.text())
def test_every_placeholder_is_filled_with_its_value(
    pieces: list[tuple[str, str]], tail: str
) -> None:
    separated = [(f"{text} ", name) for text, name in pieces]  # `{` + `{{` would be `{{` + `{`
    text = "".join(f"{escape(before)}{{{{ {name} }}}}" for before, name in separated)
    values = {name: f"<{name}>" for _, name in separated}
    template = Template.parse(f"{text} {escape(tail)}")
    expected = "".join(f"{before}<{name}>" for before, name in separated) + f" {tail}"
    assert template.fill(values) == expected
    assert template.names == tuple(name for _, name in separated)


@given(st.text())
def test_values_are_put_in_as_they_are(value: str) -> None:
    assert Template.parse("a {{x}} b").fill({"x": value}) == f"a {value} b"


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (1.5, "1.5"), (True, "true"), (None, ""), ([{"a": "é"}], '[{"a":"é"}]')],
)
def test_values_of_other_kinds_have_a_text_form(value: object, text: str) -> None:
    assert Template.parse("{{x}}").fill({"x": value}) == text


def test_names_may_hold_spaces() -> None:
    assert Template.parse("{{Key Word}}").names == ("Key Word",)


@pytest.mark.parametrize("text", ["{{", "a {{b", "{{}}", "{{ }}", "{{a}} {{"])
def test_a_malformed_placeholder_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        Template.parse(text)


def test_single_braces_are_text() -> None:
    assert Template.parse("{a} {{{b}}}").fill({"b": 1}) == "{a} {1}"


def test_parameters_are_filled_however_deep() -> None:
    value = {"a": ["{{x}}", 7, {"b": "{{y}}{{x}}"}], "c": None}
    assert names_in(value) == ("x", "y", "x")
    assert fill_value(value, {"x": 1, "y": "z"}) == {"a": ["1", 7, {"b": "z1"}], "c": None}
