"""Draws the simulated pictures: small landscapes whose colours and shapes follow from the request.

The same request gives the same bytes. A picture carries its prompt and a label, so that nobody
takes it for a paid one.
"""

from __future__ import annotations

import colorsys
import functools
import io
import itertools
import math
import unicodedata
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw, ImageFont

LABEL = "SIMULATED · runner sandbox"
_OVERSAMPLING = 2
_PROMPT_CHARS = 600

_PLAIN = str.maketrans(
    {"–": "-", "—": "-", "×": "x", "“": '"', "”": '"', "‘": "'", "’": "'", "ß": "ss", "ø": "o"}
)

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a picture depends on; `fingerprint` chooses its colours and shapes."""

    prompt: str
    note: str
    width: int
    height: int
    fingerprint: str
    suffix: str = "png"


@dataclass(frozen=True, slots=True)
class _Palette:
    sky_top: Colour
    sky_low: Colour
    sun: Colour
    far: Colour
    near: Colour


@dataclass(frozen=True, slots=True)
class _Stage:
    draw: ImageDraw.ImageDraw
    palette: _Palette
    rng: Random
    wide: int
    high: int
    sun: Point


# From the top of the sky to the nearest ground.
_PALETTES = (
    _Palette((38, 44, 92), (250, 164, 118), (255, 233, 186), (186, 112, 132), (40, 30, 62)),
    _Palette((74, 144, 196), (226, 240, 232), (255, 250, 224), (142, 186, 190), (24, 66, 74)),
    _Palette((18, 24, 58), (86, 96, 162), (236, 236, 250), (66, 78, 138), (14, 18, 42)),
    _Palette((244, 150, 112), (255, 224, 168), (255, 250, 230), (222, 142, 110), (92, 40, 56)),
    _Palette((92, 182, 178), (250, 236, 196), (255, 252, 236), (136, 186, 150), (28, 72, 62)),
    _Palette((112, 82, 158), (248, 184, 196), (255, 240, 222), (172, 122, 176), (48, 30, 78)),
    _Palette((26, 62, 84), (126, 196, 178), (240, 255, 236), (72, 140, 138), (12, 36, 50)),
    _Palette((224, 112, 116), (252, 206, 150), (255, 246, 214), (190, 102, 122), (58, 28, 62)),
    _Palette((108, 148, 210), (244, 214, 216), (255, 248, 238), (150, 150, 196), (46, 50, 96)),
    _Palette((228, 178, 96), (252, 238, 196), (255, 254, 240), (200, 152, 92), (84, 54, 38)),
)


def render(picture: Picture) -> bytes:
    """Draw a picture and return its file."""
    rng = Random(picture.fingerprint)
    palette = _shifted(rng.choice(_PALETTES), rng.uniform(-0.035, 0.035))
    wide, high = picture.width * _OVERSAMPLING, picture.height * _OVERSAMPLING
    canvas = _sky(palette, wide, high)
    sun = (rng.uniform(0.2, 0.8) * wide, rng.uniform(0.2, 0.42) * high)
    stage = _Stage(ImageDraw.Draw(canvas), palette, rng, wide, high, sun)
    _stars_and_sun(stage)
    scene = rng.choice((_hills, _hills, _peaks, _sea))
    scene(stage)
    image = canvas.reduce(_OVERSAMPLING)
    _write(image, picture)
    return _encoded(image, picture.suffix)


def _shifted(palette: _Palette, turn: float) -> _Palette:
    def shift(colour: Colour) -> Colour:
        hue, light, depth = colorsys.rgb_to_hls(*(part / 255 for part in colour))
        red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1, light, depth)
        return round(red * 255), round(green * 255), round(blue * 255)

    return _Palette(
        shift(palette.sky_top),
        shift(palette.sky_low),
        shift(palette.sun),
        shift(palette.far),
        shift(palette.near),
    )


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    return (
        int(first[0] + (second[0] - first[0]) * share),
        int(first[1] + (second[1] - first[1]) * share),
        int(first[2] + (second[2] - first[2]) * share),
    )


def _sky(palette: _Palette, wide: int, high: int) -> Image.Image:
    # Rows of one colour each: quick to draw, and they compress to almost nothing.
    rows = high // _OVERSAMPLING
    column = Image.new("RGB", (1, rows))
    horizon = rows * 0.72
    column.putdata(
        [_mix(palette.sky_top, palette.sky_low, min(y / horizon, 1.0)) for y in range(rows)]
    )
    return column.resize((wide, high), Image.Resampling.NEAREST)


def _stars_and_sun(stage: _Stage) -> None:
    draw, palette, rng = stage.draw, stage.palette, stage.rng
    wide, high = stage.wide, stage.high
    dark = sum(palette.sky_top) < 200
    for _ in range(70 if dark else 0):
        x, y, r = rng.random() * wide, rng.random() * high * 0.6, rng.uniform(0.8, 2.6)
        glow = _mix(palette.sky_top, palette.sun, rng.uniform(0.4, 0.95))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=glow)
    x, y = stage.sun
    radius = rng.uniform(0.06, 0.11) * min(wide, high) + 8
    around = _mix(palette.sky_top, palette.sky_low, min(y / (high * 0.72), 1.0))
    for ring in range(5, -1, -1):
        r = radius * (1 + ring * 0.36)
        fill = _mix(palette.sun, around, 0.55 + ring * 0.075) if ring else palette.sun
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _hills(stage: _Stage) -> None:
    draw, palette, rng = stage.draw, stage.palette, stage.rng
    wide, high = stage.wide, stage.high
    layers = rng.randint(4, 6)
    for layer in range(layers):
        depth = layer / (layers - 1)
        base = high * (0.46 + 0.36 * depth)
        waves = [
            (high * rng.uniform(0.02, 0.07) / order, order * rng.uniform(0.7, 1.5), rng.random())
            for order in (1, 2, 4)
        ]
        ridge = [
            (
                x,
                base
                + sum(
                    lift * math.sin(math.tau * (turns * x / wide + phase))
                    for lift, turns, phase in waves
                ),
            )
            for x in range(0, wide + 8, 8)
        ]
        draw.polygon([*ridge, (wide, high), (0, high)], fill=_mix(palette.far, palette.near, depth))


def _peaks(stage: _Stage) -> None:
    draw, palette, rng = stage.draw, stage.palette, stage.rng
    wide, high = stage.wide, stage.high
    for layer in range(4):
        depth = layer / 3
        line = _rough(rng, wide, high * (0.40 + 0.36 * depth), high * (0.20 - 0.07 * depth))
        draw.polygon([*line, (wide, high), (0, high)], fill=_mix(palette.far, palette.near, depth))


def _rough(rng: Random, wide: int, base: float, lift: float) -> list[Point]:
    """A jagged line from the left to the right, by halving its pieces again and again."""
    heights = [rng.uniform(-1, 1) for _ in range(4)]
    spread = 0.75
    while len(heights) < 160:
        between = [
            (a + b) / 2 + rng.uniform(-spread, spread) for a, b in itertools.pairwise(heights)
        ]
        joined = [value for pair in zip(heights, between, strict=False) for value in pair]
        heights = [*joined, heights[-1]]
        spread *= 0.5
    step = wide / (len(heights) - 1)
    return [(n * step, base + height * lift) for n, height in enumerate(heights)]


def _sea(stage: _Stage) -> None:
    draw, palette, rng = stage.draw, stage.palette, stage.rng
    wide, high = stage.wide, stage.high
    shore = int(high * rng.uniform(0.54, 0.62))
    island = _rough(rng, wide, shore - high * 0.015, high * 0.045)
    draw.polygon([*island, (wide, high), (0, high)], fill=_mix(palette.far, palette.near, 0.25))
    for y in range(shore, high):
        depth = (y - shore) / (high - shore)
        draw.line((0, y, wide, y), fill=_mix(palette.sky_low, palette.near, 0.25 + 0.75 * depth))
    for step in range(26):
        depth = (step / 26) ** 1.4
        y = shore + 4 + depth * (high - shore)
        half = wide * (0.03 + 0.12 * depth) * rng.uniform(0.4, 1.0)
        x = stage.sun[0] + rng.uniform(-0.03, 0.03) * wide
        fill = _mix(palette.sun, palette.near, 0.1 + 0.6 * depth)
        draw.rounded_rectangle((x - half, y, x + half, y + 2 + 5 * depth), 3, fill=fill)


def _write(image: Image.Image, picture: Picture) -> None:
    short = min(image.size)
    text_px, label_px = max(short // 17, 9), max(short // 30, 7)
    margin = max(short // 28, 3)
    font, small = _font(text_px), _font(label_px)
    band_top = image.height - label_px - 2 * max(label_px // 2, 2)
    left, right = 2 * margin, image.width - 2 * margin
    lines = _wrapped(_drawable(picture.prompt), font, right - left, 4)
    line_px = round(text_px * 1.3)
    panel_top = max(band_top - margin - line_px * len(lines) - margin, 0)
    _shade(image, panel_top if lines else None, band_top, margin)
    draw = ImageDraw.Draw(image)
    for n, line in enumerate(lines):
        y = panel_top + margin * 0.6 + n * line_px
        draw.text((left, y), line, (255, 255, 255), font)
    middle = (band_top + image.height) / 2
    draw.text((left, middle), LABEL, (255, 214, 102), small, anchor="lm")
    room_px = right - left - small.getlength(LABEL) - left
    note = _fitted(_drawable(picture.note), small, room_px)
    draw.text((right, middle), note, (200, 204, 216), small, anchor="rm")


def _shade(image: Image.Image, panel_top: int | None, band_top: int, margin: int) -> None:
    """Darken a panel for the prompt and a band for the label."""
    top = band_top if panel_top is None else panel_top
    shade = Image.new("L", (image.width, image.height - top), 0)
    draw = ImageDraw.Draw(shade)
    if panel_top is not None:
        panel = (margin, 0, image.width - margin, max(band_top - margin // 2 - top, 1))
        draw.rounded_rectangle(panel, margin, fill=118)
    draw.rectangle((0, band_top - top, image.width, image.height - top), fill=205)
    image.paste((10, 12, 20), (0, top), shade)


def _drawable(text: str) -> str:
    """The text in the letters that the bundled font has, which are those of ASCII."""
    plain = text[:_PROMPT_CHARS].translate(_PLAIN)
    return "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))


def _wrapped(text: str, font: Font, width_px: float, most: int) -> list[str]:
    words = text.split()
    lines: list[str] = []
    while words and len(lines) < most:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width_px:
            line = f"{line} {words.pop(0)}"
        lines.append(line)
    if words:
        lines[-1] += " …"
    return [_fitted(line, font, width_px) for line in lines]


def _fitted(text: str, font: Font, width_px: float) -> str:
    if font.getlength(text) <= width_px:
        return text
    text = text.rstrip(" …")
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text.rstrip() + "…" if text else ""


@functools.cache
def _font(size_px: int) -> Font:
    return ImageFont.load_default(size=size_px)


def _encoded(image: Image.Image, suffix: str) -> bytes:
    buffer = io.BytesIO()
    match suffix:
        case "jpg":
            image.save(buffer, "JPEG", quality=88)
        case "webp":
            image.save(buffer, "WEBP", quality=85, method=0)
        case _:
            image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
