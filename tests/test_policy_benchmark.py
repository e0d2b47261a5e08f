"""The rules hold their ground beside plain loops and an oracle: a part of the benchmark, as a guard."""

from __future__ import annotations

import pytest

from benchmarks.ours import ours
from benchmarks.policy import measure_cell, table
from benchmarks.world import COLD_STARTS, IMAGE, QUEUE, VIDEO, Model, Night

GUARDED = [
    (IMAGE, 50),
    (IMAGE, 1000),
    (COLD_STARTS, 120),
    (COLD_STARTS, 1000),
    (QUEUE, 120),
    (VIDEO, 50),
    (VIDEO, 1000),
]


@pytest.mark.parametrize(("model", "rpm"), GUARDED, ids=lambda value: str(value)[:30])
def test_no_aim_is_missed(model: Model, rpm: int):
    cell = measure_cell(model, rpm, "fixed", seeds=(1,))
    assert cell.misses == [], table([cell])


@pytest.mark.parametrize("model", [IMAGE, COLD_STARTS, QUEUE, VIDEO], ids=lambda model: model.name)
def test_a_sliding_window_refuses_nothing_either(model: Model):
    outcome = ours(Night(model, 120, "sliding", 1000, 1))
    assert (outcome.refused, outcome.lost) == (0, 0)


@pytest.mark.parametrize("model", [IMAGE, VIDEO], ids=lambda model: model.name)
def test_results_that_do_not_tell_how_long_they_took_cost_little(model: Model):
    night = Night(model, 120, "fixed", 1000, 1)
    told, untold = ours(night), ours(night, metrics=False)
    assert untold.lost == 0
    assert untold.makespan_s <= 1.1 * told.makespan_s
    assert untold.requests <= 2.15 * night.jobs


@pytest.mark.parametrize(
    ("rpm", "servers", "work_s", "jobs"),
    [(1000, 8, 12.0, 1500), (120, 8, 60.0, 600), (50, 1, 30.0, 300), (5, 1, 240.0, 100)],
)
def test_a_slow_backend_loses_nothing_without_a_bound_by_the_user(
    rpm: int, servers: int, work_s: float, jobs: int
):
    model = Model("slow", work_s, 0.15, servers=servers)
    assert ours(Night(model, rpm, "fixed", jobs, 5)).lost == 0


def test_a_bound_by_the_user_is_kept_and_its_spare_rate_used():
    night = Night(VIDEO, 1000, "fixed", 300, 1)
    outcome = ours(night, concurrency=64)
    assert outcome.lost == 0
    # Five rounds of the median latency and more; nothing of it was spent on asking too late.
    assert outcome.makespan_s < 1400.0
