"""Running again is resuming: what is done is not done again, what is lost is fetched, never paid."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from desk import QUICK, Desk, Service, decode

from runner.sandbox import Fixed, Options

ANIMALS = ["a red fox", "a grey owl", "a brown bear"]


@pytest.fixture
def done(desk: Desk, api: Service) -> Service:
    """A run of three animals that is finished."""
    ended = desk.run("run", desk.manifest(*ANIMALS))
    assert ended.status == 0, ended.words
    assert api.accepted == 3
    return api


def states(desk: Desk) -> dict[str, int]:
    found: dict[str, int] = {}
    for job in desk.jobs().values():
        found[job["state"]] = found.get(job["state"], 0) + 1
    return found


def test_a_run_saves_a_whole_picture_for_every_job(desk: Desk, done: Service) -> None:
    jobs = desk.jobs()
    assert len(jobs) == 3
    for id_, job in jobs.items():
        assert job["state"] == "saved"
        assert job["cost"] == 0.04
        assert job["attempts"] == 1
        assert job["request_id"] in done.sandbox.accepted
        (file,) = job["files"]
        path = desk.output / file["path"]
        assert path.name == f"{id_}.png"
        assert path.stat().st_size == file["bytes"]
        assert max(decode(path)) == 64
    assert {job["params"]["prompt"] for job in jobs.values()} == set(ANIMALS)
    assert desk.files() == sorted(f"{id_}.png" for id_ in jobs)


def test_every_request_to_the_api_carries_the_key_and_no_other(desk: Desk, done: Service) -> None:
    seen = list(done.sandbox.requests)
    # The balance is asked for once: its answer tells the server's time before anything is sent.
    assert {r.route for r in seen} == {"credits", "submit", "status", "result", "media"}
    assert [r.route for r in seen].count("credits") == 1
    assert seen[0].route == "credits"
    assert all(r.has_key == (r.route != "media") for r in seen)
    assert done.sandbox.key_leaks == []


def test_running_again_sends_nothing_and_is_quick(desk: Desk, done: Service) -> None:
    before = len(done.sandbox.requests)
    started = time.monotonic()
    again = desk.run("run", "animals.yaml")
    assert again.status == 0
    assert time.monotonic() - started < 1.0
    assert len(done.sandbox.requests) == before
    assert "nothing to do" in again.out


def test_a_changed_prompt_is_one_new_job(desk: Desk, done: Service) -> None:
    desk.manifest("a red fox", "a grey owl", "a brown bear in the rain")
    ended = desk.run("run", "animals.yaml", "--json")
    assert ended.status == 0
    assert done.accepted == 4
    assert ended.json["total"] == 3
    assert ended.json["states"] == {"saved": 3}
    assert ended.json["spent"] == pytest.approx(0.16)  # the old bear was paid for, too


def test_an_added_line_is_one_new_job(desk: Desk, done: Service) -> None:
    desk.manifest("a white swan", *ANIMALS)
    assert desk.run("run", "animals.yaml").status == 0
    assert done.accepted == 4


def test_a_removed_line_is_not_run_and_comes_back_unpaid(desk: Desk, api: Service) -> None:
    desk.manifest(*ANIMALS)
    assert desk.run("run", "animals.yaml", "--limit", "1").status == 3
    desk.manifest("a red fox", "a grey owl")
    ended = desk.run("run", "animals.yaml", "--json")
    assert ended.status == 0
    assert ended.json["total"] == 2
    assert api.accepted == 2
    assert api.accepted_for("bear") == 0
    desk.manifest(*ANIMALS)
    assert desk.run("run", "animals.yaml").status == 0
    assert api.accepted == 3


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"prompts": ANIMALS[::-1]}, id="order"),
        pytest.param({"prompts": [{"prompt": a, "tags": ["wild"]} for a in ANIMALS]}, id="tags"),
        pytest.param({"output": "{name}/{index:03}.{ext}"}, id="output"),
        pytest.param(
            {"prompts": [{"prompt": a, "params": {"aspect_ratio": "16:9"}} for a in ANIMALS]},
            id="same parameter said elsewhere",
        ),
    ],
)
def test_what_does_not_change_the_request_pays_nothing(
    desk: Desk, api: Service, change: dict[str, Any]
) -> None:
    desk.manifest(*ANIMALS, params={"aspect_ratio": "16:9"})
    assert desk.run("run", "animals.yaml").status == 0
    keys = {"params": {"aspect_ratio": "16:9"}, **change}
    if "params" in str(change):
        del keys["params"]
    desk.manifest(*keys.pop("prompts", ANIMALS), **keys)
    again = desk.run("run", "animals.yaml")
    assert again.status == 0, again.words
    assert api.accepted == 3
    assert states(desk) == {"saved": 3}
    for job in desk.jobs().values():
        assert (desk.output / job["files"][0]["path"]).exists()


def test_a_new_run_option_pays_nothing(desk: Desk, done: Service) -> None:
    desk.configure(done.url, concurrency=2, retention="30m")
    assert desk.run("run", "animals.yaml", "--rpm", "50").status == 0
    assert done.accepted == 3


@pytest.mark.parametrize("damage", ["deleted", "truncated", "emptied"])
def test_a_lost_file_is_fetched_again_and_not_paid_again(
    desk: Desk, done: Service, damage: str
) -> None:
    path = desk.output / desk.files()[0]
    whole = path.read_bytes()
    match damage:
        case "deleted":
            path.unlink()
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "emptied":
            path.write_bytes(b"")
    submits, polls = done.count("submit"), done.count("status")
    ended = desk.run("run", "animals.yaml")
    assert ended.status == 0, ended.words
    assert path.read_bytes() == whole
    assert (done.count("submit"), done.count("status")) == (submits, polls)
    assert len(desk.files()) == 3


def test_the_whole_output_folder_can_be_fetched_again(desk: Desk, done: Service) -> None:
    before = desk.files()
    desk.output.rename(desk.folder / "elsewhere")
    assert desk.run("run", "animals.yaml").status == 0
    assert desk.files() == before
    assert done.accepted == 3


def test_a_lost_file_whose_media_are_gone_is_reported_as_expired(desk: Desk, done: Service) -> None:
    lost, week_s = desk.files()[0], 7 * 86400
    (desk.output / lost).unlink()
    desk.sql(
        "UPDATE jobs SET submitted_at = submitted_at - ?1, server_at = server_at - ?1,"
        " completed_at = completed_at - ?1",
        week_s + 3600,
    )
    for record in done.sandbox.accepted.values():
        record.finished_at -= week_s + 3600
    ended = desk.run("run", "animals.yaml", "--json")
    assert ended.status == 1, ended.words
    assert ended.json["states"] == {"saved": 2, "expired": 1}
    assert done.accepted == 3
    (expired,) = desk.jobs("--state", "expired").values()
    assert expired["error"]
    assert f"{expired['id']}.png" == lost


def test_an_expired_job_whose_file_comes_back_is_saved_again(desk: Desk, done: Service) -> None:
    lost = desk.output / desk.files()[0]
    kept = lost.read_bytes()
    lost.unlink()
    desk.sql(
        "UPDATE jobs SET submitted_at = submitted_at - ?1, server_at = server_at - ?1", 8 * 86400
    )
    for record in done.sandbox.accepted.values():
        record.finished_at -= 8 * 86400
    assert desk.run("run", "animals.yaml").status == 1
    lost.write_bytes(kept)  # restored from a backup
    assert desk.run("run", "animals.yaml").status == 0
    assert states(desk) == {"saved": 3}


def test_media_missing_within_their_week_are_not_given_up(desk: Desk, done: Service) -> None:
    (desk.output / desk.files()[0]).unlink()
    for record in done.sandbox.accepted.values():
        record.finished_at -= 8 * 86400
    ended = desk.run("run", "animals.yaml", "--json")
    assert ended.status == 3
    assert ended.json["states"] == {"completed": 1, "saved": 2}


@pytest.mark.parametrize(
    ("on_expired", "state", "status"), [("recover", "saved", 0), ("hold", "expired", 1)]
)
def test_a_job_whose_hour_has_passed_is_never_paid_again(
    desk: Desk, serve: Callable[..., Service], on_expired: str, state: str, status: int
) -> None:
    ahead = [0.0]
    slow = Options(latency=Fixed(600), picture_px=64)
    api = serve(slow, lambda: time.time() + ahead[0], drain="100ms")
    desk.manifest("a red fox")
    # The limit drains the run, and the drain is short: the job is left in flight.
    assert desk.run("run", "animals.yaml", "--limit", "1").status == 3
    assert states(desk) == {"submitted": 1}
    ahead[0] = 3700.0
    desk.sql("UPDATE jobs SET submitted_at = submitted_at - 3700, deadline = deadline - 3700")
    for _ in range(2):
        ended = desk.run("run", "animals.yaml", "--on-expired", on_expired)
        assert ended.status == status, ended.words
        assert states(desk) == {state: 1}
        assert api.accepted == 1


@pytest.mark.parametrize("marker", ["lost", "502", "504", "no-id", "not-json"])
def test_a_lost_answer_is_found_in_the_history_and_never_paid_again(
    desk: Desk, api: Service, marker: str
) -> None:
    ended = desk.run("run", desk.manifest(f"a red fox [[{marker}]]"))
    assert ended.status == 0, ended.words
    assert states(desk) == {"saved": 1}
    assert api.accepted == 1


def test_what_another_manifest_left_in_flight_is_collected_too(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    api = serve(Options(latency=Fixed(1.0), picture_px=64), drain="100ms")
    desk.manifest("a red fox")
    assert desk.run("run", "animals.yaml", "--limit", "1").status == 3
    desk.configure(api.url)
    assert desk.run("run", desk.manifest("a lamp", name="things")).status == 0
    assert states(desk) == {"saved": 2}


def test_a_limit_bounds_what_is_submitted_anew(desk: Desk, api: Service) -> None:
    desk.manifest(*ANIMALS)
    ended = desk.run("run", "animals.yaml", "--limit", "2", "--json")
    assert ended.status == 3
    assert ended.json["states"] == {"pending": 1, "saved": 2}
    assert "limit" in ended.json["stopped"]
    assert api.accepted == 2
    assert desk.run("run", "animals.yaml", "--limit", "0").status == 3
    assert api.accepted == 2


def test_concurrency_bounds_what_is_in_flight(desk: Desk, serve: Callable[..., Service]) -> None:
    api = serve(QUICK, concurrency=2)
    assert desk.run("run", desk.manifest(*ANIMALS, "a white swan", "a black swan")).status == 0
    records = sorted(api.sandbox.accepted.values(), key=lambda record: record.time)
    collected = {r.request_id: r.time for r in api.sandbox.requests if r.route == "result"}
    for record in records:
        open_then = [
            other for other in records if other.time <= record.time < collected[other.request_id]
        ]
        assert len(open_then) <= 2


def test_a_rate_limit_is_kept_to_and_everything_arrives(
    desk: Desk, serve: Callable[..., Service]
) -> None:
    options = Options(latency=Fixed(0.02), picture_px=64, rpm=8, window_s=1.0)
    api = serve(options)
    ended = desk.run("run", desk.manifest(*ANIMALS, "a swan", "a crane"))
    assert ended.status == 0, ended.words
    assert api.sandbox.stats()["max_per_body"] == 1
    assert api.accepted == 5


def test_repeated_requests_are_sent_as_often_as_they_are_wanted(desk: Desk, api: Service) -> None:
    assert desk.run("run", desk.manifest({"prompt": "a red fox", "repeat": 3})).status == 0
    assert api.accepted == 3
    assert len(desk.files()) == 3
    assert len({(desk.output / name).read_bytes() for name in desk.files()}) == 3


def test_metadata_is_kept_and_never_sent(desk: Desk, api: Service) -> None:
    desk.write("rows.csv", "prompt,category,tags,params.aspect_ratio\na fox,beasts,red,1:1\n")
    ended = desk.run("run", desk.manifest({"file": "rows.csv"}, output="{category}/{id}.{ext}"))
    assert ended.status == 0, ended.words
    (record,) = api.sandbox.accepted.values()
    assert record.body == {"prompt": "a fox", "aspect_ratio": "1:1"}
    (job,) = desk.jobs().values()
    assert job["meta"] == {"category": "beasts"}
    assert job["tags"] == ["red"]
    assert job["files"][0]["path"].startswith("beasts/")


def test_two_manifests_run_together(desk: Desk, api: Service) -> None:
    desk.manifest("a red fox")
    desk.manifest("a lamp", name="things", output="things/{id}.{ext}")
    ended = desk.run("run", "animals.yaml", "things.yaml", "--json")
    assert ended.status == 0
    assert [m["name"] for m in ended.json["manifests"]] == ["animals", "things"]
    assert api.accepted == 2
