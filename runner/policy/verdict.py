"""What an answer, or the lack of one, means: for the job, for its model, for the run.

Source: the status-code table of the API's facts page; where it leaves a choice, the reading that can
never pay twice and never lose a result.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from runner.job import Answer, Fault


class Meaning(StrEnum):
    """What one answer says."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    BLOCKED = "blocked by the content filter"
    INVALID = "parameters refused"
    NOT_FOUND = "not found"
    IN_DOUBT = "in doubt"
    REFUSED = "refused for now"
    NEVER_LEFT = "never left"
    UNREADABLE = "no usable answer"
    RATE_LIMITED = "rate limited"
    MODEL_CLOSED = "model not available"
    OUT_OF_CREDITS = "out of credits"
    KEY_REFUSED = "key refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A meaning with its reason in words; `request_id` and `cost` (US dollars) where told."""

    meaning: Meaning
    reason: str = ""
    request_id: str | None = None
    cost: float | None = None


_CREDITS = re.compile(
    r"insufficient[\s_-]+(\w+\s+){0,2}(credit|balance|fund)"
    r"|(out\s+of|(not|n['’]t)\s+(have\s+)?enough|no)\s+(\w+\s+)?credits?\b"
    r"|(credits?|balance|funds)\s+(\w+\s+){0,2}(insufficient|exhausted|used\s+up|run\s+out|too\s+low)"
    r"|spend(ing)?[\s_-]+(limit|cap)|(team|credit)\s+(\w+\s+)?limit"
    r"|(usage|monthly|daily|team)\s+(\w+\s+)?(budget|quota)",
    re.IGNORECASE,
)
_CONTENT_TYPE = re.compile(r"invalid\s+content[\s-]*type", re.IGNORECASE)
# A parameter's name is no block: `safety_filter_level` may be refused like any other.
_BLOCK = re.compile(
    r"\bRAI\b|rai_?filter|responsible\s+ai|safety(?!_)|unsafe|content[\s_-]+(filter|polic|moderat|violat)"
    r"|moderation|nsfw|prohibited|inappropriate|(?<!case[\s-])sensitive|\bblocked\b|\bfiltered\b"
    r"|usage\s+(polic|guideline)",
    re.IGNORECASE,
)


def judge_submit(answer: Answer) -> Verdict:
    """What the answer to a POST means. Never says that it may be sent again where it may be paid."""
    if answer.fault is Fault.NEVER_LEFT:
        return Verdict(Meaning.NEVER_LEFT, answer.text)
    status = answer.status
    if answer.fault is Fault.NO_ANSWER or status is None:
        return Verdict(Meaning.IN_DOUBT, answer.text or "no answer came")
    if 200 <= status < 300:
        request_id = _field(answer.body, "request_id")
        if isinstance(request_id, str) and request_id.strip():
            return Verdict(Meaning.ACCEPTED, request_id=request_id.strip())
        return Verdict(Meaning.IN_DOUBT, f"HTTP {status} without a request id")
    reason = describe(answer)
    # An error page of a proxy says nothing about what happened behind it; the API's own JSON does.
    names_a_request = bool(_field(answer.body, "request_id"))
    if status in (500, 503) and _is_api_error(answer.body) and not names_a_request:
        return Verdict(Meaning.REFUSED, reason)
    if status >= 500 or status == 408:
        return Verdict(Meaning.IN_DOUBT, reason)
    if status == 406:
        return Verdict(_meaning_of_406(reason), reason)
    return Verdict(_SUBMIT_MEANINGS.get(status, Meaning.FAILED), reason)


_SUBMIT_MEANINGS = {
    400: Meaning.INVALID,
    401: Meaning.KEY_REFUSED,
    402: Meaning.OUT_OF_CREDITS,
    403: Meaning.MODEL_CLOSED,
    404: Meaning.MODEL_CLOSED,
    410: Meaning.MODEL_CLOSED,
    413: Meaning.INVALID,
    422: Meaning.INVALID,
    429: Meaning.RATE_LIMITED,
}


def judge_poll(answer: Answer) -> Verdict:
    """What the answer to a GET of status or result means.

    A body that announces a terminal state is valid whatever the HTTP code; any other state, known or
    not, is still running.
    """
    if answer.fault is Fault.NEVER_LEFT:
        return Verdict(Meaning.NEVER_LEFT, answer.text)
    state = _field(answer.body, "status")
    state = state.upper() if isinstance(state, str) else None
    if state == "COMPLETED":
        return Verdict(Meaning.COMPLETED, cost=cost_of(answer.body))
    if state == "FAILED":
        reason = error_text(answer.body) or "the API reports FAILED without a reason"
        return Verdict(judge_failure(reason), reason)
    status = answer.status
    if status is None:
        return Verdict(Meaning.UNREADABLE, answer.text or "no answer came")
    if 200 <= status < 300:
        if isinstance(answer.body, dict) and answer.body.get("output") and state is None:
            return Verdict(Meaning.COMPLETED, cost=cost_of(answer.body))
        if state is None:
            return Verdict(Meaning.UNREADABLE, describe(answer))
        return Verdict(Meaning.RUNNING, state)
    meanings = {
        401: Meaning.KEY_REFUSED,
        404: Meaning.NOT_FOUND,
        410: Meaning.NOT_FOUND,
        429: Meaning.RATE_LIMITED,
    }
    return Verdict(meanings.get(status, Meaning.UNREADABLE), describe(answer))


def judge_failure(reason: str) -> Meaning:
    """Whether a FAILED is one of the content filter: only its text tells."""
    return Meaning.BLOCKED if _BLOCK.search(reason) else Meaning.FAILED


def describe(answer: Answer) -> str:
    """One line of what came back: the HTTP status and the API's own words."""
    words = error_text(answer.body) or answer.text
    status = f"HTTP {answer.status}" if answer.status is not None else ""
    return ": ".join(part for part in (status, " ".join(words.split())) if part)


def error_text(body: Any) -> str:
    """The API's own words in an error body, or an empty text."""
    if not isinstance(body, dict):
        return ""
    for name in ("error_description", "error", "message", "detail"):
        value = body.get(name)
        if isinstance(value, dict):
            value = value.get("message") or value
        if isinstance(value, dict | list) and value:
            value = json.dumps(value, ensure_ascii=False)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def cost_of(body: Any) -> float | None:
    """What the job cost in US dollars, where its metrics say so."""
    return _amount(_field(_field(body, "metrics"), "cost"))


def seconds_of(body: Any) -> float | None:
    """How long the job took from its submit to its end, where its metrics say so."""
    metrics = _field(body, "metrics")
    parts = [_amount(_field(metrics, name)) for name in ("queue_time", "inference_time")]
    whole = [seconds for seconds in parts if seconds is not None]
    return _amount(_field(metrics, "total_time")) or (sum(whole) if len(whole) == 2 else None)


def _amount(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Integers may be too large for a float, and a number may be none.
    return float(value) if 0 <= value <= sys.float_info.max else None


def _meaning_of_406(text: str) -> Meaning:
    if _CREDITS.search(text):
        return Meaning.OUT_OF_CREDITS
    # The runner always sends JSON: this is a fault on the way, not of the job's parameters.
    return Meaning.FAILED if _CONTENT_TYPE.search(text) else Meaning.INVALID


def _is_api_error(body: Any) -> bool:
    return isinstance(body, dict) and bool(error_text(body))


def _field(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None
