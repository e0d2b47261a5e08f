"""`runner doctor`: what stands between you and a run, and the mend for each finding."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import click

from runner.assembly.place import Place
from runner.cli.findings import (
    Finding,
    config_findings,
    descriptor_findings,
    disk_findings,
    manifest_findings,
    notify_findings,
    unattended_note,
)
from runner.cli.options import json_option, manifest_arguments, place_options
from runner.errors import EXIT_OK, EXIT_UNSAVED, LedgerBusy, RunnerError

if TYPE_CHECKING:
    from runner.api import Api
    from runner.assembly.session import Workplace
    from runner.job import Answer

CLOCK_TOLERANCE_S = 120.0
HISTORY_DAYS = 7


@click.command("doctor")
@manifest_arguments(required=False)
@place_options
@click.option("--notify", is_flag=True, help="Send a message to the addresses under `notify`.")
@json_option("The findings as JSON Lines.")
def doctor_command(manifests: tuple[Path, ...], place: Place, notify: bool, as_json: bool) -> int:
    """Check config, disk, ledger, key, reachability, balance and clock, and MANIFESTs if given.

    Costs nothing. Exit status 1 when something stands in the way of a run.
    """
    return anyio.run(_doctor, manifests, place, notify, as_json)


async def _doctor(paths: Sequence[Path], place: Place, notify: bool, as_json: bool) -> int:
    from runner.assembly.session import workplace

    at = workplace(place, reading=True)
    well = True
    async for finding in _findings(at, place, paths, notify):
        well = well and finding.level != "problem"
        if as_json:
            click.echo(json.dumps(asdict(finding)))
            continue
        mark = {"ok": " ok ", "note": "note", "problem": "MEND"}[finding.level]
        click.echo(f"[{mark}] {finding.what}: {finding.how}")
        if finding.mend:
            click.echo(f"       {finding.mend}")
    return EXIT_OK if well else EXIT_UNSAVED


async def _findings(
    at: Workplace, place: Place, paths: Sequence[Path], notify: bool
) -> AsyncIterator[Finding]:
    for finding in (*config_findings(place), *manifest_findings(paths)):
        yield finding
    damaged = False
    async for finding in _ledger(at):
        damaged = damaged or finding.level == "problem"
        yield finding
    for finding in (*disk_findings(at), *descriptor_findings(at)):
        yield finding
    for finding in await anyio.to_thread.run_sync(notify_findings, at, notify):
        yield finding
    if at.simulated:
        yield Finding("ok", "API", "simulated, in the run's own process")
        return
    async for finding in _account(at, damaged):
        yield finding


async def _ledger(at: Workplace) -> AsyncIterator[Finding]:
    from runner.ledger import Ledger, LedgerLock
    from runner.ledger.reading import counts, faults, next_deadline

    what = f"ledger {at.ledger}"
    if not at.ledger.exists():
        yield Finding("ok", what, "not there yet; the first run makes it")
        return
    try:
        async with await Ledger.open(at.ledger) as ledger:
            if found := await faults(ledger):
                yield Finding("problem", what, f"damaged: {found[0]}", _rebuild_words(at.ledger))
                return
            jobs = sum(entry.total for entry in (await counts(ledger)).values())
            deadline = await next_deadline(ledger)
    except RunnerError as error:
        how, _, mend = str(error).partition("; ")
        if "damaged" in how:
            mend = _rebuild_words(at.ledger)
        yield Finding("problem", what, how, mend or "look at its disk, and try again")
        return
    yield Finding("ok", what, f"sound, {jobs:,} jobs")
    try:
        with LedgerLock(at.ledger) as lock:
            lock.acquire(time.time())
    except LedgerBusy as busy:
        yield Finding("note", what, str(busy))
        return
    if deadline is not None:
        left_s = deadline - time.time()
        when = f"within {left_s / 60:.0f} min" if left_s > 0 else "already, but for its history"
        yield Finding(
            "note",
            what,
            f"jobs are in flight; the API forgets the first {when}",
            "`runner run` collects them",
        )


def _rebuild_words(ledger: Path) -> str:
    return (
        f"move {ledger} away (keep it) and run again with a new one; what the API accepted is in its "
        "request history, see below: run nothing again that it lists"
    )


async def _account(at: Workplace, damaged: bool) -> AsyncIterator[Finding]:
    from runner.api import Access, Api

    api = at.settings.api
    if api.key is None:
        mend = "set SEGMIND_API_KEY or `api.key` in the config, or try things with --sandbox"
        yield Finding("problem", "API key", "there is none", mend)
        return
    key = api.key.get_secret_value()
    if not key.startswith("SG_"):
        yield Finding("note", "API key", "does not begin with SG_ as Segmind's keys do")
    async with Api(Access(api.base_url, api.history_url, key, api.timeout_s)) as session:
        answer = await session.credits()
        for finding in _balance(answer, api.base_url):
            yield finding
        if answer.status == 200 and (note := unattended_note(at)):
            yield note
        if answer.server_time is not None:
            yield _clock(answer.server_time - time.time())
        yield await _history(session, api.history_url, damaged)


def _balance(answer: Answer, url: str) -> list[Finding]:
    from runner.policy.verdict import describe
    from runner.treasurer import balance_of

    if answer.status is None:
        mend = "check the network, a proxy, and `api.base_url` in the config"
        return [Finding("problem", f"API {url}", f"not reached: {answer.text}", mend)]
    if answer.status == 401:
        mend = "copy the key anew from the Segmind console; a bearer token is none"
        return [Finding("problem", "API key", f"refused: {describe(answer)}", mend)]
    reached = Finding("ok", f"API {url}", f"answers in {answer.seconds * 1000:.0f} ms")
    balance = balance_of(answer.body) if answer.status == 200 else None
    if balance is None:
        return [reached, Finding("note", "balance", f"not told: {describe(answer)}")]
    if balance <= 0:
        mend = "add credits; until then a run stops at its first submit"
        return [reached, Finding("problem", "balance", f"${balance:,.2f}", mend)]
    return [
        reached,
        Finding("ok", "API key", "accepted"),
        Finding("ok", "balance", f"${balance:,.2f}"),
    ]


def _clock(skew_s: float) -> Finding:
    how = f"{abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} the API's"
    if abs(skew_s) <= CLOCK_TOLERANCE_S:
        return Finding("ok", "clock", how)
    return Finding(
        "note", "clock", how, "set it by NTP; times in the ledger would be off by as much"
    )


async def _history(session: Api, url: str, damaged: bool) -> Finding:
    from datetime import UTC, datetime, timedelta

    from runner.api import HistoryQuery
    from runner.policy.history import rows_of
    from runner.policy.verdict import describe

    today = datetime.now(UTC).date()
    dates = (today - timedelta(days=HISTORY_DAYS)).isoformat(), today.isoformat()
    answer = await session.history(HistoryQuery(*dates))
    rows = rows_of(answer.body) if answer.status == 200 else None
    what = f"request history {url}"
    if rows is None:
        mend = (
            "a run works without it, but what is in doubt stays in doubt; check `api.history_url`"
        )
        return Finding("note", what, f"not usable: {describe(answer) or answer.text}", mend)
    ids = {row.request_id for row in rows}
    alive = {row.request_id for row in rows if row.status == "COMPLETED" and row.url}
    some = "at least " if len(rows) >= 100 else ""
    how = f"lists {some}{len(ids)} requests of the last {HISTORY_DAYS} days"
    if damaged:
        return Finding(
            "note",
            what,
            f"{how}; {some}{len(alive)} of them have files that can still be fetched",
            "their prompts and links are in the Segmind console under request history",
        )
    return Finding("ok", what, how)
