"""The bodies of answers about a job: its status, its result, its failure."""

from __future__ import annotations

import base64
import json
from typing import Any

from runner.sandbox import catalogue
from runner.sandbox.book import Accepted
from runner.sandbox.studio import MediaFile

EVIL_NAME = "../../../etc/passwd"

# The smallest whole PNG: one grey pixel.
_PIXEL_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


def file_names(record: Accepted) -> list[str]:
    """The last parts of the job's media URLs."""
    suffix, _ = catalogue.file_type(record.model, record.body)
    return [f"{n}.{suffix}" for n in range(catalogue.file_count(record.model, record.body))]


def file_urls(record: Accepted, origin: str) -> list[str]:
    """Where the job's files are."""
    host = "" if "output-relative" in record.markers else origin
    if "data-url" in record.markers:
        return ["data:image/png;base64," + base64.b64encode(_PIXEL_PNG).decode()]
    return [f"{host}/media/{record.token}/{name}" for name in file_names(record)]


def metrics(record: Accepted, now: float, balance: float) -> dict[str, float]:
    """The numbers that go with every answer about a job."""
    started_at = min(record.started_at, now)
    numbers = {"queue_time": round(started_at - record.time, 3)}
    if now >= record.finished_at:
        numbers["inference_time"] = round(record.finished_at - record.started_at, 3)
        numbers["total_time"] = round(record.finished_at - record.time, 3)
        numbers["cost"] = record.cost
        numbers["remaining_credits"] = balance
    return numbers


def result_body(
    record: Accepted, files: list[MediaFile], origin: str, numbers: dict[str, float]
) -> dict[str, Any]:
    """What `GET /v2/requests/{id}` tells of a completed job; its keys vary with the model."""
    body: dict[str, Any] = {"status": "COMPLETED", "request_id": record.request_id}
    urls = file_urls(record, origin)
    kind = catalogue.kind_of(record.model)
    parts = [
        {
            "url": url,
            "content_type": file.content_type,
            "file_name": EVIL_NAME if "evil-name" in record.markers else url.rpartition("/")[2],
            "file_size": len(file.content),
        }
        for url, file in zip(urls, files, strict=False)
    ]
    body["output"] = _output(record, urls)
    match kind:
        case "image":
            body["images"] = parts
            body["seed"] = record.body.get("seed", int(record.token[:8], 16))
            body["timings"] = {"inference": numbers.get("inference_time")}
        case "video":
            body["video"] = parts[0]
    if kind != "workflow" and "prompt" in record.body:
        body["prompt"] = record.body["prompt"]
    if "no-output" in record.markers:
        del body["output"]
    body["metrics"] = numbers
    return body


def failure_body(
    record: Accepted, numbers: dict[str, float], key: str | None = None
) -> dict[str, Any]:
    """What both routes tell of a FAILED job."""
    error = record.error or "Inference failed"
    if "fail-key-echo" in record.markers:
        error = f"{error}; headers: {{'x-api-key': '{key}'}}"
    return {
        "status": "FAILED",
        "request_id": record.request_id,
        "error": error,
        "metrics": numbers,
    }


def _output(record: Accepted, urls: list[str]) -> Any:
    match catalogue.kind_of(record.model):
        case "text":
            prompt = record.body.get("prompt") or "nothing"
            return f"A simulated answer ({record.occurrence + 1}) to: {prompt}"
        case "workflow":
            return json.dumps(
                [{"keyname": f"image_{n + 1}", "value": url} for n, url in enumerate(urls)]
            )
    if "output-string-json" in record.markers:
        return json.dumps(urls)
    if "output-list" in record.markers or len(urls) > 1:
        return urls
    return urls[0]
