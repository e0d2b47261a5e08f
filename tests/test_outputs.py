"""Whatever a result looks like, its files, texts and data are found, each once and in order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy.outputs import Data, Medium, Text, outputs_of

A, B, C = (f"https://images.segmind.com/{name}.png" for name in "abc")


def result(**body: Any) -> dict[str, Any]:
    own = {"status": "COMPLETED", "request_id": "r", "metrics": {"cost": 0.02}}
    links = {
        "status_url": "https://api/s",
        "response_url": "https://api/r",
        "poll_url": "https://p",
    }
    return {**own, **links, **body}


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ({"output": A}, [Medium(A)]),
        ({"output": f" {A}\n"}, [Medium(A)]),
        ({"output": [A, B]}, [Medium(A), Medium(B)]),
        ({"output": [A, B, A]}, [Medium(A), Medium(B)]),
        ({"output": "HTTPS://X/A.png"}, [Medium("HTTPS://X/A.png")]),
        ({"output": "data:image/png;base64,AAAA"}, [Medium("data:image/png;base64,AAAA")]),
        ({"output": {"url": A, "seed": 3}}, [Medium(A)]),
        ({"output": [{"url": A}, {"url": B}]}, [Medium(A), Medium(B)]),
        ({"output": {"video_url": A, "last_frame_url": B}}, [Medium(A), Medium(B)]),
    ],
)
def test_media_are_found_in_the_output(body: dict[str, Any], outputs: list[Any]):
    assert outputs_of(result(**body)) == outputs


def test_the_same_picture_told_twice_is_one():
    images = [{"url": A, "content_type": "image/png", "file_name": "a.png", "file_size": 3}]
    assert outputs_of(result(output=A, images=images)) == [Medium(A)]


def test_media_beside_the_output_come_after_it():
    body = result(images=[{"url": B}], video={"url": C, "last_frame_url": B}, output=A)
    assert outputs_of(body) == [Medium(A), Medium(B), Medium(C)]


def test_a_result_without_an_output_still_gives_its_media():
    assert outputs_of(result(images=[{"url": A}])) == [Medium(A)]


def test_links_to_the_request_and_its_inputs_are_no_results():
    body = result(
        output=A,
        input={"image_url": B},
        inputs=[{"url": B}],
        prompt={"url": B},
        request_body={"init_image_url": B},
        timings={"url": B},
        extra={"status_url": B, "webhook_url": C, "poll_url": C, "response_url": C},
    )
    assert outputs_of(body) == [Medium(A)]


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time",
        "see https://example.com for more",
        "https://example.com is a link",
        "[a fox] in the snow",
        "[1, 2]",
        '[{"keyname": "x"}]',
        "[]",
        "[" * 20_000,
        "ftp://x/a.png",
    ],
)
def test_generated_text_stays_text(text: str):
    assert outputs_of(result(output=text)) == [Text(text)]


def test_texts_and_media_in_one_list_keep_their_order():
    assert outputs_of(result(output=["a fox", A])) == [Text("a fox"), Medium(A)]


def test_a_workflow_gives_each_of_its_values():
    rows = [
        {"keyname": "picture", "value": A},
        {"keyname": "caption", "value": "a fox"},
        {"keyname": "more", "value": [B, "text"]},
        {"keyname": "score", "value": 0.5},
        {"keyname": "box", "value": {"x": 1}},
    ]
    assert outputs_of(result(output=json.dumps(rows))) == [
        Medium(A),
        Text("a fox"),
        Medium(B),
        Text("text"),
        Text("0.5"),
        Text('{"x": 1}'),
    ]


@pytest.mark.parametrize("value", [{"labels": ["fox"]}, [1, 2, 3], 7, 0.5, True, [[A]], [None]])
def test_any_other_output_is_data(value: Any):
    assert outputs_of(result(output=value)) == [Data(value)]


@pytest.mark.parametrize("value", [0, 0.0, False])
def test_a_number_that_is_nothing_is_still_an_output(value: Any):
    assert outputs_of(result(output=value)) == [Data(value)]


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_an_empty_output_is_none(value: Any):
    assert outputs_of(result(output=value)) == []


@pytest.mark.parametrize("body", [None, [], "COMPLETED", 3, {}, result()])
def test_a_result_that_holds_nothing_gives_nothing(body: Any):
    assert outputs_of(body) == []


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from([A, B]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["url", "a_url", "value", "output", "x"]), inner)
    ),
    max_leaves=10,
)


@given(body=st.dictionaries(st.sampled_from(["output", "images", "video", "seed"]), values))
def test_no_result_is_too_odd_to_be_read(body: dict[str, Any]):
    outputs = outputs_of(body)
    urls = [output.url for output in outputs if isinstance(output, Medium)]
    assert len(urls) == len(set(urls))
    assert all(url.startswith(("http", "data:")) for url in urls)


@given(urls=st.lists(st.sampled_from([A, B, C]), min_size=1))
def test_every_url_of_a_list_is_fetched_once_in_its_order(urls: list[str]):
    assert outputs_of(result(output=urls)) == [Medium(url) for url in dict.fromkeys(urls)]
