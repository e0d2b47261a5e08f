"""The models that the sandbox pretends to have: what they accept and what they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["image", "video", "text", "workflow"]

_MISSING_MODELS: Mapping[str, tuple[int, str]] = {
    "no-such": (404, "Model {model} not found"),
    "retired-": (410, "Model {model} has been retired"),
    "forbidden-": (403, "Model {model} is not permitted for this account"),
}
_IMAGEN_VALUES: Mapping[str, tuple[str, ...]] = {
    "aspect_ratio": ("16:9", "1:1", "4:3", "3:4", "9:16"),
    "person_generation": ("ALLOW_ADULT", "DONT_ALLOW"),
    "safety_filter_level": (
        "BLOCK_LOW_AND_ABOVE",
        "BLOCK_MEDIUM_AND_ABOVE",
        "BLOCK_ONLY_HIGH",
    ),
}
_NEED_IMAGE = ("bg-removal", "background-removal")
_TEXT_SLUGS = ("llm", "gpt", "chat")
_MAX_FILES = 8
_LONGEST_RATIO = 4.0


def refuse_model(model: str) -> tuple[int, str] | None:
    """Why a model cannot be used: HTTP status and text."""
    for prefix, (status, text) in _MISSING_MODELS.items():
        if model.startswith(prefix):
            return status, text.format(model=model)
    return None


def refuse_params(model: str, params: Mapping[str, Any]) -> tuple[int, str] | None:
    """Why a body is refused; most models accept any."""
    if model.startswith(_NEED_IMAGE) and not isinstance(params.get("image"), str):
        return 400, "Missing required parameter: image"
    if model != "imagen":
        return None
    prompt = params.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        return 400, "Missing required parameter: prompt"
    for name, allowed in _IMAGEN_VALUES.items():
        if name in params and params[name] not in allowed:
            values = ", ".join(allowed)
            return 406, f"Invalid value for parameter '{name}': {params[name]!r}. Allowed: {values}"
    return None


def kind_of(model: str) -> Kind:
    """What a model makes, told from its slug."""
    if model.startswith("workflow"):
        return "workflow"
    if "video" in model:
        return "video"
    if any(part in model for part in _TEXT_SLUGS):
        return "text"
    return "image"


def file_count(model: str, params: Mapping[str, Any]) -> int:
    """How many files one job of a model gives."""
    kind = kind_of(model)
    if kind == "image":
        wanted = params.get("num_images", params.get("samples", 1))
        return min(max(wanted, 1), _MAX_FILES) if type(wanted) is int else 1
    return {"video": 1, "text": 0, "workflow": 2}[kind]


def file_type(model: str, params: Mapping[str, Any]) -> tuple[str, str]:
    """Suffix and content type of a job's files."""
    if kind_of(model) == "video":
        return "mp4", "video/mp4"
    match str(params.get("output_format", params.get("format", "png"))).lower():
        case "jpeg" | "jpg":
            return "jpg", "image/jpeg"
        case "webp":
            return "webp", "image/webp"
    return "png", "image/png"


def picture_size(model: str, params: Mapping[str, Any], long_side: int) -> tuple[int, int]:
    """Width and height of a picture in pixels, from the aspect ratio asked for."""
    default = "16:9" if model == "imagen" else "1:1"
    ratio = _ratio(*str(params.get("aspect_ratio", default)).split(":"))
    if ratio is None and "aspect_ratio" not in params:
        ratio = 1.0
    if "aspect_ratio" not in params and "width" in params and "height" in params:
        ratio = _ratio(params["width"], params["height"])
    ratio = min(max(ratio or 1.0, 1 / _LONGEST_RATIO), _LONGEST_RATIO)
    if ratio >= 1:
        return long_side, round(long_side / ratio)
    return round(long_side * ratio), long_side


def _ratio(*sides: Any) -> float | None:
    try:
        width, height = (float(side) for side in sides)
        return width / height if width > 0 and height > 0 else None
    except (TypeError, ValueError):
        return None
