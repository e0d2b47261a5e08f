"""One run: admission, wake-ups, draining, stopping."""

from runner.engine.engine import Bounds, Engine, Steps

__all__ = ["Bounds", "Engine", "Steps"]
