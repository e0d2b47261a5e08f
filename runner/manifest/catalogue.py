"""Known models: which parameters they take and which values, from `models.yaml`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runner.documents import YamlFile, did_you_mean, kind_of
from runner.manifest.template import plain_text

_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "whole number": (int,),
    "number": (int, float),
    "true/false": (bool,),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one parameter of a known model takes; `default` is what the API takes if it is absent."""

    type: str = "text"
    values: tuple[Any, ...] = ()
    required: bool = False
    default: Any = None

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if self.values:
            same = (type(value) is type(allowed) and value == allowed for allowed in self.values)
            return None if any(same) else self._refusal(value)
        fits = isinstance(value, _TYPES[self.type])
        if not fits or (isinstance(value, bool) and self.type != "true/false"):
            return f"must be a {self.type}, not {kind_of(value)}"
        if self.required and isinstance(value, str) and not value.strip():
            return "is empty"
        return None

    def _refusal(self, value: Any) -> str:
        allowed = ", ".join(f"`{value}`" for value in self.values)
        near = did_you_mean(plain_text(value), map(str, self.values))
        return f"is `{_shown(value)}`; allowed: {allowed}{near}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@cache
def known_models() -> Mapping[str, Mapping[str, Parameter]]:
    """Every known model's parameters by slug."""
    models = YamlFile(Path(__file__).with_name("models.yaml"), "models.yaml").read().value
    return {
        slug: {
            name: Parameter(**{**about, "values": tuple(about.get("values", ()))})
            for name, about in parameters.items()
        }
        for slug, parameters in models.items()
    }


def value_faults(model: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(parameter, what is wrong) for each that a known model refuses; nothing for other models."""
    parameters = known_models().get(model)
    if parameters is None:
        return
    for name, value in params.items():
        parameter = parameters.get(name)
        if parameter is None:
            known = ", ".join(f"`{known}`" for known in parameters)
            near = did_you_mean(name, parameters)
            yield name, f"model `{model}` has no parameter `{name}`{near}; it takes {known}"
        elif fault := parameter.fault(value):
            yield name, f"`{name}` of model `{model}` {fault}"


def missing_faults(model: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(parameter, message) for each that a known model requires and that is absent."""
    for name, parameter in known_models().get(model, {}).items():
        if parameter.required and name not in params:
            yield name, f"model `{model}` needs a `{name}`"


def misspelt_model_note(model: str) -> str | None:
    """A hint when an unknown model's slug nearly is a known one's; it may still be meant."""
    if model in known_models():
        return None
    near = did_you_mean(model, known_models())
    return (
        f"model `{model}` is not known, so its parameters are not checked{near}" if near else None
    )
