"""The request history as this night's server shows it: late, in pages, with or without what matters."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from runner.api import HistoryQuery
from runner.job import Answer

from .server import EPOCH, Request, Server


class Archive:
    """What the history says of the server's requests."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def history(self, query: HistoryQuery) -> Answer:
        """A GET of a page of the history arrives."""
        if (troubled := self._trouble()) is not None:
            return troubled
        rows = self._rows(lambda request: query.model in (None, request.model))
        lowest, highest = query.from_date, query.to_date + "T99"
        rows = [row for row in rows if lowest <= row[1]["model_created"] <= highest]
        size = min(query.per_page, self._server.weather.history.page)
        shown = [self._shaped(row) for _, row in rows[(query.page - 1) * size : query.page * size]]
        if self._within(self._server.weather.history.blind):
            shown = []
        name = self._server.weather.history.envelope
        return self._server.answer(200, {name: shown, "page": query.page} if name else shown)

    def history_of(self, request_id: str) -> Answer:
        """A GET of one request's row arrives."""
        if (troubled := self._trouble()) is not None:
            return troubled
        rows = self._rows(lambda request: request.id == request_id)
        if not rows or self._within(self._server.weather.history.blind):
            return self._server.answer(404, {"error": "not found"})
        return self._server.answer(200, self._shaped(rows[0][1]))

    def _within(self, windows: tuple[tuple[float, float], ...]) -> bool:
        if self._server.calm and self._server.weather.history.mends:
            return False
        return any(start <= self._server.now < end for start, end in windows)

    def _trouble(self) -> Answer | None:
        if self._within(self._server.weather.history.down):
            return self._server.answer(503, {"error": "the history is down"})
        return self._server.limited(is_get=True) if self._server.weather.history.same_host else None

    def _rows(self, wanted: Callable[[Request], bool]) -> list[tuple[Request, dict[str, Any]]]:
        rows = []
        for request in sorted(
            self._server.requests.values(), key=lambda r: r.accepted_at, reverse=True
        ):
            if not wanted(request) or self._server.now < request.row_at or request.hidden:
                continue
            state = request.state_at(self._server.now)
            urls = request.urls if state == "COMPLETED" else [None]
            rows += [(request, self._row(request, state, url)) for url in urls]
        return rows

    def _row(self, request: Request, state: str, url: str | None) -> dict[str, Any]:
        created = datetime.fromtimestamp(EPOCH + request.accepted_at, UTC)
        return {
            "request_id": request.id,
            "model_name": request.model,
            "model_status": state if state in ("COMPLETED", "FAILED") else "PENDING",
            "credits_deduction": request.cost if state == "COMPLETED" else 0,
            "request_body": request.body,
            "generation_url": url,
            "model_created": created.isoformat(timespec="milliseconds"),
            "error": request.error if state == "FAILED" else None,
        }

    def _shaped(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as this night's server writes it."""
        history, body = self._server.weather.history, row["request_body"]
        shaped = {
            "text": json.dumps(body),
            "floats": {k: float(v) if isinstance(v, int) else v for k, v in body.items()},
            "defaults": {**body, "safety_filter_level": "BLOCK_ONLY_HIGH"},
            "none": None,
        }.get(history.body_form, body)
        row = {**row, "request_body": shaped}
        if history.timeless:
            del row["model_created"]
        return row
