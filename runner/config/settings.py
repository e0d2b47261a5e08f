"""Everything a run can be told: the keys, their defaults and what they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from runner.config.fields import Count, Dollars, Duration, FilePath, Key, Origin, listed, no_boolean
from runner.documents.json_schema import NOTHING, REFERENCE, or_else

KEY_VARIABLE = "SEGMIND_API_KEY"


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=False
    )


class ApiSettings(_Section):
    """Where the API is and how it is asked."""

    base_url: Origin = Field("https://api.segmind.com", description="Origin of the API.")
    history_url: Origin = Field(
        "https://api.spotprod.segmind.com", description="Origin of the request history."
    )
    upload_url: Origin = Field(
        "https://workflows-api.segmind.com", description="Origin that files are uploaded to."
    )
    inputs: Literal["upload", "inline"] = Field(
        "upload",
        description="How files are sent: uploaded once each, or inside of every request.",
    )
    key: Key = Field(None, description=f"The API key; by default taken from {KEY_VARIABLE}.")
    rpm: Count | None = Field(
        None, description="Requests per minute of the account; learned when it is absent."
    )
    poll: Literal["auto", "status", "result", "history"] = Field(
        "auto",
        description="How a job is asked for: its status and then its result, its result at once, or "
        "(auto) the result at once as soon as the API has shown that this works; or many at once by pages "
        "of the request history.",
    )
    timeout_s: Duration = Field(
        60.0, alias="timeout", description="How long one request may take in all."
    )


class RunSettings(_Section):
    """How a run goes about its work."""

    concurrency: Count | None = Field(
        None,
        description="Most jobs in flight at a time; as many as the rate and the retention bear when it is "
        "absent.",
    )
    submit_attempts: Count = Field(
        5, description="Answered refusals after which a job is given up."
    )
    download_attempts: Count = Field(5, description="Tries for one file within a run.")
    on_doubt: Literal["reconcile", "hold", "resubmit"] = Field(
        "reconcile", description="What becomes of a submit whose answer never came."
    )
    on_expired: Literal["recover", "hold", "resubmit"] = Field(
        "recover", description="What becomes of a job whose hour passed before it was collected."
    )
    budget: Dollars | None = Field(
        None, description="Most that one run may spend, all that is in flight counted."
    )
    prices: dict[str, Dollars] = Field(
        {}, description="What a job of a model costs, until the ledger knows it better."
    )
    breaker: Annotated[int, Field(ge=0), BeforeValidator(no_boolean)] = Field(
        10, description="Equal final errors in a row that stop a model; 0 never stops one."
    )
    doubt_wait_s: Duration = Field(
        600.0,
        alias="doubt_wait",
        description="How long a request that is missing in the history stays inconclusive.",
    )
    retention_s: Duration = Field(
        3600.0, alias="retention", description="How long the API keeps a result after its submit."
    )
    drain_s: Duration = Field(
        900.0, alias="drain", description="How long a stopped run waits for what is in flight."
    )
    gallery: bool = Field(
        True, description="Whether a run ends with a page that shows every result: gallery.html."
    )


Occasion = Literal["end", "pause", "stop", "idle"]


def _words_schema(item: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string"}
    return {"anyOf": [{"type": "array", "items": text | item}, text]}


class NotifySettings(_Section):
    """Who is told how a run fares."""

    urls: Annotated[
        tuple[SecretStr, ...], BeforeValidator(listed), WithJsonSchema(_words_schema({}))
    ] = Field((), description="Addresses in Apprise's form, like ntfy://my-topic or mailto://…")
    on: Annotated[
        tuple[Occasion, ...],
        BeforeValidator(listed),
        WithJsonSchema(_words_schema({"enum": list(get_args(Occasion))})),
    ] = Field(
        ("end", "pause", "stop"),
        description="When: at the end of a run, when it pauses, when it stops early with work left, "
        "and, only if it is named, when there was nothing to do.",
    )
    prompts: bool = Field(
        False, description="Whether the prompts and reasons of failed jobs may be told as well."
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"urls": value} if isinstance(value, list | str) else value


class OutputSettings(_Section):
    """Where results go, and what becomes of them there."""

    directory: FilePath = Field(Path("output"), description="The folder that results are saved in.")
    embed: bool = Field(
        False,
        description="Write prompt, model, parameters and request id into PNG, JPEG and WebP files.",
    )


def _directory_alone(value: object) -> object:
    return {"directory": value} if isinstance(value, str | Path) else value


class Settings(_Section):
    """Everything a run can be told, whole and checked."""

    api: ApiSettings = Field(ApiSettings.model_validate({}), description="The API.")
    run: RunSettings = Field(RunSettings.model_validate({}), description="The run.")
    notify: NotifySettings = Field(
        NotifySettings.model_validate({}),
        description="Who is told how a run fares: a list of Apprise addresses, or more about them.",
    )
    ledger: FilePath = Field(Path("runner.db"), description="The file that remembers every job.")
    output: Annotated[
        OutputSettings,
        BeforeValidator(_directory_alone, json_schema_input_type=FilePath | OutputSettings),
    ] = Field(
        OutputSettings.model_validate({}),
        description="The folder that results are saved in, or more about it.",
    )


SHORTHANDS = {"output": "output.directory"}
"""Sections that may be given as one value, and the key that it is for."""


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config file, from the definitions that reading uses."""
    schema = Settings.model_json_schema()
    notify = schema["properties"]["notify"]
    notify["anyOf"] = [{"$ref": notify.pop("$ref")}, *_words_schema({})["anyOf"]]
    for definition in (schema, *schema["$defs"].values()):
        for name, about in definition["properties"].items():
            is_section = "$ref" in str(about)
            others = (NOTHING,) if is_section else (NOTHING, REFERENCE)
            definition["properties"][name] = or_else(about, *others)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Config"}
