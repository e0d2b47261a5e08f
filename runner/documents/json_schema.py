"""JSON Schemas of documents: what a file may hold in the place of a value."""

from __future__ import annotations

from typing import Any

NOTHING: dict[str, Any] = {"type": "null"}
"""A key without a value counts as left out."""

REFERENCE: dict[str, Any] = {"type": "string", "pattern": r"\$\{[^{}]*\}"}
"""`${NAME}`, filled from the environment before the value is judged."""


def or_else(about: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """The schema of a property that may also be one of the others; what is said of it stays."""
    said = {key: about[key] for key in ("title", "description", "default") if key in about}
    value = {key: about[key] for key in about if key not in said}
    ways = value.pop("anyOf", None) or [value]
    return said | {"anyOf": [*ways, *(other for other in others if other not in ways)]}
