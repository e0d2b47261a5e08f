"""A zero-latency server of the API: as little work as possible, so that it is never the bottleneck.

`python -m benchmarks.server` prints its origin and serves until its standard input ends. It speaks just
enough HTTP/1.1 for well-behaved clients with keep-alive; what faults look like, the sandbox knows.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
import sys
import time
import zlib
from collections import deque
from typing import ClassVar
from uuid import uuid4

from PIL import Image

PICTURE_PX = 128
_IEND = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def picture(picture_px: int) -> bytes:
    """A PNG without its last chunk: what is put between makes every file another one."""
    noise = Image.effect_noise((picture_px, picture_px), 24).convert("RGB")
    file = io.BytesIO()
    noise.save(file, "png", compress_level=1)
    return file.getvalue().removesuffix(_IEND)


class Http(asyncio.Protocol):
    """One connection."""

    origin = ""
    picture = b""
    posts: ClassVar[deque[float]] = deque(maxlen=10_000)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remembers where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answers every request that is whole by now."""
        self._buffer += data
        while True:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            body_bytes = 0
            if head.startswith(b"POST"):
                length = head.lower().partition(b"content-length:")[2]
                body_bytes = int(length.partition(b"\r\n")[0])
            if len(rest) < body_bytes:
                return
            self._buffer = rest[body_bytes:]
            method, path, _ = head.split(b" ", 2)
            self._answer(method, path.decode())

    def _answer(self, method: bytes, path: str) -> None:
        if path.startswith("/media/"):
            self._send(b"image/png", self._file(path))
            return
        self._send(b"application/json", json.dumps(self._body(method, path)).encode())

    def _body(self, method: bytes, path: str) -> object:
        base = f"{self.origin}/v2/requests"
        if path == "/posts":
            return list(self.posts)
        if method == b"POST":
            self.posts.append(time.time())
            made = str(uuid4())
            urls = {"status_url": f"{base}/{made}/status", "response_url": f"{base}/{made}"}
            return {"request_id": made, "status": "QUEUED", **urls}
        if path.startswith("/v2/requests/"):
            request_id = path.split("/")[3]
            metrics = {"inference_time": 0.1, "queue_time": 0.1, "total_time": 0.2, "cost": 0.04}
            body = {"status": "COMPLETED", "request_id": request_id, "metrics": metrics}
            if path.endswith("/status"):
                return body
            url = f"{self.origin}/media/{request_id}.png"
            image = {"url": url, "content_type": "image/png", "file_name": f"{request_id}.png"}
            return {**body, "output": url, "images": [image], "seed": 1, "prompt": "a fox"}
        return {"data": []}

    def _file(self, path: str) -> bytes:
        text = b"tEXt" + b"id\x00" + path.encode()
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        return self.picture + chunk + _IEND

    def _send(self, content_type: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (content_type, len(body)) + body)


async def _serve(picture_px: int) -> None:
    Http.picture = picture(picture_px)
    server = await asyncio.get_running_loop().create_server(Http, "127.0.0.1", 0, backlog=1024)
    Http.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(Http.origin, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else PICTURE_PX))
