"""`runner sandbox`: the simulated API as a server of its own."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import click

SHARE = click.FloatRange(0.0, 1.0)


@click.command("sandbox")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="0: any free port.",
)
@click.option(
    "--latency",
    default="1.5s",
    show_default=True,
    help="How long jobs take: a median like `12s`, `fixed:300ms`, `lognormal:12s,0.6`, "
    "`bimodal:10s,60s,0.2` or a queue `servers:8,12s`.",
)
@click.option(
    "--rpm", type=click.IntRange(min=1), help="Requests per minute.  [default: unlimited]"
)
@click.option(
    "--sliding",
    is_flag=True,
    help="Count the rate over the last minute instead of by the clock's minutes.",
)
@click.option(
    "--retention",
    default="1h",
    show_default=True,
    help="How long results are kept after the submit.",
)
@click.option(
    "--credits",
    "balance",
    type=click.FloatRange(min=0),
    help="Balance in dollars.  [default: plenty]",
)
@click.option("--fail-rate", type=SHARE, default=0.0, help="Share of jobs that end FAILED.")
@click.option(
    "--block-rate", type=SHARE, default=0.0, help="Share of jobs that the content filter blocks."
)
@click.option(
    "--lost-answers", type=SHARE, default=0.0, help="Share of submits accepted but never answered."
)
@click.option("--error-rate", type=SHARE, default=0.0, help="Share of calls answered with a 5xx.")
@click.option("--seed", type=int, default=0, show_default=True, help="What chance is drawn from.")
@click.option(
    "--markers", is_flag=True, help="List the words in a prompt that bring a fault about."
)
def sandbox_command(markers: bool, **options: Any) -> int:
    """Serve the simulated API on loopback until it is interrupted.

    Point a config at it with `api: {base_url: URL, history_url: URL}` and any key like
    SG_0123456789abcdef.
    """
    if markers:
        from runner.sandbox import MARKERS

        width = max(map(len, MARKERS))
        for name, meaning in MARKERS.items():
            click.echo(f"[[{name}]]{'':{width - len(name)}}  {meaning}")
        return 0
    return anyio.run(_serve, options)


async def _serve(options: dict[str, Any]) -> int:
    from runner.config import parse_duration
    from runner.sandbox import Options, Sandbox, parse_latency

    try:
        chosen = Options(
            latency=parse_latency(options["latency"]),
            rpm=options["rpm"],
            sliding=options["sliding"],
            retention_s=parse_duration(options["retention"]),
            credits=options["balance"],
            fail_rate=options["fail_rate"],
            block_rate=options["block_rate"],
            lost_answers=options["lost_answers"],
            error_rate=options["error_rate"],
            seed=options["seed"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    sandbox = Sandbox(chosen)
    try:
        await sandbox.start(port=options["port"])
    except OSError as error:
        raise click.UsageError(
            f"cannot serve on port {options['port']}: {error.strerror}"
        ) from error
    try:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            click.echo(f"the simulated API is at {sandbox.url}; Ctrl-C ends it")
            async for _ in received:
                break
    finally:
        await sandbox.stop()
    return 0
