"""An asyncio batch job runner for Segmind's async API."""

__version__ = "0.1.0"
