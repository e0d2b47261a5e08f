"""What the request history says of jobs in doubt: its rows in every shape, and whose request is which."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.policy.history import (
    ENVELOPES,
    NEARBY_S,
    TOLERANCE_S,
    Doubt,
    Row,
    canonical,
    match,
    nothing_suspicious,
    reaches_back,
    row_of,
    rows_of,
)

NOW = 1_790_000_000.0
ISO = "2026-09-21T14:13:20+00:00"
WINDOW_S = 60.0
FOX = {"prompt": "a red fox", "aspect_ratio": "1:1"}
OWL = {"prompt": "a grey owl", "aspect_ratio": "1:1"}

TOLD = {
    "request_id": "r-1",
    "model_name": "imagen",
    "model_status": "COMPLETED",
    "credits_deduction": 0.04,
    "request_body": FOX,
    "generation_url": "https://images.segmind.com/a.png",
    "latency_ms": 4200,
    "model_created": ISO,
    "error": None,
}


def row(
    request_id: str = "r-1", at: float | None = NOW + 1, body: Any = FOX, **changes: Any
) -> Row:
    plain = Row(request_id, "imagen", "PENDING", at, body, None, 0.04, "")
    return replace(plain, **changes)


def doubt(key: int = 1, since: float = NOW, body: Any = FOX, model: str = "imagen") -> Doubt:
    return Doubt(key, model, body, since, since + WINDOW_S)


def later(seconds: float = 900.0, **changes: Any) -> Row:
    """A row of another request, long after the doubtful one."""
    return row("later", NOW + seconds, OWL, **changes)


def adopted(doubts: list[Doubt], rows: list[Row], known: set[str] | None = None) -> dict[int, str]:
    found = match(doubts, rows, known or set()).adopted
    return {key: each.request_id for key, each in found.items()}


# Reading rows


@pytest.mark.parametrize("name", ENVELOPES)
def test_the_list_is_found_under_each_of_its_names(name: str) -> None:
    found = rows_of({name: [TOLD], "page": 1, "per_page": 100})
    assert found is not None
    assert [each.request_id for each in found] == ["r-1"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([TOLD], id="bare"),
        pytest.param({"data": {"items": [TOLD], "total": 1}}, id="nested"),
        pytest.param({"results": {"data": {"requests": [TOLD]}}}, id="nested twice"),
        pytest.param({"data": {"total": 1}, "items": {"data": [TOLD]}}, id="beside another object"),
        pytest.param({"data": {"total": 1}, "items": [TOLD]}, id="beside a description"),
        pytest.param({"data": [TOLD, "junk", None, 7, {}, {"request_id": 7}]}, id="among junk"),
    ],
)
def test_the_list_is_found_in_every_wrapping(body: Any) -> None:
    found = rows_of(body)
    assert found is not None
    assert [each.request_id for each in found] == ["r-1"]


@pytest.mark.parametrize("body", [[], {"data": []}, {"data": {"items": []}}])
def test_a_page_without_rows_is_a_page(body: Any) -> None:
    assert rows_of(body) == []


@pytest.mark.parametrize(
    "body",
    [None, "", "[]", 7, True, {}, {"error": "down"}, {"data": None}, {"data": "x"}, {"data": {}}],
)
def test_what_is_no_page_is_not_taken_for_an_empty_one(body: Any) -> None:
    assert rows_of(body) is None


def test_a_row_is_read_with_all_it_tells() -> None:
    assert row_of(TOLD) == Row(
        "r-1",
        "imagen",
        "COMPLETED",
        NOW,
        FOX,
        "https://images.segmind.com/a.png",
        0.04,
        "",
        4.2,
    )


def test_a_single_row_may_be_wrapped() -> None:
    assert row_of({"data": TOLD}) == row_of(TOLD)


def test_a_row_needs_nothing_but_its_id() -> None:
    assert row_of({"request_id": "r-1"}) == Row("r-1", None, "", None, None, None, None, "")


@pytest.mark.parametrize("name", [name for name in TOLD if name != "request_id"])
@pytest.mark.parametrize("value", [None, [], {}, "", True, -1, "junk"])
def test_no_junk_in_a_field_breaks_the_reading(name: str, value: Any) -> None:
    found = row_of({**TOLD, name: value})
    assert found is not None
    assert found.request_id == "r-1"
    assert isinstance(found.error, str)
    assert found.body is None or isinstance(found.body, dict)


@pytest.mark.parametrize("value", [None, "", "  ", 7, ["r-1"], {"id": "r-1"}])
def test_a_row_without_an_id_is_none(value: Any) -> None:
    assert row_of({**TOLD, "request_id": value}) is None


@pytest.mark.parametrize("name", ["model_created", "created_at", "timestamp"])
@pytest.mark.parametrize(
    ("stamp", "moment"),
    [
        (ISO, NOW),
        ("2026-09-21T14:13:20Z", NOW),
        ("2026-09-21T14:13:20", NOW),
        ("2026-09-21 14:13:20", NOW),
        (" 2026-09-21 14:13:20.250000 ", NOW + 0.25),
        ("2026-09-21T16:13:20+02:00", NOW),
        ("20260921T141320Z", NOW),
        (1_790_000_000, NOW),
        (1_790_000_000.5, NOW + 0.5),
        (1_790_000_000_500, NOW + 0.5),
    ],
)
def test_the_time_is_read_from_each_field_in_each_form(
    name: str, stamp: Any, moment: float
) -> None:
    found = row_of({"request_id": "r-1", name: stamp})
    assert found is not None
    assert found.created == moment


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-09-21", "20260921", "2026-W39-1", True])
def test_what_is_no_time_to_the_second_is_no_time(stamp: Any) -> None:
    found = row_of({"request_id": "r-1", "model_created": stamp})
    assert found is not None
    assert found.created is None


def test_an_unreadable_time_gives_way_to_the_next_field() -> None:
    found = row_of({"request_id": "r-1", "model_created": "soon", "timestamp": ISO})
    assert found is not None
    assert found.created == NOW


def test_a_body_may_be_an_object_or_a_json_string() -> None:
    as_text = row_of({**TOLD, "request_body": json.dumps(FOX)})
    assert as_text == row_of(TOLD)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"a"', "null", "[" * 50_000, "9" * 5000])
def test_a_body_that_is_no_object_is_none(text: str) -> None:
    found = row_of({**TOLD, "request_body": text})
    assert found is not None
    assert found.body is None


def test_an_error_that_is_an_object_keeps_its_words() -> None:
    found = row_of({**TOLD, "error": {"message": "blocked by the RAI filter"}})
    assert found is not None
    assert "RAI filter" in found.error


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ENVELOPES, *TOLD, "created_at"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=300, deadline=None)
def test_no_json_breaks_the_reading(value: Any) -> None:
    rows = rows_of(value) or []
    found = row_of(value)
    match([doubt()], [*rows, *([found] if found else [])], set())


# One body, many ways to write it


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"seed": 7}, {"seed": 7.0}),
        ({"seed": -0.0}, {"seed": 0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": {"c": [1.0, {"d": 2}], "b": None}}, {"a": {"b": None, "c": [1, {"d": 2.0}]}}),
        ({"prompt": "a fox 🦊 é"}, json.loads('{"prompt": "a fox \\ud83e\\udd8a \\u00e9"}')),
    ],
)
def test_equal_values_are_one_body(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"seed": 7}, {"seed": 7.5}),
        ({"seed": 7}, {"seed": "7"}),
        ({"hd": True}, {"hd": 1}),
        ({"hd": False}, {"hd": None}),
        ({"hd": None}, {}),
        ({"prompt": "a fox"}, {"prompt": "a fox "}),
        ({"prompt": "e\u0301"}, {"prompt": "\u00e9"}),
        ({"list": [1, 2]}, {"list": [2, 1]}),
    ],
)
def test_other_values_are_other_bodies(one: Any, other: Any) -> None:
    assert canonical(one) != canonical(other)


# Whose request is which


def test_a_request_of_the_same_body_and_time_is_adopted() -> None:
    assert adopted([doubt()], [row("r-9")]) == {1: "r-9"}


@pytest.mark.parametrize(
    "body",
    [
        {"aspect_ratio": "1:1", "prompt": "a red fox", "seed": 7.0},
        json.loads('{"prompt": "a red f\\u006fx", "seed": 7, "aspect_ratio": "1:1"}'),
    ],
)
def test_a_body_written_another_way_is_the_same(body: Any) -> None:
    assert adopted([doubt(body={**FOX, "seed": 7})], [row(body=body)]) == {1: "r-1"}


def test_a_request_that_a_job_has_is_left_out() -> None:
    assert adopted([doubt()], [row("r-9")], {"r-9"}) == {}


@pytest.mark.parametrize(
    ("at", "is_taken"),
    [
        (NOW - TOLERANCE_S - 1, False),
        (NOW - TOLERANCE_S, True),
        (NOW, True),
        (NOW + WINDOW_S, True),
        (NOW + WINDOW_S + TOLERANCE_S, True),
        (NOW + WINDOW_S + TOLERANCE_S + 1, False),
        (NOW - 86400, False),
    ],
)
def test_the_time_must_be_that_of_the_post(at: float, is_taken: bool) -> None:
    assert bool(adopted([doubt()], [row(at=at)])) is is_taken


@pytest.mark.parametrize("model", ["imagen-4", "imagen-fast", "my-imagen", "Imagen"])
def test_a_row_of_another_model_is_none_although_the_history_filters_by_substring(
    model: str,
) -> None:
    other = row(model=model)
    found = match([doubt()], [other, later()], set())
    assert found.adopted == {}
    assert found.absent == {1}


def test_a_row_that_names_no_model_counts() -> None:
    assert adopted([doubt()], [row(model=None)]) == {1: "r-1"}


def test_equal_bodies_are_matched_by_count_and_in_order_of_time() -> None:
    doubts = [doubt(2, NOW + 20), doubt(1, NOW), doubt(3, NOW + 40)]
    rows = [row("b", NOW + 21), row("a", NOW + 1)]
    assert adopted(doubts, rows) == {1: "a", 2: "b"}


def test_the_first_of_two_equal_jobs_does_not_take_what_only_the_second_can_have() -> None:
    doubts = [doubt(1, NOW), doubt(2, NOW + 80)]
    rows = [row("early", NOW + 10), row("late", NOW + 85)]
    assert adopted(doubts, rows) == {1: "early", 2: "late"}


def test_several_rows_of_one_request_are_one_request() -> None:
    rows = [row("r-1", url="a"), row("r-1", url="b"), row("r-1", url="a")]
    assert adopted([doubt(1), doubt(2)], rows) == {1: "r-1"}


def test_the_row_that_tells_most_speaks_for_its_request() -> None:
    rows = [row(at=None), row(body=None), row(), row(status="COMPLETED", url="a")]
    for order in (rows, rows[::-1]):
        (found,) = match([doubt()], order, set()).adopted.values()
        assert found.url == "a"


def test_a_row_without_a_time_is_never_adopted() -> None:
    assert adopted([doubt()], [row(at=None)]) == {}


# When there was none


def test_a_job_is_absent_when_later_requests_are_shown_and_not_its_own() -> None:
    assert match([doubt()], [later()], set()).absent == {1}


def test_later_requests_are_evidence_although_their_jobs_are_known() -> None:
    assert match([doubt()], [later()], {"later"}).absent == {1}


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="none"),
        pytest.param([row("other", NOW - 100, OWL)], id="only earlier ones"),
        pytest.param([row("other", NOW + WINDOW_S, OWL)], id="only ones within its window"),
        pytest.param([row("other", None, OWL)], id="only timeless ones"),
        pytest.param([later(model="imagen-4")], id="only other models'"),
    ],
)
def test_without_later_requests_of_its_model_nothing_is_absent(rows: list[Row]) -> None:
    assert match([doubt()], rows, set()).absent == frozenset()


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(row(at=None), id="its body at no time"),
        pytest.param(row(body=None), id="no body in its window"),
        pytest.param(row(body=None, at=None), id="neither body nor time"),
        pytest.param(row(body={**FOX, "seed": 3}), id="its body and a default more"),
        pytest.param(row(body={**FOX, "seed": 3}, model=None), id="the same, of no model"),
        pytest.param(row(at=NOW + 240), id="its body, as late as the job was done"),
        pytest.param(row(at=NOW + 5.5 * 3600), id="its body, in the time of another zone"),
        pytest.param(row(at=NOW - NEARBY_S + 1), id="its body, before our clock was set"),
    ],
)
def test_a_request_that_might_be_it_is_neither_taken_nor_ignored(stranger: Row) -> None:
    found = match([doubt()], [stranger, later()], set())
    assert found.adopted == {}
    assert found.absent == frozenset()
    assert not nothing_suspicious(doubt(), [stranger], set())
    assert nothing_suspicious(doubt(), [stranger], {stranger.request_id})


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(row(body=OWL), id="another body"),
        pytest.param(row(body={"prompt": "a red fox"}), id="less than its body"),
        pytest.param(row(body={**FOX, "aspect_ratio": "16:9"}), id="another value"),
        pytest.param(row(at=NOW - NEARBY_S - 1), id="its body, long before"),
        pytest.param(row(body=None, at=NOW - 100), id="no body, at another time"),
        pytest.param(row(model="imagen-4", at=None), id="another model"),
    ],
)
def test_a_request_that_cannot_be_it_does_not_stand_in_the_way(stranger: Row) -> None:
    assert match([doubt()], [stranger, later()], set()).absent == {1}


def test_a_request_that_another_job_takes_does_not_stand_in_the_way() -> None:
    doubts = [doubt(1, NOW), doubt(2, NOW + 300)]
    found = match(doubts, [row("its", NOW + 301), later()], set())
    assert {key: each.request_id for key, each in found.adopted.items()} == {2: "its"}
    assert found.absent == {1}


# How far back a page shows


def test_a_page_reaches_back_when_its_oldest_row_is_older() -> None:
    rows = [row("b", NOW + 100), row("a", NOW - TOLERANCE_S - 1)]
    assert reaches_back(rows, NOW)
    assert not reaches_back(rows, NOW - 5)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="empty"),
        pytest.param([row("a", NOW - 999), row("b", NOW)], id="not sorted"),
        pytest.param([row("b", NOW), row("a", NOW - 999), row("c", None)], id="a time is missing"),
    ],
)
def test_a_page_in_disorder_proves_nothing_about_older_ones(rows: list[Row]) -> None:
    assert not reaches_back(rows, NOW)


# Whatever comes

bodies = st.sampled_from([FOX, OWL, {**FOX, "seed": 7}, {**FOX, "seed": 7.0}, {}])
times = st.integers(-200, 400).map(lambda seconds: NOW + seconds)
doubts_strategy = st.lists(
    st.tuples(times, bodies, st.sampled_from(["imagen", "imagen-4"])), max_size=6
).map(lambda found: [doubt(key, *each) for key, each in enumerate(found)])
rows_strategy = st.lists(
    st.builds(
        row,
        st.sampled_from([f"r-{n}" for n in range(8)]),
        times | st.none(),
        bodies | st.none(),
        model=st.sampled_from(["imagen", "imagen-4", None]),
        status=st.sampled_from(["PENDING", "COMPLETED", "FAILED"]),
        url=st.none() | st.sampled_from(["a", "b"]),
    ),
    max_size=12,
)
known_strategy = st.sets(st.sampled_from([f"r-{n}" for n in range(8)]), max_size=3)


@given(doubts_strategy, rows_strategy, known_strategy)
@settings(max_examples=300, deadline=None)
def test_no_request_has_two_jobs_and_no_job_the_request_of_another_body(
    doubts: list[Doubt], rows: list[Row], known: set[str]
) -> None:
    found = match(doubts, rows, known)
    by_key = {each.key: each for each in doubts}
    assert max(Counter(r.request_id for r in found.adopted.values()).values(), default=1) == 1
    for key, taken in found.adopted.items():
        assert taken.request_id not in known
        assert canonical(taken.body) == canonical(by_key[key].body)
        assert taken.model in (None, by_key[key].model)
        assert taken.created is not None
        assert by_key[key].since - TOLERANCE_S <= taken.created <= by_key[key].until + TOLERANCE_S
    assert not found.absent & found.adopted.keys()


@given(doubts_strategy, rows_strategy, known_strategy, st.randoms())
@settings(max_examples=300, deadline=None)
def test_neither_order_nor_duplicates_change_what_is_found(
    doubts: list[Doubt], rows: list[Row], known: set[str], rng: Any
) -> None:
    found = match(doubts, rows, known)
    shuffled = rows + rows[: len(rows) // 2]
    rng.shuffle(shuffled)
    others = list(doubts)
    rng.shuffle(others)
    again = match(others, shuffled, known)
    assert again == found


@given(st.integers(0, 6), st.integers(0, 6))
def test_of_equal_requests_as_many_are_adopted_as_there_are(jobs: int, requests: int) -> None:
    doubts = [doubt(key, NOW + key) for key in range(jobs)]
    rows = [row(f"r-{n}", NOW + n) for n in range(requests)]
    found = match(doubts, [*rows, later()], set())
    assert len(found.adopted) == min(jobs, requests)
    assert len(found.absent) == (0 if requests > jobs else jobs - min(jobs, requests))


def test_a_time_is_told_in_the_zone_of_the_world() -> None:
    assert datetime.fromtimestamp(NOW, UTC).isoformat() == ISO


def test_equal_requests_are_shared_out_so_that_the_most_jobs_find_one() -> None:
    # A computer slept over the first job's POST: it may be either request, the second's only the early one.
    long = Doubt(1, "imagen", FOX, NOW, NOW + 500)
    short = Doubt(2, "imagen", FOX, NOW, NOW + 20)
    early, late = row("r-early", NOW + 1), row("r-late", NOW + 300)
    found = match([long, short], [late, early], ())
    assert {key: each.request_id for key, each in found.adopted.items()} == {
        1: "r-late",
        2: "r-early",
    }


@pytest.mark.parametrize("at", [NOW + 26, NOW + 31, NOW + 45])
def test_a_request_is_of_the_job_that_surely_was_sent_then(at: float) -> None:
    # The other one's row has not come yet; it would fit no job but the first.
    first, second = (
        Doubt(1, "imagen", FOX, NOW, NOW + 15),
        Doubt(2, "imagen", FOX, NOW + 30, NOW + 45),
    )
    found = match([first, second], [row("r-2", at)], ())
    assert {key: each.request_id for key, each in found.adopted.items()} == {2: "r-2"}
    found = match([first], [row("r-1", NOW - 1)], {"r-2"})
    assert {key: each.request_id for key, each in found.adopted.items()} == {1: "r-1"}


def test_of_more_requests_than_jobs_none_is_taken_by_a_job_whose_time_nobody_knows() -> None:
    undated = replace(doubt(1), is_dated=False)
    one, other = row("r-1", NOW + 1), row("r-2", NOW + 900)
    assert match([undated], [one], ()).adopted == {1: one}
    found = match([undated], [one, other, later(2000)], ())
    assert (found.adopted, found.absent) == ({}, frozenset())
    # One that is known to be another job's leaves the other to it.
    assert match([undated], [one, other], {"r-2"}).adopted == {1: one}


def test_jobs_whose_time_is_known_take_their_requests_first() -> None:
    undated = replace(doubt(1, NOW - 20), is_dated=False)
    dated = doubt(2, NOW)
    found = match([undated, dated], [row("r", NOW + 5), later()], ())
    assert {key: each.request_id for key, each in found.adopted.items()} == {2: "r"}
    assert found.absent == {1}


def test_who_guesses_takes_one_of_more_requests_than_there_are_jobs() -> None:
    undated = replace(doubt(1), is_dated=False)
    rows = [row("r-1", NOW + 1), row("r-2", NOW + 900)]
    assert match([undated], rows, ()).adopted == {}
    assert match([undated], rows, (), guesses=True).adopted == {1: rows[0]}


def test_a_request_in_the_plain_window_of_one_job_is_not_a_neighbours() -> None:
    # The first one's run died over it: its window lasts until the next run, which sends an equal job.
    died, sent = Doubt(1, "imagen", FOX, NOW, NOW + 5000), doubt(2, NOW + 5001)
    found = match([died, sent], [row("r", NOW + 5003)], ())
    assert {key: each.request_id for key, each in found.adopted.items()} == {2: "r"}


def test_a_request_that_came_at_once_is_taken_before_one_that_came_days_later() -> None:
    # Its run died over it, so that its window lasts for days; the clocks differ by a moment.
    died = Doubt(1, "imagen", FOX, NOW, NOW + 190_000)
    rows = [row("own", NOW - 0.02), row("other", NOW + 188_000), row("third", NOW + 188_001)]
    found = match([died], rows, ())
    assert {key: each.request_id for key, each in found.adopted.items()} == {1: "own"}


def test_a_request_belongs_to_the_job_that_was_being_sent_just_then() -> None:
    # The server's clock is known to the second: the second one's window seems to begin too late.
    died = Doubt(1, "imagen", FOX, NOW, NOW + 48.5)
    found = match([died, doubt(2, NOW + 49)], [row("r", NOW + 48.49)], ())
    assert {key: each.request_id for key, each in found.adopted.items()} == {2: "r"}


def test_what_is_far_away_changes_nothing_for_a_job() -> None:
    first, second = (
        Doubt(1, "imagen", FOX, NOW, NOW + 15),
        Doubt(2, "imagen", FOX, NOW + 30, NOW + 45),
    )
    # Here the most find one when the nearer is given up.
    near, far = (
        Doubt(3, "imagen", FOX, NOW - 9000, NOW - 8990),
        Doubt(4, "imagen", FOX, NOW - 8980, NOW - 8970),
    )
    rows = [row("b", NOW + 31), row("c", NOW - 8975), row("d", NOW - 8950)]
    found = match([first, second, near, far], rows, ())
    assert {key: each.request_id for key, each in found.adopted.items()} == {2: "b", 3: "c", 4: "d"}


windows = st.lists(st.tuples(times, st.integers(0, 200)), max_size=5)


@given(windows, st.lists(times, max_size=5))
@settings(max_examples=300, deadline=None)
def test_as_many_equal_requests_find_their_jobs_as_can(
    spans: list[tuple[float, int]], created: list[float]
) -> None:
    doubts = [Doubt(n, "imagen", FOX, since, since + s) for n, (since, s) in enumerate(spans)]
    rows = [row(f"r-{n}", at) for n, at in enumerate(created)]

    def most(left: list[Doubt], free: frozenset[Row]) -> int:
        if not left:
            return 0
        first, rest = left[0], left[1:]
        fitting = [
            each
            for each in free
            if first.since - TOLERANCE_S <= (each.created or 0) <= first.until + TOLERANCE_S
        ]
        return max([most(rest, free)] + [1 + most(rest, free - {each}) for each in fitting])

    found = match(doubts, [replace(each, body=FOX) for each in rows], ())
    keys = frozenset(replace(each, body=None) for each in rows)
    assert len(found.adopted) == most(doubts, keys)
