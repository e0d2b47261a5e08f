"""Every fault that the simulated API knows, and where a job that meets it ends; one run for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
from desk import KEY, Desk, Finished, Service, decode

from runner.sandbox import MARKERS, Fixed, Options

PNG = ("{id}.png",)
# marker: final state, accepted POSTs, saved files
EXPECTED: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "fail": ("failed", 1, ()),
    "fail-key-echo": ("failed", 1, ()),
    "block": ("blocked", 1, ()),
    "gone": ("expired", 1, ()),
    "lost": ("in_doubt", 1, ()),
    "lost-once": ("in_doubt", 1, ()),
    "lost-before": ("in_doubt", 0, ()),
    "500": ("failed", 0, ()),
    "500-once": ("saved", 1, PNG),
    "502": ("in_doubt", 1, ()),
    "502-once": ("in_doubt", 1, ()),
    "502-refused": ("in_doubt", 0, ()),
    "503": ("failed", 0, ()),
    "503-once": ("saved", 1, PNG),
    "504": ("in_doubt", 1, ()),
    "429": ("saved", 1, PNG),
    "400": ("invalid", 0, ()),
    "403": ("failed", 0, ()),
    "404": ("failed", 0, ()),
    "405": ("failed", 0, ()),
    "406-param": ("invalid", 0, ()),
    "410": ("failed", 0, ()),
    "key-echo": ("invalid", 0, ()),
    "no-id": ("in_doubt", 1, ()),
    "not-json": ("in_doubt", 1, ()),
    "slow-answer": ("in_doubt", 1, ()),
    "foreign-url": ("saved", 1, PNG),
    "poll-429": ("saved", 1, PNG),
    "poll-500": ("saved", 1, PNG),
    "poll-hang": ("saved", 1, PNG),
    "poll-html": ("saved", 1, PNG),
    "poll-weird": ("saved", 1, PNG),
    "result-404-once": ("saved", 1, PNG),
    "data-url": ("saved", 1, PNG),
    "evil-name": ("saved", 1, PNG),
    "no-output": ("saved", 1, PNG),
    "output-list": ("saved", 1, PNG),
    "output-relative": ("saved", 1, PNG),
    "output-string-json": ("saved", 1, PNG),
    "placeholder": ("saved", 1, PNG),
    "media-403": ("completed", 1, ()),
    "media-404": ("completed", 1, ()),
    "media-500-once": ("saved", 1, PNG),
    "media-drip": ("saved", 1, PNG),
    "media-empty": ("completed", 1, ()),
    "media-garbage": ("completed", 1, ()),
    "media-hang": ("completed", 1, ()),
    "media-html": ("completed", 1, ()),
    "media-huge": ("completed", 1, ()),
    "media-redirect": ("saved", 1, PNG),
    "media-redirect-loop": ("completed", 1, ()),
    "media-redirect-private": ("completed", 1, ()),
    "media-truncated": ("completed", 1, ()),
    "media-truncated-once": ("saved", 1, PNG),
    "media-wrong-type": ("saved", 1, PNG),
    "history-hidden": ("saved", 1, PNG),
    "history-no-time": ("saved", 1, PNG),
    "history-string": ("saved", 1, PNG),
    "history-cut": ("saved", 1, PNG),
}
# They stop the whole run, or are waited for as long as a result is kept: below, each by itself.
ALONE = {"401", "406-credits", "406-limit", "never", "poll-500-always"}
# They close their model for all of its jobs.
CLOSING = {"403", "404", "410"}
# They stand in a file, not in a prompt, and have tests of their own.
UPLOADS = {name for name in MARKERS if name.startswith("upload-")}
MODELS = {
    "llm-small": ("{id}.txt",),
    "video-one": ("{id}.mp4",),
    "workflow-two": ("{id}.png", "{id}-1.png"),
    "no-such-model": (),
    "retired-model": (),
    "forbidden-model": (),
}
# What the request history can tell has tests of its own.
HOLD = {"on_doubt": "hold", "on_expired": "hold"}
SMALL = Options(
    latency=Fixed(0.02), picture_px=64, window_s=1.0, slow_s=2.0, hang_s=1.2, drip_s=0.8
)


@dataclass(frozen=True)
class Faulty:
    """What a run of every marker has left."""

    desk: Desk
    service: Service
    ended: Finished
    jobs: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    desk = Desk(tmp_path_factory.mktemp("faulty"))
    marked = [
        {"prompt": f"a fox [[{name}]]", "id": name}
        | ({"model": f"closing-{name}"} if name in CLOSING else {})
        for name in EXPECTED
    ]
    plain = [{"prompt": "a plain fox", "id": model, "model": model} for model in MODELS]
    # As the server's windows are: what it refuses is not taken for a whole minute's rate.
    with Service(SMALL) as service, patch("runner.policy.pace.WINDOW_S", SMALL.window_s):
        desk.configure(service.url, timeout="1s", submit_attempts=2, **HOLD)
        ended = desk.run("run", "-v", desk.manifest(*marked, *plain))
        yield Faulty(desk, service, ended, desk.jobs())


def test_every_marker_has_an_expectation() -> None:
    assert set(EXPECTED) | ALONE | UPLOADS == set(MARKERS)


@pytest.mark.parametrize(
    "name",
    EXPECTED,
)
def test_a_job_that_meets_a_fault_ends_where_it_should(faulty: Faulty, name: str) -> None:
    state, accepted, files = EXPECTED[name]
    job = faulty.jobs[name]
    assert job["state"] == state, job["error"]
    assert faulty.service.accepted_for(f"[[{name}]]") == accepted
    assert [file["path"] for file in job["files"]] == [file.format(id=name) for file in files]
    for file in job["files"]:
        decode(faulty.desk.output / file["path"])
    assert (job["error"] is None) == (state == "saved")


@pytest.mark.parametrize("model", MODELS)
def test_every_kind_of_model_has_its_outputs_saved(faulty: Faulty, model: str) -> None:
    job = faulty.jobs[model]
    wanted = [name.format(id=model) for name in MODELS[model]]
    assert job["state"] == ("saved" if wanted else "failed")
    assert [file["path"] for file in job["files"]] == wanted
    for name in wanted:
        assert (faulty.desk.output / name).stat().st_size > 0


def test_the_run_ends_with_files_to_fetch(faulty: Faulty) -> None:
    assert faulty.ended.status == 3
    assert "more reason" in faulty.ended.out
    assert "Traceback" not in faulty.ended.words
    assert "ClientPayload" not in faulty.ended.words
    assert "ContentLengthError" not in faulty.ended.words


def test_text_is_saved_as_it_came(faulty: Faulty) -> None:
    text = (faulty.desk.output / "llm-small.txt").read_text()
    assert text == "A simulated answer (1) to: a plain fox"


def test_no_file_lands_outside_the_output_folder(faulty: Faulty) -> None:
    names = {path.name for path in faulty.desk.folder.iterdir()}
    assert names <= {
        "config.yaml", "animals.yaml", "output", "runner.db", "runner.db-wal", "runner.db-shm",
        "runner.db.lock",
    }  # fmt: skip
    assert "passwd" not in " ".join(faulty.desk.files())


def test_no_half_file_stays_behind(faulty: Faulty) -> None:
    saved = {file["path"] for job in faulty.jobs.values() for file in job["files"]}
    assert set(faulty.desk.files()) == saved


def test_no_call_went_elsewhere_and_no_key_to_the_media(faulty: Faulty) -> None:
    assert faulty.service.sandbox.key_leaks == []
    assert "unknown" not in faulty.service.sandbox.stats()["requests"]
    assert KEY not in faulty.ended.words


def test_nothing_was_accepted_twice(faulty: Faulty) -> None:
    assert faulty.service.sandbox.stats()["max_per_body"] == 1


def test_running_again_sends_nothing_anew(faulty: Faulty) -> None:
    accepted = faulty.service.accepted
    submits = faulty.service.count("submit")
    assert faulty.desk.run("run", "animals.yaml", "-q").status == 3
    assert faulty.service.accepted == accepted
    assert faulty.service.count("submit") == submits


@pytest.mark.parametrize("marker", ["never", "poll-500-always"])
def test_a_job_that_never_ends_expires_with_its_retention(
    desk: Desk, serve: Callable[..., Service], marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.poller.poller.SILENCE_S", 0.5)
    options = Options(latency=Fixed(0.02), picture_px=64, retention_s=1.5)
    api = serve(options, retention="1500ms", **HOLD)
    ended = desk.run("run", desk.manifest(f"a fox [[{marker}]]"), "--json")
    assert ended.status == 1, ended.words
    assert ended.json["states"] == {"expired": 1}
    assert api.accepted == 1


def test_a_closed_model_is_told_once_and_the_others_go_on(desk: Desk, api: Service) -> None:
    closed = [{"prompt": f"a fox {n}", "model": "no-such-model"} for n in range(40)]
    desk.configure(api.url, concurrency=4)
    ended = desk.run("run", desk.manifest(*closed, "a red fox"))
    assert ended.status == 1, ended.words
    assert api.count("submit") <= 6
    assert api.accepted == 1
    assert ended.err.count("`no-such-model` is stopped") == 1
    states = [job["state"] for job in desk.jobs().values()]
    assert states.count("failed") == 40
    assert states.count("saved") == 1
    back = desk.run("retry", "--state", "failed")
    assert "40 jobs are pending again" in back.out


def test_an_empty_balance_pauses_the_run(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(Options(latency=Fixed(0.02), picture_px=64, credits=0.08, cost=0.04))
    desk.configure(api.url, concurrency=1)
    ended = desk.run("run", desk.manifest(*[f"a fox {n}" for n in range(6)]), "--json")
    assert ended.status == 3
    assert ended.json["states"] == {"pending": 4, "saved": 2}
    assert "nsufficient credits" in ended.json["stopped"]
    assert api.count("submit") <= 4
