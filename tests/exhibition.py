"""An output folder with something to see, and the ledger that tells of it: what galleries are tested on."""

from __future__ import annotations

import asyncio
import hashlib
import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw

from runner.job import Job, SavedFile, State
from runner.ledger import Event, Ledger, Planning, Source

BEGAN = 1_790_000_000.0
HOUR_S = 3600.0
TRAP = (
    "</script><script>document.title='taken'</script><img src=x onerror=alert(1)> "
    "\u2028 \"q\" 'a' \\ {{x}} ${Y}"
)
_SHAPES = {"1:1": (320, 320), "16:9": (480, 270), "3:4": (270, 360)}


@dataclass(frozen=True)
class Exhibit:
    """A job, how it ends and what it leaves on disk: name, bytes, content type."""

    job: Job
    state: State = State.SAVED
    files: tuple[tuple[str, bytes, str], ...] = ()
    error: str | None = None
    took_s: float = 5.0
    cost: float | None = 0.04


@cache
def picture(number: int, size: tuple[int, int] = (320, 320)) -> bytes:
    """A small picture that is like no other: dunes under a sun."""
    rng = Random(number)
    width, height = size
    image = Image.new("RGB", size, (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    draw = ImageDraw.Draw(image)
    x, y, r = rng.randrange(width), rng.randrange(height // 2), rng.randrange(16, 60)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 236, 200))
    for layer in range(3):
        ground = height * (5 + layer) // 9
        shade = tuple(rng.randrange(40, 200) for _ in range(3))
        edge = [(step, ground + rng.randrange(-14, 14)) for step in range(0, width + 40, 40)]
        draw.polygon([*edge, (width, height), (0, height)], fill=shade)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def sound() -> bytes:
    """A tenth of a second of silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 1, 8000, 800, "NONE", ""))
        file.writeframes(bytes([128]) * 800)
    return buffer.getvalue()


def job(number: int, prompt: str, **changes: Any) -> Job:
    """The `number`-th job of the manifest `night`."""
    made = Job(f"j{number}", "night", "imagen", {"prompt": prompt}, number)
    params = {"prompt": prompt, **changes.pop("params", {})}
    output = f"night/j{number}.{{ext}}"
    line = {"source": f"night.yaml:{number + 1}", "output": output}
    return replace(made, params=params, **{**line, **changes})


def a_night() -> list[Exhibit]:
    """Something of everything: crossed pictures, every way to fail, a trap, a sound, a text."""
    shown: list[Exhibit] = []
    for season in ("spring", "autumn"):
        for shape, size in _SHAPES.items():
            for animal in ("fox", "owl"):
                number = len(shown)
                made = job(
                    number,
                    f"a {animal} in {season} mist",
                    params={"aspect_ratio": shape, "seed": number},
                    meta={"season": season},
                    tags=(animal,),
                    source=f"night.yaml:{1 if animal == 'fox' else 2}",
                )
                state = (
                    State.BLOCKED if (season, shape, animal) == ("autumn", "3:4", "owl") else None
                )
                if state is not None:
                    shown.append(Exhibit(made, state, error="content filter"))
                    continue
                name = f"night/j{number}.jpg"
                data = ((name, picture(number, size), "image/jpeg"),)
                shown.append(Exhibit(made, files=data, cost=0.04 + number / 1000))
    at = len(shown)
    poem, video = b"The mist <b>lifts</b>.", b"\0\0\0\x18ftypmp42" + bytes(64)
    saved = (
        ("a café at noon", "flux", "odd #1 100%?.jpg", picture(90), "image/jpeg"),
        (TRAP, "imagen", "trap.jpg", picture(91), "image/jpeg"),
        ("a poem of mist", "claude", "poem.txt", poem, "text/plain"),
        ("a bell", "tts", "bell.wav", sound(), "audio/wav"),
        ("a wave", "veo", "wave.mp4", video, "video/mp4"),
        ("a lost one", "imagen", "gone.jpg", b"", "image/jpeg"),
    )
    shown += [
        Exhibit(job(at + n, prompt, model=model), files=((f"night/{name}", data, content_type),))
        for n, (prompt, model, name, data, content_type) in enumerate(saved)
    ]
    shown += [
        Exhibit(job(at + 6, "a broken one"), State.FAILED, error="the model ran out of memory"),
        Exhibit(
            job(at + 7, "another broken one"), State.FAILED, error="the model ran out of memory"
        ),
        Exhibit(job(at + 8, "a third broken one"), State.FAILED, error="<b>upstream</b> timed out"),
        Exhibit(job(at + 9, "a doubtful one"), State.IN_DOUBT, error="no answer came"),
        Exhibit(job(at + 10, "a waiting one", params={"aspect_ratio": "16:9"}), State.PENDING),
    ]
    return shown


def many(count: int) -> Iterator[Exhibit]:
    """That many pictures with parameters, tags and metadata; one in fifty has failed."""
    things = ("fox", "owl", "lighthouse", "orchard", "harbour", "glacier", "tram", "violin")
    lights = ("dawn", "noon", "dusk", "night")
    for number in range(count):
        thing, light = things[number % 8], lights[number // 8 % 4]
        made = job(
            number,
            f"a {thing} at {light}, number {number}, soft mist over the water, long exposure",
            params={"aspect_ratio": "1:1", "seed": number % 7},
            meta={"light": light, "thing": thing},
            tags=(thing,),
        )
        if number % 50 == 49:
            yield Exhibit(made, State.FAILED, error=f"upstream error {number % 3}")
            continue
        yield Exhibit(made, files=((f"night/j{number}.jpg", picture(number), "image/jpeg"),))


async def hang(folder: Path, exhibits: list[Exhibit], *, simulated: bool = False) -> Path:
    """Writes the files to `folder`/output and the ledger beside it; returns the ledger's path.

    A file without bytes is recorded but not written: it has vanished since.
    """
    output = folder / "output"
    path = folder / "runner.db"
    async with await Ledger.open(path, durable=False) as ledger:
        await ledger.remember("simulated", "yes" if simulated else "no")
        planning = Planning(ledger)
        await planning.begin()
        await planning.stage([exhibit.job for exhibit in exhibits])
        source = Source("night", folder / "night.yaml", "fingerprint", output.resolve())
        await planning.adopt([source], BEGAN)
        await planning.end()
        for start in range(0, len(exhibits), 500):
            part = list(enumerate(exhibits))[start : start + 500]
            await asyncio.gather(*(lead(ledger, output, each, number) for number, each in part))
    return path


async def lead(ledger: Ledger, output: Path, exhibit: Exhibit, number: int) -> None:
    """Leads a pending job to its end by the ledger's own verbs."""
    if exhibit.state is State.PENDING:
        return
    rows = await ledger.call(
        lambda database: database.execute(
            "SELECT job_key FROM jobs WHERE id = ?", (exhibit.job.id,)
        ).fetchall()
    )

    async def now() -> Any:
        record = await ledger.one(rows[0][0])
        assert record is not None
        return record

    at = BEGAN + number * 2.0
    assert await ledger.begin_submit(await now(), at, at + HOUR_S)
    if exhibit.state is State.IN_DOUBT:
        assert await ledger.doubt(await now(), Event(at, detail=exhibit.error))
        return
    assert await ledger.accept(await now(), f"r-{exhibit.job.id}", Event(at))
    ended = Event(at + exhibit.took_s, detail=exhibit.error)
    if exhibit.state is not State.SAVED:
        assert await ledger.end(await now(), exhibit.state, ended)
        return
    assert await ledger.complete(await now(), '{"output":"x"}', ended, exhibit.cost)
    saved = []
    for n, (name, data, content_type) in enumerate(exhibit.files):
        if data:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (output / name).write_bytes(data)
        sha256 = hashlib.sha256(data or name.encode()).hexdigest()
        saved.append(SavedFile(n, None, name, len(data), sha256, content_type))
    assert await ledger.save(await now(), saved, ended)
