"""What the answers to uploads mean, and which failures of a job may be those of a file's address."""

from __future__ import annotations

import re
from typing import Any

_URL = re.compile(r"https?://[\x21-\x7e]{1,2000}")
_OUT_OF_REACH = re.compile(
    r"\b(url|uri|link)\b|download|fetch|retriev|unreachable|not accessible|expired", re.IGNORECASE
)


def with_way_out(reason: str, state: str) -> str:
    """Why a job that sends files ended in `state`, with the next step where their address may be why."""
    if _OUT_OF_REACH.search(reason) is None:
        return reason
    return f"{reason} (`runner retry --state {state}` uploads its files anew)"


def uploaded_url(body: Any) -> str | None:
    """The address in the answer to an upload of one file: `file_urls` by the API's own client, `urls` by its
    pages."""
    urls = (body.get("file_urls") or body.get("urls")) if isinstance(body, dict) else None
    url = urls[0] if isinstance(urls, list) and len(urls) == 1 else None
    if not isinstance(url, str) or not _URL.fullmatch(url):
        return None
    return url
