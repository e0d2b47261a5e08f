"""How a transfer that broke off is continued, and when it has to begin anew. Source: RFC 9110, 13-14."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.IGNORECASE)


@dataclass(slots=True)
class Transfer:
    """A file on its way: how much of it is on disk, of how much, if that is known.

    `validator` names the version of the file that the beginning is of. Without one nobody can tell
    whether the rest belongs to it, and the transfer cannot be continued.
    """

    url: str
    total_bytes: int | None = None
    validator: str | None = None
    received_bytes: int = 0

    @property
    def can_go_on(self) -> bool:
        """Whether the rest may be asked for."""
        return self.validator is not None and self.received_bytes > 0

    def asking(self) -> dict[str, str]:
        """The headers that ask for the rest, or for the whole if the file is another one by now."""
        return {"Range": f"bytes={self.received_bytes}-", "If-Range": self.validator or ""}

    def is_continued_by(self, headers: Mapping[str, str]) -> bool:
        """Whether a 206 with these headers goes on exactly where the transfer broke off."""
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != self.received_bytes or is_encoded(headers):
            return False
        named = "ETag" if (self.validator or "").startswith('"') else "Last-Modified"
        if headers.get(named, self.validator) != self.validator:
            return False
        return found[3] == "*" or self.total_bytes in (None, int(found[3]))


def begun(url: str, headers: Mapping[str, str], length_bytes: int | None) -> Transfer:
    """The transfer that an answer with the whole file begins."""
    # Compressed on the way against our wish: its length says nothing about the file's.
    total = None if is_encoded(headers) else length_bytes
    return Transfer(url, total, validator_of(headers))


def validator_of(headers: Mapping[str, str]) -> str | None:
    """What `If-Range` may name: a strong entity tag, else the time of the last change."""
    if headers.get("Accept-Ranges", "").strip().lower() == "none" or is_encoded(headers):
        return None
    tag = headers.get("ETag", "").strip()
    if len(tag) > 2 and tag.startswith('"') and tag.endswith('"'):
        return tag
    return headers.get("Last-Modified", "").strip() or None


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the bytes on the way are not the bytes of the file."""
    return headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")
