"""The models of a run that are not worth another request."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from runner.events import Moved, Noted, Observer
from runner.governor import Governor
from runner.job import State
from runner.ledger import Ledger


class StoppedModels:
    """Stops models: their waiting jobs end failed with the reason, and nothing of theirs is sent."""

    def __init__(
        self, ledger: Ledger, governor: Governor, manifests: Sequence[int], observer: Observer
    ) -> None:
        self._ledger = ledger
        self._governor = governor
        self._manifests = manifests
        self._observer = observer
        self._reasons: dict[str, str] = {}

    def __contains__(self, model: object) -> bool:
        return model in self._reasons

    async def stop(self, model: str, reason: str) -> None:
        """Stops a model and says so once."""
        first = model not in self._reasons
        self._reasons[model] = reason
        count = await self._end_pending(model)
        if first:
            more = f" {count:,} more of its jobs are not sent." if count else ""
            text = (
                f"model `{model}` is stopped: {reason}.{more} `runner retry` brings its jobs back"
            )
            self._observer(Noted(text, warning=True))

    async def stop_again(self, model: str) -> None:
        """A job of a stopped model was still on its way and is pending again: it ends as the others."""
        await self._end_pending(model)

    async def _end_pending(self, model: str) -> int:
        reason, now = self._reasons[model], self._governor.now()
        # With the model's last job the run may be over: it ends when its jobs have ended, not before.
        with anyio.CancelScope(shield=True):
            count = await self._ledger.stop_model(model, self._manifests, reason, now)
        if count:
            moved = Moved("", "", model, State.PENDING, State.FAILED, reason=reason, count=count)
            self._observer(moved)
        return count
