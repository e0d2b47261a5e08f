"""Prompt files with an object in each line: .jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, TextIO

from runner.documents import kind_of
from runner.manifest.rows import Reading, Row

_DEEPEST = 64


def jsonl_rows(reading: Reading, stream: TextIO) -> Iterator[Row]:
    """The rows of a file with one object, or one text, in each line."""
    first = True
    for number, line in enumerate(stream, start=1):
        if not (text := line.strip()):
            continue
        try:
            value = _DECODER.decode(text)
            if text.count("[") + text.count("{") > _DEEPEST:
                _check_depth(value)
        except json.JSONDecodeError as error:
            reading.fault(number, f"is not JSON: {error.msg} (column {error.colno})")
            continue
        except (ValueError, RecursionError) as error:
            reading.fault(number, f"is not JSON that can be sent: {error}")
            continue
        if isinstance(value, str):
            yield reading.row_of_text(number, value)
            continue
        if not isinstance(value, dict):
            reading.fault(number, f"must be an object or a text, not {kind_of(value)}")
            continue
        # Rows may leave a column out, but one that the first row lacks is most likely misspelt.
        if first and (message := reading.column_fault(value)):
            reading.fault(number, message)
            return
        first = False
        if row := reading.row(number, value, _json_targets(reading, value)):
            yield row


def _json_targets(reading: Reading, value: Mapping[str, Any]) -> dict[str, str]:
    targets = {name: target for name in value if (target := reading.target_of(name))}
    if "params" in value and "params" not in targets:
        targets["params"] = "params"
    return targets


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"it holds {constant}")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _check_depth(value: Any) -> None:
    layer = [value]
    for _ in range(_DEEPEST):
        layer = list(
            chain.from_iterable(
                item.values() if isinstance(item, dict) else item
                for item in layer
                if isinstance(item, dict | list)
            )
        )
        if not layer:
            return
    raise ValueError("it is nested too deeply")
