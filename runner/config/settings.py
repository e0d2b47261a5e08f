"""Everything a run can be told: the keys, their defaults and what they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from runner.config.fields import Count, Dollars, Duration, FilePath, Key, Origin, no_boolean

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
    key: Key = Field(None, description=f"The API key; by default taken from {KEY_VARIABLE}.")
    rpm: Count | None = Field(
        None, description="Requests per minute of the account; learned when it is absent."
    )
    poll: Literal["auto", "status", "result"] = Field(
        "auto",
        description="How a job is asked for: its status and then its result, its result at once, or "
        "(auto) the result at once as soon as the API has shown that this works.",
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
    breaker: Annotated[int, BeforeValidator(no_boolean), Field(ge=0)] = Field(
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


class Settings(_Section):
    """Everything a run can be told, whole and checked."""

    api: ApiSettings = Field(ApiSettings.model_validate({}), description="The API.")
    run: RunSettings = Field(RunSettings.model_validate({}), description="The run.")
    ledger: FilePath = Field(Path("runner.db"), description="The file that remembers every job.")
    output: FilePath = Field(Path("output"), description="The folder that results are saved in.")


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config file, from the definitions that reading uses."""
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Config"}
