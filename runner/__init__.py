"""An asyncio batch job runner for Segmind's async API.

    async for job in runner.run("animals.yaml"):
        print(job.id, job.state, *[file.path for file in job.files])

`docs/python.md` tells the rest. Errors are those of `runner.errors`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runner import errors as errors
    from runner.door import BlockingLedgerView as BlockingLedgerView
    from runner.door import FileInfo as FileInfo
    from runner.door import JobInfo as JobInfo
    from runner.door import LedgerView as LedgerView
    from runner.door import Plan as Plan
    from runner.door import PlanLine as PlanLine
    from runner.door import Run as Run
    from runner.door import State as State
    from runner.door import Summary as Summary
    from runner.door import open_ledger as open_ledger
    from runner.door import plan as plan
    from runner.door import plan_sync as plan_sync
    from runner.door import run as run
    from runner.door import run_sync as run_sync

__version__ = "0.1.0"
__all__ = [
    "BlockingLedgerView",
    "FileInfo",
    "JobInfo",
    "LedgerView",
    "Plan",
    "PlanLine",
    "Run",
    "State",
    "Summary",
    "errors",
    "open_ledger",
    "plan",
    "plan_sync",
    "run",
    "run_sync",
]


def __getattr__(name: str) -> object:
    """Opens the door when somebody reaches for it: `import runner` alone costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'runner' has no attribute '{name}'")
    import importlib

    if name == "errors":
        return importlib.import_module("runner.errors")
    value = getattr(importlib.import_module("runner.door"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
