"""A page of the history is asked for when it is likely to decide something, and seldom otherwise."""

from __future__ import annotations

from benchmarks.pages import measure_pages
from benchmarks.world import IMAGE
from runner.policy.pages import (
    INTERVAL_S,
    LONGEST_INTERVAL_S,
    MARGIN_ROWS,
    MOST_PAGES,
    ROWS,
    PagePolls,
)


def test_the_first_round_waits_for_the_first_job_that_is_probably_done():
    assert PagePolls().next_round(12.0) == 12.0
    assert PagePolls().next_round(None) is None


def test_rounds_keep_their_distance():
    pages = PagePolls()
    pages.asked(100.0, decided=3)
    assert pages.next_round(90.0) == 100.0 + INTERVAL_S
    assert pages.next_round(130.0) == 130.0


def test_rounds_that_decide_nothing_become_seldom_until_one_does():
    pages = PagePolls()
    distances = []
    for _ in range(20):
        pages.asked(0.0, decided=0)
        distances.append(pages.next_round(-1000.0) or 0.0)
    assert distances == sorted(distances)
    assert distances[-1] == LONGEST_INTERVAL_S
    pages.asked(0.0, decided=1)
    assert pages.next_round(-1000.0) == INTERVAL_S


def test_a_round_turns_as_many_pages_as_the_oldest_job_is_away():
    pages = PagePolls()
    assert pages.pages(0) == 1
    assert pages.pages(ROWS - MARGIN_ROWS - 1) == 1
    assert pages.pages(ROWS - MARGIN_ROWS) == 2
    assert pages.pages(10**6) == MOST_PAGES


def test_a_job_waits_once_for_its_row():
    pages = PagePolls()
    assert pages.defers(7)
    assert not pages.defers(7)
    pages.discard(7)
    pages.discard(7)
    assert pages.defers(7)


def test_by_the_history_a_job_costs_hardly_more_than_its_submit():
    requests, faster, _, lost = measure_pages(IMAGE, 1000, (1,))
    assert requests <= 1.3
    assert faster >= 1.6
    assert lost == 0
