"""What was uploaded: on disk while the sandbox lives, for a run may upload more than memory takes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")


@dataclass(frozen=True, slots=True)
class Medium:
    """A file as it came in a data URL."""

    content: bytes
    content_type: str

    @property
    def digest(self) -> str:
        """The sha256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


def medium_of(text: object) -> Medium | None:
    """The file in a data URL, or None if it is none."""
    head = _DATA_URL.match(text) if isinstance(text, str) else None
    if head is None or not isinstance(text, str):
        return None
    try:
        content = base64.b64decode(text[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        return None
    return Medium(content, head[1]) if content else None


class Vault:
    """Keeps uploaded files behind addresses that nobody can guess."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._held: dict[str, tuple[str, str]] = {}
        self.uploads: Counter[str] = Counter()

    def put(self, medium: Medium) -> str:
        """Keeps a file; returns the token of its new address."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="runner-sandbox-")
        digest = medium.digest
        path = Path(self._folder.name) / digest
        if not path.exists():
            path.write_bytes(medium.content)
        token = hashlib.sha256(f"upload {len(self._held)} of {digest}".encode()).hexdigest()[:40]
        self._held[token] = (digest, medium.content_type)
        return token

    def get(self, token: str) -> Medium | None:
        """The file at an address, or None."""
        if token not in self._held or self._folder is None:
            return None
        digest, content_type = self._held[token]
        return Medium((Path(self._folder.name) / digest).read_bytes(), content_type)

    def __contains__(self, token: object) -> bool:
        return token in self._held

    def close(self) -> None:
        """Throws everything away."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
