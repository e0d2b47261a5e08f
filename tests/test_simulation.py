"""Whole nights in virtual time: nothing is paid twice, no result is lost, and what is said is true."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from simulation.loop import Stuck, VirtualLoop
from simulation.night import Told, play, play_all
from simulation.themes import draw

NIGHTS = 400
BATCH = 50
ROOT = Path(__file__).parents[1]


def ask(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """`python -m tests.simulation` as a person types it."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def words(told: Told) -> str:
    again = f"again: python -m tests.simulation --seed {told.seed} --verbose"
    return "\n".join([*told.violations, again])


@pytest.mark.parametrize("first", range(0, NIGHTS, BATCH))
def test_whatever_goes_wrong_in_a_night_ledger_and_server_agree(first: int):
    nights = play_all(range(first, first + BATCH))
    assert not [words(told) for told in nights if told.violations]
    # Nights in which nothing happens would prove nothing.
    sums = Counter[str]()
    for told in nights:
        sums.update(kills=told.kills, lost=told.lost, accepted=told.accepted)
        sums.update(told.states)
    assert min(sums["kills"], sums["lost"], sums["accepted"]) >= BATCH / 5
    assert sums["saved"] > sums["accepted"] / 2


def test_a_night_is_told_again_from_its_seed():
    first = [play(seed) for seed in range(20)]
    assert [play(seed) for seed in range(20)] == first
    assert len({told.fingerprint for told in first}) == len(first)


def test_a_night_is_the_same_in_every_process():
    said = [ask("--seed", "5", "--verbose", hash_seed=seed) for seed in ("1", "2")]
    assert said[0].stdout == said[1].stdout
    assert said[0].returncode == 0, said[0].stderr
    assert "life 0" in said[0].stdout
    assert play(5).fingerprint[:16] in said[0].stdout


def test_the_command_plays_many_nights():
    said = ask("--nights", "6", "--first", "100", "--processes", "2")
    assert said.returncode == 0, said.stderr
    assert "6 nights in" in said.stdout
    assert "0 nights with violations" in said.stdout


def test_all_kinds_of_trouble_are_drawn():
    nights = [draw(seed) for seed in range(NIGHTS)]
    kinds = {life.death.kind for weather in nights for life in weather.lives}
    assert kinds == {"none", "step", "commit", "point", "drain", "stop"}
    lives = [life for weather in nights for life in weather.lives]
    for trouble in ("set_s", "jumps", "sleeps"):
        assert any(getattr(life, trouble) for life in lives), trouble
    assert {True, False} == {weather.dated for weather in nights if weather.jumps}
    outages = {outage.kind for weather in nights for outage in weather.wire.outages}
    assert outages == {"refuse", "silence", "502", "503"}
    for trouble in ("lost", "never_left", "refused", "gateway", "garbage", "not_found", "rpm"):
        assert any(getattr(weather.wire, trouble) for weather in nights), trouble
    for trouble in (
        "late_s",
        "slow_s",
        "hides",
        "denies",
        "down",
        "blind",
        "timeless",
        "same_host",
    ):
        assert any(getattr(weather.history, trouble) for weather in nights), trouble


async def _sleep_a_minute(loop: VirtualLoop, found: list[float]) -> None:
    import asyncio

    await asyncio.sleep(60.0)
    found += [loop.time(), loop.now]


def test_while_the_computer_sleeps_time_passes_and_no_timer_fires():
    found: list[float] = []
    loop = VirtualLoop(5.0, sleeps=((10.0, 3600.0),))
    loop.live(_sleep_a_minute(loop, found))
    loop.bury()
    assert found == [pytest.approx(65.0), pytest.approx(3665.0)]


async def _nothing_comes() -> None:
    import asyncio

    await asyncio.get_running_loop().create_future()


def test_a_run_that_waits_for_nothing_is_noticed():
    loop = VirtualLoop(0.0)
    with pytest.raises(Stuck, match="no timer is set"):
        loop.live(_nothing_comes())
    loop.bury()
