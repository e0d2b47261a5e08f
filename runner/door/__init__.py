"""The door for programs: what the command does, without its terminal."""

from runner.assembly.planning import Plan, PlanLine
from runner.door.ledgers import BlockingLedgerView, LedgerView, open_ledger
from runner.door.plans import plan, plan_sync
from runner.door.runs import Run, run, run_sync
from runner.door.values import FileInfo, JobInfo
from runner.job import State
from runner.report.summary import Summary

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
    "open_ledger",
    "plan",
    "plan_sync",
    "run",
    "run_sync",
]
