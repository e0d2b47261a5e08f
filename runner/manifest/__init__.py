"""Manifests: YAML files that say which results are wanted, read as a stream of jobs."""

from runner.manifest.loading import Manifest, given, load
from runner.manifest.schema import manifest_schema

__all__ = ["Manifest", "given", "load", "manifest_schema"]
