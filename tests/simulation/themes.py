"""Nights with a theme: coincidences that would be rare, were they left to chance."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from . import chance
from .weather import DAY_S, RETENTION_S, Death, History, Life, Weather, Wire


def draw(seed: int) -> Weather:
    """The weather of a night."""
    rng = Random(seed)
    weather = chance.draw(seed, rng)
    theme = rng.choice((None,) * 12 + THEMES)
    return weather if theme is None else theme(rng, weather)


def _twins(rng: Random, weather: Weather) -> Weather:
    """Equal requests at once, some of them in doubt while others are being sent."""
    slug, body = weather.jobs[0][1:]
    jobs = tuple((f"j{number}", slug, body) for number in range(rng.randint(3, 10)))
    life = replace(
        weather.lives[0], concurrency=8, rpm=None, limit=None, budget=None, death=Death()
    )
    return replace(
        weather,
        jobs=jobs,
        lives=(life, *weather.lives),
        wire=replace(weather.wire, gateway=0.4, slow=0.5, outages=()),
        history=History(page=rng.choice((2, 100))),
    )


def _crowd(rng: Random, weather: Weather) -> Weather:
    """Many jobs wait for their turn while others come back from doubt."""
    slug = weather.jobs[0][1]
    jobs = tuple((f"j{number}", slug, {"prompt": f"picture {number}"}) for number in range(24))
    budget = round(24 * weather.models[slug].cost * rng.uniform(0.1, 0.9), 2)
    life = replace(
        weather.lives[0], concurrency=30, rpm=10, limit=None, budget=budget, death=Death()
    )
    return replace(
        weather,
        jobs=jobs,
        lives=(replace(life, on_doubt="reconcile"),),
        models={
            slug: replace(weather.models[slug], queue_s=(20.0, 200.0)) for slug in weather.models
        },
        wire=Wire(gateway=0.6),
        history=History(),
        doubt_wait_s=60.0,
        strangers=(),
    )


def _late(rng: Random, weather: Weather) -> Weather:
    """Rows come late, and runs begin while they are missing."""
    lives = tuple(
        replace(
            life,
            death=Death("stop", at_s=rng.uniform(1.0, 30.0)),
            pause_s=rng.uniform(1.0, 40.0),
            on_doubt="reconcile",
            rpm=None,
            limit=None,
            budget=None,
        )
        for life in weather.lives * 2
    )
    return replace(
        weather,
        lives=lives,
        wire=Wire(lost=0.5, gateway=0.2),
        history=History(late_s=0.95),
        doubt_wait_s=120.0,
        # Later requests are shown while earlier ones are missing.
        strangers=tuple((t * 5.0, weather.jobs[0][1], {"prompt": "other"}) for t in range(40)),
    )


def _patience(rng: Random, weather: Weather) -> Weather:
    """Nothing goes wrong but that the history is down, and results come shortly before they go."""
    models = {
        slug: replace(model, queue_s=(100.0, 550.0), work_s=(0.5, 1.0))
        for slug, model in weather.models.items()
    }
    life = Life(concurrency=30, pause_s=10.0)
    return replace(
        weather,
        models=models,
        lives=(life,),
        wire=Wire(),
        history=History(down=((0.0, float("inf")),), mends=False),
        credit=None,
        closes=None,
    )


def _overdue(rng: Random, weather: Weather) -> Weather:
    """Nothing goes wrong but that work takes longer than results are kept; the history tells."""
    models = {
        slug: replace(model, queue_s=(0.1, 1.0), work_s=(RETENTION_S - 50.0, RETENTION_S + 300.0))
        for slug, model in weather.models.items()
    }
    return replace(
        weather,
        models=models,
        lives=(Life(concurrency=30, pause_s=10.0),),
        wire=Wire(),
        history=History(slow_s=4.0),
        credit=None,
        closes=None,
    )


def _busy(rng: Random, weather: Weather) -> Weather:
    """Jobs come back from doubt while others end, and the disk takes its time."""
    slug = weather.jobs[0][1]
    model = replace(weather.models[slug], queue_s=(50.0, 90.0), work_s=(0.5, 20.0))
    return replace(
        weather,
        jobs=tuple((f"j{number}", slug, {"prompt": f"picture {number}"}) for number in range(12)),
        models={**weather.models, slug: model},
        lives=(Life(concurrency=30, pause_s=10.0),),
        wire=Wire(gateway=0.5),
        history=History(),
        doubt_wait_s=60.0,
        credit=None,
        closes=rng.choice((None, (slug, 5.0))),
        strangers=(),
        disk="slow",
    )


def _denying(rng: Random, weather: Weather) -> Weather:
    """The history never shows what was accepted behind a proxy that gave up, and all else."""
    quick = {
        slug: replace(model, queue_s=(0.1, 5.0), work_s=(0.5, 2.0))
        for slug, model in weather.models.items()
    }
    return replace(
        weather,
        models=quick,
        lives=(Life(pause_s=10.0),),
        wire=Wire(gateway=0.7),
        history=History(denies=True),
        doubt_wait_s=60.0,
        credit=None,
        closes=None,
    )


def _set_forward(rng: Random, weather: Weather) -> Weather:
    """Our clock is set forward while jobs are in doubt, and their rows come late."""
    late = _late(rng, weather)
    lives = tuple(
        replace(
            life,
            set_s=rng.choice((0.0, 90.0, 290.0, 3600.0)),
            jumps=((rng.uniform(5.0, 60.0), rng.choice((60.0, 290.0, 7200.0))),),
            sleeps=(),
        )
        for life in late.lives
    )
    return replace(late, lives=lives, dated=True)


def _set_anyhow(rng: Random, weather: Weather) -> Weather:
    """Our clock is set between runs that die with jobs in doubt; requests like theirs were made before."""
    late = _late(rng, weather)
    lives = tuple(
        replace(
            life,
            death=Death("point", rng.choice((1, 2, 4)), point="intent-committed")
            if rng.random() < 0.5
            else life.death,
            set_s=rng.choice((-DAY_S, -3600.0, -900.0, 900.0, 3600.0, DAY_S)),
            jumps=(),
            sleeps=(),
        )
        for life in late.lives
    )
    before = tuple(
        (-t * 450.0, slug, body) for t in range(1, 8) for _, slug, body in weather.jobs[:2]
    )
    return replace(
        late, lives=lives, dated=True, skew_s=0.0, strangers=(*before[::-1], *late.strangers)
    )


def _laptop(rng: Random, weather: Weather) -> Weather:
    """The lid is closed while requests are under way, and their rows come late."""
    # Among the POSTs; or within the first question for the time, and no other answer tells it better.
    is_alone = rng.random() < 0.6
    asleep = (
        rng.uniform(0.1, 0.6 if is_alone else 1.5),
        rng.choice((40.0, 300.0, 3000.0, 30_000.0)),
    )
    lives = tuple(
        replace(
            life,
            concurrency=1 if is_alone else 8,
            rpm=None,
            death=rng.choice((Death(), life.death, Death("point", 1, point="submit-answered"))),
            pause_s=rng.uniform(1.0, 40.0),
            jumps=(),
            sleeps=(asleep,) if number == 0 else life.sleeps,
            on_doubt="reconcile",
            limit=None,
            budget=None,
        )
        for number, life in enumerate(weather.lives)
    )
    slug, awake_at = weather.jobs[0][1], sum(asleep)
    return replace(
        weather,
        lives=lives,
        wire=Wire(lost=0.6 if is_alone else 0.4),
        history=History(late_s=0.95),
        doubt_wait_s=120.0,
        dated=True,
        # Requests of others are shown while ours are missing.
        strangers=tuple((awake_at + t * 4.0, slug, {"prompt": "other"}) for t in range(-10, 60)),
    )


def _away(rng: Random, weather: Weather) -> Weather:
    """Runs stop with jobs in flight, and go on by another clock; the history is down all the time."""
    models = {
        slug: replace(model, queue_s=(60.0, 300.0), work_s=(0.5, 1.0))
        for slug, model in weather.models.items()
    }
    lives = tuple(
        Life(
            concurrency=30,
            death=Death("stop", at_s=rng.uniform(3.0, 20.0)),
            pause_s=rng.uniform(1.0, 60.0),
            set_s=rng.choice((-1, 1)) * rng.choice((120.0, 3600.0, DAY_S)),
        )
        for _ in range(3)
    )
    return replace(
        weather,
        models=models,
        lives=lives,
        wire=Wire(refused=0.3, rpm=rng.choice((None, 20)), reset_form="relative"),
        history=History(down=((0.0, float("inf")),), mends=False),
        credit=None,
        closes=None,
        dated=rng.random() < 0.7,
    )


def _blind(rng: Random, weather: Weather) -> Weather:
    """The history answers and shows nothing at all for a while, and answers to submits are lost."""
    return replace(
        weather,
        lives=(Life(pause_s=10.0),),
        wire=Wire(lost=0.4),
        history=History(blind=((0.0, rng.uniform(200.0, 900.0)),)),
        doubt_wait_s=60.0,
        credit=None,
        closes=None,
        dated=True,
    )


THEMES = (
    _twins,
    _crowd,
    _late,
    _patience,
    _overdue,
    _busy,
    _denying,
    _set_forward,
    _set_anyhow,
    _laptop,
    _away,
    _blind,
)
