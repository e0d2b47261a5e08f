"""Notifications through Apprise: what can be sent at all, and sending it in bounded time.

The addresses hold secrets: what is told of them is their number and the service's name, never more.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from runner.errors import UsageError

INSTALL = "pip install 'segmind-runner[notify]'"
PATIENCE_S = 15.0
_SERVICE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
_STATUS = re.compile(r"error=([1-5]\d\d)\b")

Mood = Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for people."""

    title: str
    body: str
    mood: Mood = "info"


def check_installed() -> None:
    """Raises UsageError when Apprise is missing; does not import it."""
    if importlib.util.find_spec("apprise") is None:
        raise UsageError(
            f"the config has `notify`, which needs Apprise: {INSTALL}, or take `notify` out"
        )


class Notifier:
    """Sends notices to some addresses. Raises UsageError for one that Apprise cannot use."""

    def __init__(self, urls: Sequence[str]) -> None:
        check_installed()
        import apprise

        # What the services log holds their addresses, and with them their secrets.
        log = logging.getLogger("apprise")
        log.handlers, log.propagate = [logging.NullHandler()], False
        self._targets: list[tuple[str, Any]] = []
        for number, url in enumerate(urls, start=1):
            name = _name(url, number)
            service = apprise.Apprise.instantiate(url)
            if service is None:
                raise UsageError(
                    f"notify: {name} cannot be used by Apprise: its service is not known, or its "
                    "address is not complete; see https://github.com/caronc/apprise/wiki"
                )
            target = apprise.Apprise()
            target.add(service)
            self._targets.append((name, target))

    @property
    def names(self) -> tuple[str, ...]:
        """The addresses as they can be shown."""
        return tuple(name for name, _ in self._targets)

    def send(self, notice: Notice, patience_s: float = PATIENCE_S) -> list[str]:
        """Sends a notice to all addresses at once; returns what went wrong, a line each.

        Returns after `patience_s` seconds at the latest; whoever has not answered then counts as failed.
        """
        # All meet here; whoever is late finds it broken, and nobody waits any more.
        meeting = threading.Barrier(1 + len(self._targets))
        deliveries = [_Delivery(name, target, notice, meeting) for name, target in self._targets]
        for delivery in deliveries:
            delivery.start()
        with suppress(threading.BrokenBarrierError):
            meeting.wait(patience_s)
        return [delivery.fault for delivery in deliveries if delivery.fault]


class _Delivery(threading.Thread):
    """One notice on its way; a daemon, so that a service that hangs does not keep the process."""

    def __init__(self, name: str, target: Any, notice: Notice, meeting: threading.Barrier) -> None:
        super().__init__(name="notification", daemon=True)
        self._target = target
        self._notice = notice
        self._meeting = meeting
        self._what = name
        self.fault = f"{name} did not answer in time"

    def run(self) -> None:
        self.fault = self._deliver()
        with suppress(threading.BrokenBarrierError):
            self._meeting.wait()

    def _deliver(self) -> str:
        try:
            told = self._target.notify(
                title=self._notice.title, body=self._notice.body, notify_type=self._notice.mood
            )
        except (
            Exception
        ) as error:  # a plugin may raise anything, and its words may hold its address
            return f"{self._what} failed: {type(error).__name__}"
        return "" if told else f"{self._what}: {_why(told)}"


def _why(told: Any) -> str:
    """Of what a service logged only the status, for the rest may hold its address."""
    logs = told.logs() if hasattr(told, "logs") else ()
    found = [_STATUS.search(str(entry.message)) for entry in logs]
    status = next((match[1] for match in found if match), None)
    return f"refused with HTTP {status}" if status else "not reached, or it refused"


def _name(url: str, number: int) -> str:
    found = _SERVICE.match(url.strip())
    return f"address {number} ({found[1]})" if found else f"address {number}"
