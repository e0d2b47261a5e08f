"""What a manifest may say: the one definition that reading and the JSON Schema share."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.functional_validators import AfterValidator

from runner.documents import did_you_mean, kind_of, scalar_of
from runner.manifest.identity import canonical_json

MOST_REPEATS = 100_000
_MOST_NAME_BYTES = 100
_NAME = re.compile(r"\w[\w.-]*( +[\w.-]+)*")
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
ROW_TARGETS = ("prompt", "id", "tags", "repeat")
PARAMETER_TARGETS = ("params.", "file.")

Scalar = str | int | float | bool


def name_fault(value: str) -> str | None:
    """What keeps a text from being a manifest's name, or None."""
    if _NAME.fullmatch(value) and value[-1] != "." and len(value.encode()) <= _MOST_NAME_BYTES:
        return None
    return (
        f"`{value}` cannot be part of a file name: it takes letters, digits, spaces and `._-`,"
        f" begins with a letter or digit, and has at most {_MOST_NAME_BYTES} bytes"
    )


def _name(value: str) -> str:
    if fault := name_fault(value):
        raise ValueError(fault)
    return value


def _model(value: str) -> str:
    if not _MODEL.fullmatch(value):
        raise ValueError(f"`{value}` is no model slug: it takes letters, digits and `._-`")
    return value


def _json_only(params: dict[str, Any]) -> dict[str, Any]:
    try:
        canonical_json(params)
    except (ValueError, TypeError):
        raise ValueError("holds a value that JSON has no way to write, like `.nan`") from None
    return params


def tags_of(value: object) -> tuple[str, ...]:
    """Tags from a list, or from one text that separates them by commas; ValueError otherwise."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError(f"must be a list of tags, not {kind_of(value)}")
    if any(item is None or isinstance(item, list | dict) for item in items):
        raise ValueError("every tag must be a text")
    stripped = (str(item).strip() for item in items)
    return tuple(dict.fromkeys(tag for tag in stripped if tag))


def repeat_of(value: object) -> int:
    """A number of repeats, also from a cell's text; ValueError otherwise."""
    number = scalar_of(value) if isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"must be a whole number, not {_quoted(value)}")
    if not 1 <= number <= MOST_REPEATS:
        raise ValueError(f"must be from 1 to {MOST_REPEATS:,}, not {number}")
    return number


def _quoted(value: object) -> str:
    return f"`{value}`" if isinstance(value, str) else kind_of(value)


def _axes(value: object, *, scalars: bool) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping from names to lists of values, not {kind_of(value)}")
    axes = {}
    for name, given in value.items():
        values = tuple(given) if isinstance(given, list) else (given,)
        if not values or given is None:
            raise ValueError(f"`{name}` has no values")
        if scalars and not all(isinstance(item, Scalar) for item in values):
            raise ValueError(f"`{name}` takes texts and numbers only")
        axes[name] = values
    _json_only(axes)
    return axes


def _columns(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping from columns to what they are, not {kind_of(value)}")
    for target in value.values():
        if target not in ROW_TARGETS and parameter_of(target) is None:
            near = did_you_mean(str(target), (*ROW_TARGETS, *PARAMETER_TARGETS))
            near = re.sub(r"\.`", ".<name>`", near)
            raise ValueError(
                f"`{target}` is nothing a column can be{near};"
                " there are prompt, id, tags, repeat, params.<name> and file.<name>"
            )
    targets = [target for target in value.values() if target != "tags"]
    written = [parameter_of(target) or target for target in targets]
    for target, name in zip(targets, written, strict=True):
        if written.count(name) > 1:
            raise ValueError(f"two columns cannot both be `{target}`")
    return value


def parameter_of(target: object) -> str | None:
    """The parameter that a column is when it is `params.<name>` or `file.<name>`, else None."""
    for prefix in PARAMETER_TARGETS:
        if isinstance(target, str) and target.startswith(prefix) and target != prefix:
            return target.removeprefix(prefix)
    return None


_SCALAR = {"type": ["string", "number", "boolean"]}
# As `name_fault` has it, in the words of every editor's regular expressions.
_NAME_PATTERN = r"^(?!.*\.$)[^\x00-/:-@\[-\^`{-\x7f]( *[^\x00-,/:-@\[-\^`{-\x7f])*$"


def _axes_schema(item: dict[str, Any]) -> dict[str, Any]:
    values = {"oneOf": [{"type": "array", "minItems": 1, "items": item}, _SCALAR]}
    return {"type": "object", "additionalProperties": values}


Name = Annotated[
    str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": _NAME_PATTERN})
]
Slug = Annotated[
    str,
    AfterValidator(_model),
    WithJsonSchema({"type": "string", "pattern": f"^{_MODEL.pattern}$"}),
]
Params = Annotated[dict[str, Any], AfterValidator(_json_only)]
Repeat = Annotated[
    int,
    BeforeValidator(repeat_of),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_REPEATS}),
]
Tags = Annotated[
    tuple[str, ...],
    BeforeValidator(tags_of),
    WithJsonSchema(
        {"oneOf": [{"type": "array", "items": {"type": ["string", "number"]}}, {"type": "string"}]}
    ),
]
Vars = Annotated[
    dict[str, tuple[Scalar, ...]],
    BeforeValidator(lambda value: _axes(value, scalars=True)),
    WithJsonSchema(_axes_schema(_SCALAR)),
]
Matrix = Annotated[
    dict[str, tuple[Any, ...]],
    BeforeValidator(lambda value: _axes(value, scalars=False)),
    WithJsonSchema(_axes_schema({})),
]
Columns = Annotated[
    dict[str, str],
    BeforeValidator(_columns),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "type": "string",
                "pattern": r"^(prompt|id|tags|repeat|params\..+|file\..+)$",
            },
        }
    ),
]


class Definition(BaseModel):
    """What definitions have in common: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Entry(Definition):
    """One wanted picture, or a file of them."""

    prompt: str | None = Field(
        None, description="The prompt; `{{name}}` is filled from `vars` and the file's columns."
    )
    id: str | None = Field(
        None, description="A stable name for the job; without one its content names it."
    )
    tags: Tags = Field((), description="Tags of these jobs, beside those of the manifest.")
    model: Slug | None = Field(None, description="Another model than the manifest's.")
    params: Params = Field(
        default_factory=dict,
        description="API parameters; they win over the manifest's. `{file: photo.jpg}` sends a file,"
        " `{file: photos/*.jpg}` makes a job of each that matches.",
    )
    repeat: Repeat | None = Field(
        None, description="How many results of the same request are wanted."
    )
    file: str | None = Field(
        None,
        min_length=1,
        description="A .txt (a prompt a line), .csv, .tsv or .jsonl file of prompts; or a picture, video or"
        " audio to send, also a pattern like photos/*.jpg. Relative to the manifest's folder; `${NAME}` is"
        " taken from the environment.",
    )
    columns: Columns = Field(
        default_factory=dict,
        description="What columns of the file are: prompt, id, tags, repeat, params.<name>, or"
        " file.<name> for the path of a file to send.",
    )


class Header(Definition):
    """A batch of jobs for Segmind's async API."""

    name: Name | None = Field(
        None, description="The manifest's name, part of every job's identity; default: the file's."
    )
    model: Slug | None = Field(None, description="The slug of the model, for instance imagen.")
    params: Params = Field(
        default_factory=dict,
        description="API parameters for every job; `{file: photo.jpg}` sends a file.",
    )
    vars: Vars = Field(
        default_factory=dict,
        description="Values for `{{name}}`; a job is crossed over those that it refers to.",
    )
    matrix: Matrix = Field(
        default_factory=dict, description="API parameters whose values are crossed for every job."
    )
    repeat: Repeat = Field(1, description="How many results of each request are wanted.")
    tags: Tags = Field((), description="Tags of every job.")
    prompts: tuple[str | Entry, ...] = Field(
        description="What is wanted: prompts, or mappings that say more about them."
    )
    output: str = Field(
        "{name}/{id}.{ext}",
        min_length=1,
        description="File names in the output directory, a Python format string over name, id,"
        " model, index, repeat, n, tag, ext, any parameter, column or var.",
    )
