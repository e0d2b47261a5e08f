"""Environment variables in texts: `${NAME}`."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")


def fill_environment(text: str, environ: Mapping[str, str]) -> str:
    """Puts environment variables in for `${NAME}` (`$${` stands for `${`); ValueError if unset."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "${"
        if not environ.get(name):
            raise ValueError(f"the environment variable `{name}` is not set")
        return environ[name]

    return _REFERENCE.sub(value, text)
