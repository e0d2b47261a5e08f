"""The manifest's JSON Schema, from which editors complete and check."""

from __future__ import annotations

from typing import Any

from runner.manifest.definitions import Header


def manifest_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a manifest, from the definitions that reading uses."""
    schema = Header.model_json_schema()
    for name, about in schema["properties"].items():
        if name == "prompts":
            about["minItems"] = 1
        else:
            schema["properties"][name] = _or_nothing(about)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Manifest",
    }


def _or_nothing(about: dict[str, Any]) -> dict[str, Any]:
    """A key without a value counts as left out."""
    said = {key: about[key] for key in ("title", "description", "default") if key in about}
    value = {key: about[key] for key in about if key not in said}
    ways = value.pop("anyOf", None) or [value]
    nothing = {"type": "null"}
    return said | {"anyOf": ways if nothing in ways else [*ways, nothing]}
