"""Manifests: YAML files that say which results are wanted, read as a stream of jobs."""

from runner.manifest.loading import Manifest, load
from runner.manifest.schema import manifest_schema

__all__ = ["Manifest", "load", "manifest_schema"]
