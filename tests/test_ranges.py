"""A transfer is continued only where the rest provably belongs to its beginning."""

from __future__ import annotations

import pytest

from runner.policy.ranges import Transfer, begun, validator_of
from runner.policy.speed import Speed

URL = "https://images.segmind.com/a.png"
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": '"abc"'}, '"abc"'),
        ({"ETag": '"abc"', "Last-Modified": DATE}, '"abc"'),
        ({"ETag": 'W/"abc"', "Last-Modified": DATE}, DATE),
        ({"ETag": "abc", "Last-Modified": DATE}, DATE),
        ({"Last-Modified": DATE}, DATE),
        ({"ETag": 'W/"abc"'}, None),
        ({"ETag": '""'}, None),
        ({"ETag": '"abc"', "Accept-Ranges": "none"}, None),
        ({"ETag": '"abc"', "Accept-Ranges": "bytes"}, '"abc"'),
        ({"ETag": '"abc"', "Content-Encoding": "gzip"}, None),
        ({"ETag": '"abc"', "Content-Encoding": "identity"}, '"abc"'),
        ({}, None),
    ],
)
def test_what_names_a_version_of_a_file(headers: dict[str, str], validator: str | None) -> None:
    assert validator_of(headers) == validator
    transfer = begun(URL, headers, 100)
    assert not transfer.can_go_on
    transfer.received_bytes = 10
    assert transfer.can_go_on == (validator is not None)


def test_the_rest_is_asked_for_on_condition() -> None:
    transfer = Transfer(URL, 100, '"abc"', 40)
    assert transfer.asking() == {"Range": "bytes=40-", "If-Range": '"abc"'}


@pytest.mark.parametrize(
    ("headers", "goes_on"),
    [
        ({"Content-Range": "bytes 40-99/100"}, True),
        ({"Content-Range": "bytes 40-60/100"}, True),
        ({"Content-Range": "bytes 40-99/*"}, True),
        ({"Content-Range": "bytes 40-99/100", "ETag": '"abc"'}, True),
        ({"Content-Range": "bytes 40-99/100", "ETag": '"other"'}, False),
        ({"Content-Range": "bytes 0-99/100"}, False),
        ({"Content-Range": "bytes 41-99/100"}, False),
        ({"Content-Range": "bytes 40-109/110"}, False),
        ({"Content-Range": "bytes */100"}, False),
        ({"Content-Range": "bytes " + 5000 * "9" + "-99/100"}, False),
        ({"Content-Range": "40-99/100"}, False),
        ({"Content-Range": "bytes 40-99/100", "Content-Encoding": "gzip"}, False),
        ({"Content-Type": "multipart/byteranges; boundary=x"}, False),
    ],
)
def test_only_exactly_the_rest_is_taken_for_it(headers: dict[str, str], goes_on: bool) -> None:
    assert Transfer(URL, 100, '"abc"', 40).is_continued_by(headers) == goes_on


def test_a_rest_of_another_date_is_not_taken() -> None:
    transfer = Transfer(URL, 100, DATE, 40)
    span = {"Content-Range": "bytes 40-99/100"}
    assert transfer.is_continued_by({**span, "ETag": 'W/"weak"'})
    assert transfer.is_continued_by({**span, "Last-Modified": DATE})
    assert not transfer.is_continued_by({**span, "Last-Modified": "yesterday"})


def test_a_length_on_the_way_is_not_the_length_of_the_file() -> None:
    assert begun(URL, {"Content-Encoding": "gzip"}, 100).total_bytes is None
    assert begun(URL, {}, 100).total_bytes == 100
    assert begun(URL, {}, None).total_bytes is None


def test_a_slow_line_is_told_from_a_drip() -> None:
    slow, drip = Speed(1024, 30, 0.0), Speed(1024, 30, 0.0)
    for second in range(1, 301):
        assert slow.objection(1100, second) is None
    objections = [drip.objection(100, second) for second in range(1, 31)]
    assert [o for o in objections if o] == ["it comes too slowly: 3,000 bytes in 30 seconds"]


def test_a_line_that_becomes_a_drip_is_found_out() -> None:
    speed = Speed(1024, 30, 0.0)
    assert speed.objection(1 << 30, 29.0) is None
    assert speed.objection(1, 31.0) is None
    assert speed.objection(1, 60.0) is None
    assert speed.objection(1, 62.0)


def test_time_that_the_disk_took_is_not_the_lines_fault() -> None:
    speed = Speed(1024, 30, 0.0)
    speed.restart(100.0)
    assert speed.objection(1, 101.0) is None
