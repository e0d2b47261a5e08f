"""Settings: defaults < config file < environment < command line, as one frozen value."""

from runner.config.fields import parse_duration
from runner.config.settings import (
    KEY_VARIABLE,
    ApiSettings,
    NotifySettings,
    OutputSettings,
    RunSettings,
    Settings,
    config_schema,
)
from runner.config.sources import DEFAULT_CONFIG, load_settings

__all__ = [
    "DEFAULT_CONFIG",
    "KEY_VARIABLE",
    "ApiSettings",
    "NotifySettings",
    "OutputSettings",
    "RunSettings",
    "Settings",
    "config_schema",
    "load_settings",
    "parse_duration",
]
