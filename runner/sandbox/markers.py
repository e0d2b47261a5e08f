"""The faults that a prompt can ask for, written `[[name]]`; several may stand in one prompt."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final

from runner.sandbox.options import Options

MARKERS: Final[Mapping[str, str]] = {
    # How the job ends.
    "fail": "the job ends FAILED",
    "fail-key-echo": "the job ends FAILED, and its error text repeats the API key",
    "block": "the job ends FAILED, stopped by the content filter",
    "never": "the job stays PROCESSING until its retention is over",
    "gone": "the job runs and is billed, but every poll is answered 404",
    # How the submit is answered.
    "lost": "accepted, then the connection closes without an answer",
    "lost-once": "the same, for the first POST of this body only",
    "lost-before": "the connection is reset, nothing was accepted",
    "500": "500 with a JSON error, nothing was accepted",
    "500-once": "the same, for the first POST of this body only",
    "502": "502 with an HTML page, although the job was accepted",
    "502-once": "the same, for the first POST of this body only",
    "502-refused": "502 with an HTML page, nothing was accepted",
    "503": "503 with a JSON error, nothing was accepted",
    "503-once": "the same, for the first POST of this body only",
    "504": "504 with an HTML page, although the job was accepted",
    "429": "429 for the first POST of this body",
    "400": "400, a malformed request",
    "401": "401, the key is refused",
    "403": "403, the model is not permitted",
    "404": "404, the model is unknown",
    "405": "405 with an HTML page",
    "406-credits": "406, insufficient credits",
    "406-limit": "406, the team's spend limit is reached",
    "406-param": "406, a parameter value is refused",
    "410": "410, the model is retired",
    "key-echo": "400 with an error text that repeats the API key",
    "no-id": "accepted, but the answer has no request_id",
    "not-json": "accepted, but the answer is a 200 with an HTML page",
    "slow-answer": "accepted at once, answered after `slow_s`",
    "foreign-url": "the URLs of the answer lead to another host",
    # How polls are answered.
    "poll-429": "the first poll is answered 429",
    "poll-500": "the first two polls are answered 500",
    "poll-500-always": "every poll is answered 500",
    "poll-hang": "the first poll is answered after `hang_s`",
    "poll-html": "the first two polls are answered 200 with an HTML page",
    "poll-weird": "the first two polls tell a state that nobody documented",
    "result-404-once": "COMPLETED, but the first fetch of the result is answered 404",
    # What the result looks like.
    "data-url": "the output is a data: URL",
    "evil-name": "the file's name climbs out of its folder",
    "no-output": "COMPLETED without `output`, only with `images`",
    "output-list": "the output is a list of one URL",
    "output-relative": "the output's URL has no host",
    "output-string-json": "the output is a JSON-encoded string",
    "placeholder": "the picture is one and the same for all such prompts",
    # How the file comes.
    "media-403": "the file is answered 403",
    "media-404": "the file is answered 404",
    "media-500-once": "the first fetch of the file is answered 500",
    "media-drip": "the file comes in small pieces over `drip_s`",
    "media-empty": "the file is empty",
    "media-garbage": "labelled image/png, but the bytes are broken",
    "media-hang": "the file's headers come, its bytes do not",
    "media-html": "the file is a 200 with an HTML page",
    "media-huge": "the file claims to have a terabyte",
    "media-redirect": "the file is moved within the media host",
    "media-redirect-loop": "the file is moved to where it was",
    "media-redirect-private": "the file is moved to a private address",
    "media-truncated": "the connection closes halfway through the file, every time",
    "media-truncated-once": "the connection closes halfway through the file, the first time",
    "media-wrong-type": "a whole file labelled text/plain",
    # How an upload is answered; the marker stands in the file's own bytes.
    "upload-401": "the upload is answered 401",
    "upload-404": "the upload is answered 404",
    "upload-413": "the upload is answered 413, the file is too large",
    "upload-429": "the first upload of this content is answered 429",
    "upload-500": "every upload of this content is answered 500",
    "upload-500-once": "the first upload of this content is answered 500",
    "upload-lost-once": "the first upload of this content is taken, but never answered",
    "upload-no-url": "the upload is answered 200 without an address",
    "upload-gone-once": "the first address of this content leads nowhere",
    # How the request history tells of it.
    "history-cut": "the history's row has its data URLs cut short",
    "history-hidden": "the history never lists the request",
    "history-no-time": "the history's row has no time",
    "history-string": "the history's row has its request_body as a JSON string",
}
"""Every marker and what it does. What is not listed here is plain text."""

_MARKER = re.compile(r"\[\[([a-z0-9-]+)\]\]")


def find_markers(raw: bytes, body: Mapping[str, Any]) -> frozenset[str]:
    """The markers in a request body; `raw` is its JSON, which mostly has none."""
    if b"[[" not in raw:
        return frozenset()
    return frozenset(
        name for text in texts(body) for name in _MARKER.findall(text) if name in MARKERS
    )


def draw_markers(options: Options, rng: Random) -> frozenset[str]:
    """The markers that the fault rates add to one POST."""
    # All dice are thrown every time, so that one rate does not change what another one hits.
    error, lost, end = rng.random(), rng.random(), rng.random()
    drawn = set()
    if error < options.error_rate:
        drawn.add(rng.choice(("500", "502", "502-refused", "503")))
    if lost < options.lost_answers:
        drawn.add("lost")
    if end < options.fail_rate:
        drawn.add("fail")
    elif end < options.fail_rate + options.block_rate:
        drawn.add("block")
    return frozenset(drawn)


def body_key(model: str, body: Mapping[str, Any]) -> str:
    """What two equal requests have in common: SHA-256 of the canonical JSON of [model, body]."""
    text = json.dumps([model, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def texts(value: object) -> Iterator[str]:
    """Every text in a body, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
