"""What goes wrong in a night, drawn from its seed: plain values, so that a night can be told again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

RETENTION_S = 600.0
TIMEOUT_S = 15.0
FILE_LIFE_S = 7 * 86400.0
DAY_S = 86400.0
CRASH_POINTS = (
    "intent-committed",
    "submit-answered",
    "request-id-committed",
    "result-received",
    "result-committed",
    "file-checked",
    "file-renamed",
    "saved-committed",
)


@dataclass(frozen=True, slots=True)
class Model:
    """How a model works: seconds in the queue and at work, and shares of unlucky outcomes."""

    slug: str
    queue_s: tuple[float, float]
    work_s: tuple[float, float]
    failing: float
    blocking: float
    outputs: int
    cost: float


@dataclass(frozen=True, slots=True)
class Outage:
    """The API does not answer; `kind`: refuse, silence, 502 or 503."""

    start: float
    end: float
    kind: str


@dataclass(frozen=True, slots=True)
class Wire:
    """Shares of requests that meet a fault, and how the server's rate is told."""

    slow: float = 0.0
    lost: float = 0.0
    never_left: float = 0.0
    refused: float = 0.0
    gateway: float = 0.0
    garbage: float = 0.0
    get_errors: float = 0.0
    not_found: float = 0.0
    hesitant: float = 0.0
    media_errors: float = 0.0
    rpm: int | None = None
    sliding: bool = True
    gets_count: bool = True
    reset_form: str = "epoch"
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """How the request history behaves. `mends`: its troubles are over in the last calm run."""

    same_host: bool = False
    late_s: float = 0.0
    page: int = 100
    envelope: str = "data"
    body_form: str = "object"
    timeless: bool = False
    hides: float = 0.0
    down: tuple[tuple[float, float], ...] = ()
    blind: tuple[tuple[float, float], ...] = ()
    mends: bool = True

    @property
    def tells(self) -> bool:
        """Whether, sooner or later, it shows every request as it was."""
        return (
            self.mends and not self.hides and not self.timeless and self.body_form in PLAIN_BODIES
        )


PLAIN_BODIES = ("object", "text", "floats")


@dataclass(frozen=True, slots=True)
class Death:
    """How a life ends before its work does; `kind`: none, step, commit, point, drain or stop."""

    kind: str = "none"
    number: int = 0
    after: bool = False
    point: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Life:
    """One run of the command: its options, how it ends and how long nobody runs it again."""

    concurrency: int = 8
    rpm: int | None = None
    limit: int | None = None
    budget: float | None = None
    on_doubt: str = "reconcile"
    on_expired: str = "recover"
    wait_for_credits: bool = False
    death: Death = Death()
    pause_s: float = 1.0
    skew_s: float = 0.0
    retries: tuple[str, ...] = ()
    loses_files: bool = False


@dataclass(frozen=True, slots=True)
class Weather:
    """A whole night."""

    seed: int
    jobs: tuple[tuple[str, str, dict[str, Any]], ...]
    models: dict[str, Model]
    wire: Wire
    history: History
    lives: tuple[Life, ...]
    doubt_wait_s: float
    skew_s: float
    dated: bool
    credit: float | None
    refill_at: float
    closes: tuple[str, float] | None
    strangers: tuple[tuple[float, str, dict[str, Any]], ...]
    attempts: int = 4
    breaker: int = 10


def draw(seed: int) -> Weather:
    """The weather of a night."""
    rng = Random(seed)
    models = {slug: _model(rng, slug) for slug in ("imagen", "other")[: rng.choice((1, 1, 2))]}
    jobs = _jobs(rng, list(models))
    skew_s = _some(
        rng, 0.4, lambda: rng.choice((-1, 1)) * rng.choice((2.0, 20.0, 900.0, 9000.0)), 0.0
    )
    lives = tuple(
        _life(rng, sum(models[model].cost for _, model, _ in jobs))
        for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))
    )
    weather = Weather(
        seed=seed,
        jobs=jobs,
        models=models,
        wire=_wire(rng),
        history=_history(rng),
        lives=lives,
        doubt_wait_s=rng.choice((60.0, 120.0)),
        skew_s=skew_s,
        # Without the server's Date nobody could know how far apart the clocks are.
        dated=abs(skew_s) > 2.0 or rng.random() < 0.8,
        credit=_some(rng, 0.1, lambda: rng.uniform(0.0, 0.3), None),
        refill_at=rng.uniform(100.0, 2000.0),
        closes=_some(rng, 0.07, lambda: (rng.choice(list(models)), rng.uniform(0.0, 120.0)), None),
        strangers=_strangers(rng, jobs),
        breaker=rng.choice((0, 10)),
    )
    theme = rng.choice((None,) * 8 + (_twins, _crowd, _late, _patience, _overdue))
    return weather if theme is None else theme(rng, weather)


# Coincidences that would be rare, were they left to chance.


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
    budget = rng.choice((None, 0.5))
    life = replace(
        weather.lives[0], concurrency=30, rpm=6, limit=None, budget=budget, death=Death()
    )
    return replace(
        weather,
        jobs=jobs,
        lives=(replace(life, on_doubt="reconcile"),),
        models={slug: replace(weather.models[slug], queue_s=(0.1, 5.0)) for slug in weather.models},
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
        history=History(),
        credit=None,
        closes=None,
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


def _wire(rng: Random) -> Wire:
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
        media_errors=share(0.2, 0.4),
        rpm=_some(rng, 0.35, lambda: rng.choice((10, 20, 60)), None),
        sliding=rng.random() < 0.5,
        gets_count=rng.random() < 0.7,
        reset_form=rng.choice(("epoch", "ms", "iso", "http", "relative", "retry-after", "none")),
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
        point=rng.choice(CRASH_POINTS),
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
