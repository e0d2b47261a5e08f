"""The gallery as a server: the page from memory, the recorded files, and what changes as it changes."""

from __future__ import annotations

import contextlib
import mimetypes
import re
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import click
from aiohttp import web

from runner.cli.visitors import Visitors, is_loopback
from runner.errors import UsageError
from runner.ledger import Ledger
from runner.ledger.showing import Cursor, changed_keys, cursor, newest_keys, owners_of_path, pages
from runner.report.gallery import DATA, Scope, Snapshot, Thumbnails, render_page, take_snapshot
from runner.report.gallery.contents import encode_jobs, shown_manifests, totals
from runner.report.gallery.rows import encode

LOOK_S = 1.0
HEARTBEATS_LOOKS = 15
# A page that is further behind is better loaded anew.
MOST_CHANGES = 5_000
REBUILD_AFTER_MOVES = 500
_THUMBNAIL = re.compile(r"\.gallery/thumbs/[0-9a-f]{2}/[0-9a-f]{20}-\d+x\d+-[0-9a-f]{6}\.webp")
# Of a file that someone's model made, nothing may act as a page of this server.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_INERT = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}


class GalleryServer:
    """Answers requests for one gallery; reads the ledger that a run of another process writes."""

    def __init__(self, ledger: Ledger, scope: Scope, visitors: Visitors) -> None:
        self._ledger = ledger
        self._scope = scope
        self._visitors = visitors
        self._thumbnails = Thumbnails(scope.output)
        self._snapshot: Snapshot | None = None
        self._chunks: dict[str, bytes] = {}
        self._building = anyio.Lock()
        self.closing = anyio.Event()

    def application(self) -> web.Application:
        """The routes, each behind the check of who asks."""

        @web.middleware
        async def guard(request: web.Request, handler: web.Handler) -> web.StreamResponse:  # type: ignore[name-defined]
            self._visitors.check(request)
            response: web.StreamResponse = await handler(request)
            return response

        async def harden(_: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(_HEADERS)

        application = web.Application(middlewares=[guard])
        application.on_response_prepare.append(harden)
        application.router.add_get("/", self._page)
        application.router.add_get("/gallery.html", self._page)
        application.router.add_get("/events", self.events, allow_head=False)
        application.router.add_get(f"/{DATA.as_posix()}/{{name}}", self._data)
        application.router.add_get("/{path:.+}", self._file)
        return application

    async def make_thumbnails(self) -> None:
        """Makes what is missing in the background; until then pictures are shown as they are."""
        names = await shown_manifests(self._ledger, self._scope)
        keys = await newest_keys(self._ledger, names, self._scope.most)
        async for page in pages(self._ledger, keys):
            files = [file for job in page for file in job.files]
            if self._thumbnails.missing(files):
                await anyio.to_thread.run_sync(self._thumbnails.make, files, self.closing.is_set)
            if self.closing.is_set():
                return

    async def _page(self, request: web.Request) -> web.Response:
        snapshot = await self._current()
        live = {"attempt": snapshot.cursor.attempt, "job": snapshot.cursor.job}
        text = await anyio.to_thread.run_sync(render_page, {**snapshot.head, "live": live})
        headers = {"Cache-Control": "no-store"}
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)

    async def _current(self) -> Snapshot:
        """The last snapshot, or a new one where much has happened since."""
        async with self._building:
            now, last = await cursor(self._ledger), self._snapshot
            is_old = last is None or (
                now.job != last.cursor.job
                or now.attempt - last.cursor.attempt > REBUILD_AFTER_MOVES
            )
            if last is None or is_old:
                before = self._chunks if last is None else last.chunks
                # Thumbnails are made beside it: the page is not kept waiting.
                self._snapshot = await take_snapshot(
                    self._ledger, self._scope, self._thumbnails, enough=lambda: True
                )
                # Whoever has just loaded the page before may still ask for its data.
                self._chunks = {**before, **self._snapshot.chunks}
                return self._snapshot
            return last

    async def _data(self, request: web.Request) -> web.Response:
        data = self._chunks.get(request.match_info["name"])
        if data is None:
            raise web.HTTPNotFound(text="no such data; load the page anew")
        return web.Response(body=data, content_type="text/javascript", charset="utf-8")

    async def _file(self, request: web.Request) -> web.FileResponse:
        """A thumbnail or a file that the ledger has recorded; any other path is not found."""
        path = request.match_info["path"]
        if not _THUMBNAIL.fullmatch(path):
            names = await shown_manifests(self._ledger, self._scope)
            if not await owners_of_path(self._ledger, path) & set(names):
                raise web.HTTPNotFound(text="no such file")
        found = await anyio.to_thread.run_sync(self._inside, path)
        if found is None:
            raise web.HTTPNotFound(text="the file is gone")
        content_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        if content_type in ("text/html", "application/xhtml+xml"):
            content_type = "text/plain"
        headers = {**_INERT, "Content-Type": content_type, "Cache-Control": "no-cache"}
        return web.FileResponse(found, headers=headers)

    def _inside(self, path: str) -> Path | None:
        """The file, unless it is gone or a link leads out of the output folder."""
        output = self._scope.output.resolve()
        found = (output / path).resolve()
        return found if found.is_file() and found.is_relative_to(output) else None

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the rows of the jobs that changed, with the totals as they are now."""
        seen = _cursor_of(request)
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        # Whoever closes the page is gone in the middle of a word.
        with contextlib.suppress(ConnectionError):
            await self._follow(response, seen)
        return response

    async def _follow(self, response: web.StreamResponse, seen: Cursor) -> None:
        await response.write(b"retry: 2000\n\n")
        looks = 0
        while not self.closing.is_set():
            now = await cursor(self._ledger)
            if now != seen:
                async for event in self._changes(seen, now):
                    await response.write(event)
                seen = now
            elif looks % HEARTBEATS_LOOKS == 0:
                await response.write(b": still here\n\n")
            looks += 1
            with anyio.move_on_after(LOOK_S):
                await self.closing.wait()

    async def _changes(self, seen: Cursor, now: Cursor) -> AsyncIterator[bytes]:
        keys = await changed_keys(self._ledger, seen, now)
        if len(keys) > MOST_CHANGES:
            yield b"event: stale\ndata: \n\n"
            return
        names = await shown_manifests(self._ledger, self._scope)
        counted = encode(await totals(self._ledger, names))
        async for page in pages(self._ledger, keys, names):
            rows, _ = await anyio.to_thread.run_sync(
                encode_jobs, page, self._scope.output, self._thumbnails, self.closing.is_set
            )
            data = f'{{"rows":[{",".join(rows)}],"totals":{counted}}}'
            yield f"event: rows\ndata: {data}\n\n".encode()
        yield f"id: {now.attempt}.{now.job}\nevent: seen\ndata: \n\n".encode()


def _cursor_of(request: web.Request) -> Cursor:
    """How far a page has followed: as it was loaded, or before its connection broke."""
    last = re.fullmatch(r"(\d{1,18})\.(\d{1,18})", request.headers.get("Last-Event-ID", ""))
    if last:
        return Cursor(int(last[1]), int(last[2]))
    try:
        return Cursor(int(request.query.get("attempt", "0")), int(request.query.get("job", "0")))
    except ValueError:
        raise web.HTTPBadRequest(text="attempt and job are numbers") from None


async def serve(ledger: Ledger, scope: Scope, host: str, port: int, *, show: bool) -> None:
    """Serves the gallery until a signal comes. Raises UsageError where the address cannot be had."""
    listening = await _listen(host, port)
    port = listening[0].getsockname()[1]
    visitors = Visitors(host, port, None if is_loopback(host) else secrets.token_urlsafe(24))
    server = GalleryServer(ledger, scope, visitors)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        for each in listening:
            await web.SockSite(runner, each).start()
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            address = _address(visitors)
            click.echo(f"the gallery is at {address}; Ctrl-C ends it")
            if show:
                click.launch(address)
            async with anyio.create_task_group() as group:
                group.start_soon(server.make_thumbnails)
                async for _ in received:
                    server.closing.set()
                    break
    finally:
        server.closing.set()
        await runner.cleanup()


async def _listen(host: str, port: int) -> list[socket.socket]:
    try:
        found = await anyio.to_thread.run_sync(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        )
        return [socket.create_server(found[0][4][:2], family=found[0][0])]
    except OSError as error:
        raise UsageError(
            f"cannot serve on {host}:{port}: {error.strerror or error}; choose another with --port"
        ) from error


def _address(visitors: Visitors) -> str:
    host = visitors.host
    if host in ("0.0.0.0", "::", ""):  # noqa: S104  no address to go to, but every one of this machine
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    token = f"?token={visitors.token}" if visitors.token else ""
    return f"http://{shown}:{visitors.port}/{token}"
