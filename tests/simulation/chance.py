"""Draws a weather in which everything is left to chance."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from runner.crash_points import POINTS

from .weather import DAY_S, Death, History, Life, Model, Outage, Weather, Wire

# What a server without a clock of its own could still tell of the end of its window.
RELATIVE_FORMS = ("relative", "retry-after", "none")


def draw(seed: int, rng: Random) -> Weather:
    """A weather in which everything is left to chance."""
    models = {slug: _model(rng, slug) for slug in ("imagen", "other")[: rng.choice((1, 1, 2))]}
    jobs = _jobs(rng, list(models))
    skew_s = _some(
        rng, 0.4, lambda: rng.choice((-1, 1)) * rng.choice((2.0, 20.0, 900.0, 9000.0)), 0.0
    )
    lives = tuple(
        _life(rng, sum(models[model].cost for _, model, _ in jobs))
        for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))
    )
    if rng.random() < 0.5:
        lives = tuple(upset(rng, life) for life in lives)
    # Without the server's Date nobody could know how far apart the clocks are.
    dated = rng.random() < 0.85
    return Weather(
        seed=seed,
        jobs=jobs,
        models=models,
        wire=_wire(rng, dated),
        history=_history(rng),
        lives=lives,
        doubt_wait_s=rng.choice((60.0, 120.0)),
        skew_s=skew_s,
        dated=dated,
        credit=_some(rng, 0.1, lambda: rng.uniform(0.0, 0.3), None),
        refill_at=rng.uniform(100.0, 2000.0),
        closes=_some(rng, 0.07, lambda: (rng.choice(list(models)), rng.uniform(0.0, 120.0)), None),
        strangers=_strangers(rng, jobs),
        breaker=rng.choice((0, 10)),
        disk=rng.choice(("quick",) * 9 + ("slow",)),
    )


def _some(rng: Random, share: float, value: Any, otherwise: Any) -> Any:
    """`value()` in this share of nights."""
    return value() if rng.random() < share else otherwise


def _model(rng: Random, slug: str) -> Model:
    queue, work = rng.choice((4, 20, 60, 350, 900)), rng.choice((2, 10, 40))
    return Model(
        slug,
        queue_s=(0.1, float(queue)),
        work_s=(0.5, float(work)),
        failing=_some(rng, 0.3, lambda: rng.uniform(0.0, 0.3), 0.0),
        blocking=_some(rng, 0.3, lambda: rng.uniform(0.0, 0.3), 0.0),
        outputs=rng.choice((1, 1, 1, 3)),
        cost=rng.choice((0.02, 0.04)),
    )


def _jobs(rng: Random, models: list[str]) -> tuple[tuple[str, str, dict[str, Any]], ...]:
    count = rng.choice((1, 2, 4, 6, 8, 12, 20))
    equal = _some(rng, 0.3, lambda: rng.uniform(0.2, 0.9), 0.0)
    refused = _some(rng, 0.15, lambda: 0.2, 0.0)
    jobs: list[tuple[str, str, dict[str, Any]]] = []
    for number in range(count):
        model = rng.choice(models)
        body: dict[str, Any] = {"prompt": f"picture {number}", "seed": number}
        if jobs and rng.random() < equal:
            model, body = rng.choice(jobs)[1:]
        elif rng.random() < refused:
            body["aspect_ratio"] = "0:0"
        jobs.append((f"j{number}", model, body))
    return tuple(jobs)


def _wire(rng: Random, dated: bool) -> Wire:
    def share(of_nights: float, most: float) -> float:
        return float(_some(rng, of_nights, lambda: rng.uniform(0.02, most), 0.0))

    outages = [
        Outage(
            start, start + rng.uniform(2.0, 200.0), rng.choice(("refuse", "silence", "502", "503"))
        )
        for start in (rng.uniform(0.0, 400.0) for _ in range(rng.choice((0, 0, 0, 1, 2))))
    ]
    return Wire(
        slow=share(0.2, 0.3),
        lost=share(0.5, 0.5),
        never_left=share(0.2, 0.3),
        refused=share(0.2, 0.4),
        gateway=share(0.4, 0.4),
        garbage=share(0.2, 0.3),
        get_errors=share(0.3, 0.4),
        not_found=share(0.25, 0.5),
        hesitant=share(0.2, 0.5),
        running_result=rng.choice(("state",) * 7 + ("404", "400", "500")),
        media_errors=share(0.2, 0.4),
        rpm=_some(rng, 0.35, lambda: rng.choice((10, 20, 60)), None),
        sliding=rng.random() < 0.5,
        gets_count=rng.random() < 0.7,
        reset_form=rng.choice((*RELATIVE_FORMS, *(("epoch", "ms", "iso", "http") * dated))),
        outages=tuple(outages),
    )


def _history(rng: Random) -> History:
    def windows(of_nights: float) -> tuple[tuple[float, float], ...]:
        if rng.random() > of_nights:
            return ()
        if rng.random() < 0.4:
            return ((0.0, float("inf")),)
        start = rng.uniform(0.0, 300.0)
        return ((start, start + rng.uniform(50.0, 1000.0)),)

    return History(
        same_host=rng.random() < 0.3,
        # As a share of the time of grace: later than that, it would be no history to rely on.
        slow_s=_some(rng, 0.2, lambda: rng.uniform(1.0, 6.0), 0.0),
        late_s=_some(rng, 0.5, lambda: rng.uniform(0.1, 0.95), 0.0),
        page=rng.choice((2, 5, 20, 100, 100)),
        envelope=rng.choice(("data", "items", "results", "requests", "")),
        body_form=rng.choice(("object",) * 8 + ("text",) * 4 + ("floats", "defaults", "none")),
        timeless=rng.random() < 0.04,
        hides=_some(rng, 0.06, lambda: rng.uniform(0.1, 0.6), 0.0),
        down=windows(0.2),
        blind=windows(0.12),
        mends=rng.random() < 0.8,
    )


def _life(rng: Random, price: float) -> Life:
    kind = rng.choice(
        ("none", "step", "step", "step", "commit", "commit", "point", "drain", "stop")
    )
    death = Death(
        kind,
        number={
            "step": int(rng.expovariate(1 / 250)) + 1,
            "commit": int(rng.expovariate(1 / 15)) + 1,
            "point": rng.choice((1, 1, 2, 4, 8)),
        }.get(kind, 0),
        after=rng.random() < 0.5,
        point=rng.choice(POINTS),
        at_s=rng.expovariate(1 / 40),
    )
    pauses = (0.5, 5.0, 40.0, 40.0, 200.0, 700.0, 700.0, 4000.0, 2 * DAY_S)
    return Life(
        concurrency=rng.choice((1, 3, 8, 8, 30)),
        rpm=_some(rng, 0.4, lambda: rng.choice((6, 10, 60)), None),
        limit=_some(rng, 0.1, lambda: rng.randint(1, 6), None),
        budget=_some(rng, 0.15, lambda: round(price * rng.uniform(0.2, 1.2), 2), None),
        on_doubt=rng.choice(("reconcile",) * 12 + ("hold", "resubmit")),
        on_expired=rng.choice(("recover",) * 12 + ("hold", "resubmit")),
        wait_for_credits=rng.random() < 0.3,
        poll=rng.choice(("auto", "auto", "status", "result", "history")),
        death=death,
        pause_s=8 * DAY_S if rng.random() < 0.02 else rng.choice(pauses) * rng.uniform(0.5, 1.5),
        skew_s=rng.choice((0.0, 0.0, rng.uniform(-3.0, 3.0))),
        retries=_some(
            rng,
            0.1,
            lambda: tuple(rng.sample(("failed", "blocked", "invalid", "expired", "in_doubt"), 2)),
            (),
        ),
        loses_files=rng.random() < 0.1,
    )


def upset(rng: Random, life: Life) -> Life:
    """A life whose clock is set, before it and in it, and whose computer goes to sleep."""

    def jump_s() -> float:
        return rng.choice((-1, 1)) * rng.choice(
            (rng.uniform(1, 30), rng.uniform(30, 290), 3600.0, DAY_S)
        )

    def whens(most: int) -> list[float]:
        return [rng.expovariate(1 / 60) for _ in range(rng.randint(0, most))]

    return replace(
        life,
        set_s=_some(rng, 0.5, jump_s, 0.0),
        jumps=tuple((after_s, jump_s()) for after_s in whens(2)),
        sleeps=tuple(
            (after_s, rng.choice((20.0, 200.0, 1000.0, 30_000.0))) for after_s in whens(1)
        ),
    )


def _strangers(
    rng: Random, jobs: tuple[tuple[str, str, dict[str, Any]], ...]
) -> tuple[tuple[float, str, dict[str, Any]], ...]:
    """Requests of somebody else on the account: those like ours from long before, others any time."""
    if rng.random() < 0.5:
        return ()
    found = []
    for _ in range(rng.randint(1, 8)):
        _, model, body = rng.choice(jobs)
        if rng.random() < 0.5:
            found.append((-rng.uniform(200.0, 40_000.0), model, body))
        else:
            found.append((rng.uniform(-500.0, 2000.0), model, {"prompt": "of somebody else"}))
    return tuple(sorted(found, key=lambda each: each[0]))
