"""Plan versus truth, apart from the test command: history is made, then a plan is held against its run.

    python tests/plan_truth.py [rate] [latency] [mixed]

The real command works against a simulated API in this process. Prints one row a setting.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
import yaml
from desk import Desk, Service

from runner.sandbox import Options, parse_latency

HISTORY_JOBS, JOBS = 200, 600


@dataclass(frozen=True)
class Setting:
    """An API, an account and the models that are asked for."""

    latency: str
    rpm: int | None
    concurrency: int
    costs: Mapping[str, float] = field(default_factory=lambda: {"imagen": 0.04})


SETTINGS = {
    "rate": Setting("3s", 600, 64),
    "latency": Setting("6s", None, 16),
    "mixed": Setting("4s", 1200, 32, {"imagen": 0.04, "flux-schnell": 0.01}),
}


def main(names: list[str]) -> None:
    """Measures the named settings, or all."""
    click.echo(
        f"{'setting':<9} {'plan $':>8} {'true $':>8} {'off':>6}   {'plan s':>7} {'true s':>7} {'off':>6}"
    )
    for name in names or SETTINGS:
        setting = SETTINGS[name]
        options = Options(
            latency=parse_latency(setting.latency),
            rpm=setting.rpm,
            picture_px=64,
            costs=setting.costs,
        )
        with tempfile.TemporaryDirectory() as folder, Service(options) as api:
            cost, seconds, truth = measure(Desk(Path(folder)), api, setting)
        spent, took_s = truth["spent_run"], truth["elapsed_s"]
        click.echo(
            f"{name:<9} {cost:>8.2f} {spent:>8.2f} {cost / spent - 1:>+6.1%}   "
            f"{seconds:>7.1f} {took_s:>7.1f} {seconds / took_s - 1:>+6.1%}"
            f"  requests a job {truth['requests']}",
        )


def measure(desk: Desk, api: Service, setting: Setting) -> tuple[float, float, dict]:
    """Plan and truth of the second run."""
    desk.configure(api.url, concurrency=setting.concurrency)
    config = yaml.safe_load((desk.folder / "config.yaml").read_text())
    config["api"]["rpm"] = setting.rpm
    desk.write("config.yaml", yaml.safe_dump(config))
    history = manifest(desk, "history", HISTORY_JOBS, setting)
    assert desk.run("run", history, "-q").status == 0
    wanted = manifest(desk, "wanted", JOBS, setting)
    plan = desk.run("plan", wanted, "--json").json
    assert plan["guesses"] == [], plan["guesses"]
    ended = desk.run("run", wanted, "-q", "--json")
    assert ended.status == 0, ended.words
    return plan["cost"], plan["seconds"], ended.json


def manifest(desk: Desk, name: str, count: int, setting: Setting) -> str:
    """So many jobs; the dearer models are asked for less often than the cheaper ones in the history."""
    models = sorted(setting.costs, key=setting.costs.__getitem__)
    weights = range(1, len(models) + 1) if name == "wanted" else range(len(models), 0, -1)
    cycle = [model for model, weight in zip(models, weights, strict=True) for _ in range(weight)]
    prompts = [{"prompt": f"{name} {n}", "model": cycle[n % len(cycle)]} for n in range(count)]
    return desk.manifest(*prompts, name=name)


if __name__ == "__main__":
    main(sys.argv[1:])
