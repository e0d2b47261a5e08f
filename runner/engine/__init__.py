"""One run: admission, wake-ups, draining, stopping."""

from runner.engine.engine import Bounds, Engine, Steps
from runner.engine.memory import recall

__all__ = ["Bounds", "Engine", "Steps", "recall"]
