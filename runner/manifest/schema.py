"""The manifest's JSON Schema, from which editors complete and check."""

from __future__ import annotations

from typing import Any

from runner.documents.json_schema import NOTHING, or_else
from runner.manifest.definitions import Header


def manifest_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a manifest, from the definitions that reading uses."""
    schema = Header.model_json_schema()
    for name, about in schema["properties"].items():
        if name == "prompts":
            about["minItems"] = 1
        else:
            schema["properties"][name] = or_else(about, NOTHING)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Manifest",
    }
