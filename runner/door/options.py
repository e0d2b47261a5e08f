"""What a program may ask for: the options of the command, by the same names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from pydantic import SecretStr

from runner.assembly.place import Place
from runner.assembly.session import Workplace, workplace
from runner.documents import did_you_mean
from runner.events import Event

ManifestLike = str | os.PathLike[str] | Mapping[str, Any]
"""A manifest's file, or a mapping with the keys that stand in one, `name` among them."""


class PlaceOptions(TypedDict, total=False):
    """Where to work: as -c, --ledger, --output and --sandbox."""

    config: str | os.PathLike[str]
    ledger: str | os.PathLike[str]
    output: str | os.PathLike[str]
    sandbox: bool


class PlanOptions(PlaceOptions, total=False):
    """What a plan depends on. `settings`: any others of a config, as {"run.retention": "1h"}."""

    budget: float
    rpm: int
    concurrency: int
    limit: int
    settings: Mapping[str, Any]


class RunOptions(PlanOptions, total=False):
    """What a run may be asked. `key`: instead of SEGMIND_API_KEY; `on_event` is told all that happens."""

    key: str | SecretStr
    on_doubt: Literal["reconcile", "hold", "resubmit"]
    on_expired: Literal["recover", "hold", "resubmit"]
    wait_for_credits: bool
    on_event: Callable[[Event], None]


_DOTTED = {
    "budget": "run.budget",
    "rpm": "api.rpm",
    "concurrency": "run.concurrency",
    "key": "api.key",
    "on_doubt": "run.on_doubt",
    "on_expired": "run.on_expired",
}


def checked(
    function: str, manifests: Sequence[ManifestLike], given: Mapping[str, Any], known: type
) -> None:
    """Raises TypeError for an option that there is not, and where no manifest is given."""
    names = known.__annotations__
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names)
            raise TypeError(f"{function}() got an unexpected keyword argument '{name}'{hint}")
    if not manifests:
        raise TypeError(f"{function}() needs a manifest: a file, or a mapping with its keys")


def place_of(options: PlaceOptions, *, reading: bool = False) -> Workplace:
    """The settings in force for these options. Raises InputError."""

    def path(name: Literal["config", "ledger", "output"]) -> Path | None:
        return Path(options[name]) if options.get(name) is not None else None

    place = Place(path("config"), path("ledger"), path("output"), options.get("sandbox", False))
    given: Mapping[str, Any] = options
    overrides = {dotted: given[name] for name, dotted in _DOTTED.items() if name in given}
    if isinstance(key := overrides.get("api.key"), SecretStr):
        overrides["api.key"] = key.get_secret_value()
    return workplace(place, {**given.get("settings", {}), **overrides}, reading=reading)


def source_of(manifest: ManifestLike) -> Path | Mapping[str, Any]:
    """A manifest as the reading of manifests takes it."""
    return manifest if isinstance(manifest, Mapping) else Path(manifest)
