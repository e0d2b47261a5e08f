"""`runner.plan`: what a run would do and take."""

from __future__ import annotations

from typing import Unpack

from anyio.from_thread import start_blocking_portal

from runner.assembly.planning import Plan, make_plan
from runner.assembly.session import load_manifests
from runner.door.options import ManifestLike, PlanOptions, checked, place_of, source_of


async def plan(*manifests: ManifestLike, **options: Unpack[PlanOptions]) -> Plan:
    """What a run of the manifests would do, cost and take; sends nothing, changes nothing, needs no key."""
    checked("plan", manifests, options, PlanOptions)
    at = place_of(options)
    return await make_plan(
        load_manifests([source_of(manifest) for manifest in manifests]), at, options.get("limit")
    )


def plan_sync(*manifests: ManifestLike, **options: Unpack[PlanOptions]) -> Plan:
    """As `plan`, for scripts."""
    checked("plan_sync", manifests, options, PlanOptions)

    async def planned() -> Plan:
        return await plan(*manifests, **options)

    with start_blocking_portal() as portal:
        return portal.call(planned)
