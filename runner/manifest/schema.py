"""The manifest's JSON Schema, from which editors complete and check."""

from __future__ import annotations

from typing import Any

from runner.manifest.definitions import Header


def manifest_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a manifest, from the definitions that reading uses."""
    schema = Header.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Manifest",
    }
