"""The words of every report: text from outside made harmless, money and time as people write them."""

from __future__ import annotations

import math
import re
import unicodedata

# Longer text from outside is never shown whole, so it is not cleaned whole either.
LONGEST_TEXT = 2_000

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x9d]).*?(?:\x1b\\|\x07|\x9c|$)"
    r"|\x1b[ -/]*[0-~]",
    re.DOTALL,
)


def printable(text: str) -> str:
    """Text from outside as one line that cannot steer a terminal."""
    text = _ESCAPES.sub("", text[:LONGEST_TEXT])
    return " ".join("".join(map(_harmless, text)).split())


def _harmless(character: str) -> str:
    match unicodedata.category(character):
        case "Cc" | "Zl" | "Zp":
            return " "
        case "Cf":  # invisible, or turns the direction of writing
            return ""
        case "Cs":  # half a character, which no encoding can write
            return "\ufffd"
        case _:
            return character


def dollars(amount: float) -> str:
    """Money as people write it; four decimals only where cents cannot say it."""
    whole_cents = amount >= 1 or math.isclose(amount, round(amount, 2), abs_tol=5e-5)
    return f"${amount:,.2f}" if whole_cents else f"${amount:,.4f}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    minutes, rest_s = divmod(total, 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02} s" if rest_s else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def roughly(seconds: float) -> str:
    """A forecast, no more exact than it can be."""
    if seconds < 90:
        return duration(max(5, math.ceil(seconds / 5) * 5))
    step_s = 60 if seconds < 7_200 else 300
    return duration(round(seconds / step_s) * step_s)


def size(count_bytes: float) -> str:
    """An amount of data, in the unit that people would name."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count_bytes < 999.5:
            return (
                f"{count_bytes:.0f} {unit}"
                if count_bytes >= 9.95 or unit == "bytes"
                else f"{count_bytes:.1f} {unit}"
            )
        count_bytes /= 1000
    return f"{count_bytes:,.1f} TB"
