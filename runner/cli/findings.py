"""What `runner doctor` finds on this computer: config, manifests, disk, limits, notifications."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.assembly.place import Place
from runner.errors import InputError, RunnerError

if TYPE_CHECKING:
    from runner.assembly.session import Workplace

# A night of pictures of some 2 MB each.
LITTLE_SPACE_BYTES = 2_000_000_000
# Without a bound in the config the account's rate keeps the requests at a time few.
USUAL_REQUESTS = 64
# What a run opens beside its connections: the ledger, logs, files under way.
OTHER_DESCRIPTORS = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, and what to do where it is not well."""

    level: Literal["ok", "note", "problem"]
    what: str
    how: str
    mend: str = ""


def config_findings(place: Place) -> Iterator[Finding]:
    """Which config is in force, and whether others can read the key in it or beside it."""
    from runner.config import DEFAULT_CONFIG

    path = place.config or DEFAULT_CONFIG
    if not path.exists():
        yield Finding("ok", "config", "there is no config.yaml here; the defaults count")
        return
    yield Finding("ok", f"config {path}", "well")
    for secret in (path, path.with_name("runner.env")):
        if (
            _holds_key(secret)
            and stat.S_IMODE(secret.stat().st_mode) & 0o077
            and os.name == "posix"
        ):
            how = "others on this computer can read the key in it"
            yield Finding("note", f"config {secret}", how, f"chmod 600 {secret}")


def _holds_key(path: Path) -> bool:
    try:
        return "SG_" in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def manifest_findings(paths: Sequence[Path]) -> Iterator[Finding]:
    """What is wrong with manifests, or how many jobs they have."""
    from runner.manifest import load

    for path in paths:
        try:
            count = sum(1 for _ in load(path).jobs())
        except InputError as error:
            mend = "mend what is named; `runner schema manifest` lets an editor say so at once"
            for problem in error.problems:
                yield Finding("problem", f"manifest {path}", str(problem), mend)
            continue
        yield Finding("ok", f"manifest {path}", f"well, {count:,} jobs")


def disk_findings(at: Workplace) -> list[Finding]:
    """Whether there is room for pictures, and a way to write them."""
    output, folder = at.output, _nearest(at.output)
    what = f"output {output}"
    if output.exists() and not output.is_dir():
        return [Finding("problem", what, "is a file", "name another folder with --output")]
    try:
        probe = folder / ".runner-doctor"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        how = f"cannot be written: {error.strerror}"
        return [
            Finding("problem", what, how, "change its permissions or name another with --output")
        ]
    free = shutil.disk_usage(folder).free
    how = f"writable, {free / 1e9:,.1f} GB free"
    if free < LITTLE_SPACE_BYTES:
        return [
            Finding("note", what, how, "that is some hundred pictures; make room before a night")
        ]
    return [Finding("ok", what, how), *_other_disk(folder, at)]


def _other_disk(folder: Path, at: Workplace) -> list[Finding]:
    # Without its disk the folder looks empty, and a run would fetch every file again to this one.
    if folder.stat().st_dev == _nearest(at.ledger).stat().st_dev:
        return []
    mount = folder.absolute()
    while not mount.is_mount():
        mount = mount.parent
    how = f"is on another disk than the ledger, mounted at {mount}"
    mend = f"see that it is mounted before a run starts; for systemd RequiresMountsFor={mount}"
    return [Finding("note", f"output {at.output}", how, mend)]


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def descriptor_findings(at: Workplace) -> list[Finding]:
    """Whether the system lets a run hold as many connections and files as it may want."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return []
    from runner.fetcher import CONNECTIONS

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    requests = at.settings.run.concurrency or USUAL_REQUESTS
    wanted = requests + CONNECTIONS + OTHER_DESCRIPTORS
    what, how = "open files", f"this system allows {most:,}, a run wants up to {wanted:,}"
    if most == resource.RLIM_INFINITY or most >= wanted:
        return [Finding("ok", what, how)]
    mend = f"`ulimit -n {wanted}` before the run, LimitNOFILE={wanted} for systemd, or a lower "
    return [Finding("problem", what, how, mend + "`run.concurrency`")]


def notify_findings(at: Workplace, send: bool) -> list[Finding]:
    """Whether people can be told how a run fares; `send`: tries it with a message."""
    urls = [url.get_secret_value() for url in at.settings.notify.urls]
    if not urls:
        mend = "add addresses: `runner schema config` describes `notify`"
        return [Finding("problem", "notify", "there are no addresses", mend)] if send else []
    from runner.notify import Notice, Notifier

    try:
        notifier = Notifier(urls)
    except RunnerError as error:
        how = str(error).removeprefix("notify: ")
        return [Finding("problem", "notify", how, "correct `notify` in the config")]
    names = ", ".join(notifier.names)
    if not send:
        mend = "`runner doctor --notify` sends them a message"
        return [Finding("ok", "notify", f"well, not tried: {names}", mend)]
    faults = notifier.send(Notice("runner: a test", "You will hear of your runs here."))
    if not faults:
        return [Finding("ok", "notify", f"sent: {names}")]
    mend = "look at that address in the config; its service says more in its own log"
    return [Finding("problem", "notify", fault, mend) for fault in faults]


def unattended_note(at: Workplace) -> Finding | None:
    """That the key is known to this shell only, where neither cron nor systemd look."""
    if at.settings.api.key is None or not os.environ.get("SEGMIND_API_KEY", "").strip():
        return None
    if at.settings.api.key.get_secret_value() != os.environ["SEGMIND_API_KEY"].strip():
        return None
    how = "comes from SEGMIND_API_KEY of this shell, which cron and systemd do not see"
    mend = "for them, `runner init --cron` or `--systemd` writes a file that holds it"
    return Finding("ok", "API key's source", how, mend)
