"""Columns: one type and one name each, whatever the jobs of a manifest differ in."""

from __future__ import annotations

from typing import Any

import pytest

from runner.job import SavedFile, State
from runner.ledger import Listed
from runner.report.export.columns import EARLY_ROWS, Columns, Kind, Survey, columns_of
from runner.report.export.rows import Item


def item(number: int = 0, params: Any = None, meta: Any = None, **changes: Any) -> Item:
    values: dict[str, Any] = {
        "key": number,
        "id": f"j{number}",
        "manifest": "m",
        "model": "imagen",
        "state": State.SAVED,
        "params": params or {},
        "tags": (),
        "meta": meta or {},
        "request_id": f"r{number}",
        "posts": 1,
        "submitted_at": None,
        "completed_at": None,
        "cost": 0.04,
        "error": None,
        "source": "m.yaml:1",
        "index": number,
        "repeat": 0,
        "deadline": None,
    }
    file = SavedFile(changes.pop("n", 0), None, "m/j.png", 1, "00", "image/png")
    return Item(Listed(**{**values, **changes}), file)


def survey(*items: Item) -> Survey:
    found = Survey()
    for each in items:
        found.add(each)
    return found


def column(*values: Any) -> list[Any]:
    """How these values of one parameter come out."""
    items = [item(number, {"x": value}) for number, value in enumerate(values)]
    columns = columns_of([survey(*items)])
    return [columns.row(each.fields()).get("x") for each in items]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, None], [1, 2, None]),
        ([1, 2.5], [1.0, 2.5]),
        ([1, "auto"], ["1", "auto"]),
        ([True, 1], ["true", "1"]),
        ([True, None, False], [True, None, False]),
        ([["a"], ["b", "c"], []], [["a"], ["b", "c"], []]),
        ([["a"], [1]], ['["a"]', "[1]"]),
        ([{"deep": [1]}, None], ['{"deep": [1]}', None]),
        ([2**63, 1], [str(2**63), "1"]),
        ([float("nan"), 1.5], ["NaN", "1.5"]),
        (["half \ud800", "雪"], ["half ?", "雪"]),
    ],
)
def test_a_column_has_one_type(values: list[Any], expected: list[Any]):
    found = column(*values)

    assert found == expected
    assert len({type(value) for value in found if value is not None}) == 1


def test_a_column_without_any_value_is_left_out_unless_the_format_tells_types():
    items = [item(0, {"x": None}), item(1, {"x": None})]

    assert "x" not in columns_of([survey(*items)]).names.values()
    assert "seed" not in columns_of([survey(*items)]).names.values()
    typed = columns_of([survey(*items)], typed=True)
    assert typed.row(items[0].fields())["x"] is None
    assert typed.kinds["", "seed"] is Kind.WHOLE


def test_the_dataset_s_own_columns_come_first_and_others_make_way():
    each = item(
        0,
        {"prompt": "a fox", "seed": 7, "image": "https://x/y", "style": "flat", "model": "x"},
        {"style": "loud", "id": "row 1", "mask_file_name": "m.png", "prompt": "un vulpe"},
        tags=("wild",),
    )

    row = columns_of([survey(each)]).row(each.fields())

    assert list(row)[:3] == ["id", "prompt", "manifest"]
    assert (row["prompt"], row["seed"], row["tags"]) == ("a fox", 7, ["wild"])
    assert (row["param_image"], row["param_model"], row["model"]) == ("https://x/y", "x", "imagen")
    assert (row["style"], row["meta_style"], row["meta_id"]) == ("flat", "loud", "row 1")
    assert (row["mask_file_name_"], row["meta_prompt"]) == ("m.png", "un vulpe")


def test_names_do_not_depend_on_which_job_comes_first():
    one, other = item(0, {"style": "a"}), item(1, {}, {"style": "b"})

    for items in ([one, other], [other, one]):
        columns = columns_of([survey(*items)])
        assert columns.row(one.fields())["style"] == "a"
        assert columns.row(other.fields()) | {"style": None} == columns.row(other.fields())
        assert columns.row(other.fields())["meta_style"] == "b"


def test_what_tells_a_type_late_is_to_be_written_first():
    items = [item(number, {"x": None}) for number in range(EARLY_ROWS + 5)]
    items += [item(9_000, {"x": 1}), item(9_001, {"x": 2})]

    found = survey(*items)

    assert found.late_witnesses(columns_of([found])) == [(9_000, 0)]


def test_a_text_that_looks_like_a_date_does_not_tell_that_a_column_is_text():
    items = [item(number, {"x": "2026-01-01"}) for number in range(EARLY_ROWS)]
    items.append(item(9_000, {"x": "some day"}))

    found = survey(*items)

    assert found.late_witnesses(columns_of([found])) == [(9_000, 0)]
    assert columns_of([survey(items[0])]).row(items[0].fields())["x"] == "2026-01-01"


def test_a_part_that_has_no_value_of_a_column_has_texts_in_it():
    with_it, without = item(0, {"x": 7}, tags=("a",)), item(1, {})

    columns: Columns = columns_of([survey(with_it), survey(without)])

    assert columns.row(with_it.fields())["x"] == "7"
    assert columns.row(without.fields())["x"] == ""
    assert columns.row(with_it.fields())["tags"] == '["a"]'
    assert columns.row(without.fields())["tags"] == ""


def test_keys_have_no_dots_and_no_two_items_have_the_same():
    ids = ["fox", "fox.1", "fox 1", "fox_1", "füchse/1", "fox+1", "a" * 300, "ab" * 150, "é", "è"]
    items = [item(number, id=id_, n=n) for number, id_ in enumerate(ids) for n in (0, 1)]

    keys = [each.key for each in items]

    assert len(set(keys)) == len(keys)
    assert all("." not in key and "/" not in key and key.isascii() for key in keys)
    assert max(map(len, keys)) <= 105
    assert items[0].key == "fox"
