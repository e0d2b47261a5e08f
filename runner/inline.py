"""Outputs that come within the result itself: texts, data, and files as data URLs."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from urllib.parse import unquote_to_bytes

from runner.media import Checked, Kind, UnusableMedium, check, write_whole
from runner.policy.outputs import Data, Medium, Output, Text


def url_of(output: Output) -> str | None:
    """Where an output is to be fetched; None for one that came within the result."""
    if not isinstance(output, Medium) or output.url[:5].lower() == "data:":
        return None
    return output.url


def written(output: Output, part: Path) -> Checked:
    """An output that came within the result, on disk and checked. Raises UnusableMedium, OSError."""
    data, declared = _inline(output)
    write_whole(part, data)
    if isinstance(output, Medium):
        return check(part, declared, "", data)
    text = isinstance(output, Text)
    kind = Kind("text/plain", "txt") if text else Kind("application/json", "json")
    return Checked(kind, len(data), hashlib.sha256(data).hexdigest())


def _inline(output: Output) -> tuple[bytes, str | None]:
    match output:
        case Text(text):
            return text.encode(), "text/plain"
        case Data(value):
            return json.dumps(value, ensure_ascii=False, indent=2).encode(), "application/json"
        case Medium(url):
            head, _, data = url[5:].partition(",")
            decoded = unquote_to_bytes(data)
            try:
                if head.lower().endswith(";base64"):
                    decoded = base64.b64decode(decoded)
            except ValueError as error:
                raise UnusableMedium(f"the data URL does not decode: {error}") from error
            return decoded, head.partition(";")[0]
