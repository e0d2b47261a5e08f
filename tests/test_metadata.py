"""metadata.jsonl: kept at the end of a run, written only when something changed, never anybody else's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, Service
from ledgers import job
from saved import adopt, fill, png, save

from runner.ledger import Ledger
from runner.report.metadata import ForeignMetadata, keep_metadata


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with await Ledger.open(tmp_path / "runner.db", durable=False) as opened:
        yield opened


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metadata.jsonl").read_text().splitlines()]


def test_a_run_keeps_a_row_for_every_picture(desk: Desk, api: Service):
    desk.run("run", desk.manifest("a red fox", "a grey owl"))

    found = {row["id"]: row for row in rows(desk.output)}
    jobs = desk.jobs()
    assert found.keys() == jobs.keys()
    for id_, each in jobs.items():
        row, (file,) = found[id_], each["files"]
        assert (desk.output / row["file_name"]).stat().st_size == file["bytes"]
        assert row["prompt"] == each["params"]["prompt"]
        assert row["request_id"] == each["request_id"]
        assert (row["sha256"], row["cost"], row["model"]) == (file["sha256"], 0.04, "imagen")
        assert row["manifest"] == "animals"
    assert not list(desk.output.rglob("*.part"))


def test_a_run_with_nothing_to_do_leaves_it_as_it_is(desk: Desk, api: Service):
    desk.run("run", desk.manifest("a red fox"))
    path = desk.output / "metadata.jsonl"
    before = path.stat()

    desk.run("run", "animals.yaml")

    assert path.stat() == before


def test_one_that_is_gone_is_written_again(desk: Desk, api: Service):
    desk.run("run", desk.manifest("a red fox"))
    (desk.output / "metadata.jsonl").unlink()

    assert desk.run("run", "animals.yaml").status == 0

    assert len(rows(desk.output)) == 1


def test_that_it_cannot_be_written_is_one_warning_and_changes_nothing_else(
    desk: Desk, api: Service
):
    desk.output.mkdir()
    (desk.output / "metadata.jsonl.part").mkdir()

    ended = desk.run("run", desk.manifest("a red fox"))

    assert ended.status == 0
    (line,) = [line for line in ended.err.splitlines() if line.startswith("warning:")]
    assert "metadata.jsonl was not written" in line
    assert "the next run tries again" in line


async def test_several_manifests_of_one_output_share_it(ledger: Ledger, output: Path):
    jobs = [job(0), job(1, manifest="other", params={"prompt": "p", "strength": 0.5})]
    await adopt(ledger, output, jobs)
    await save(ledger, output, "j0", png(0))
    await save(ledger, output, "j1", png(1))

    assert await keep_metadata(ledger, output) is None

    assert {(row["manifest"], row["strength"]) for row in rows(output)} == {
        ("m", None),
        ("other", 0.5),
    }


async def test_only_what_is_saved_and_still_wanted_has_a_row(ledger: Ledger, output: Path):
    jobs = await fill(ledger, output, 2)
    await adopt(ledger, output, [jobs[0], job(5)], version="2")

    await keep_metadata(ledger, output)

    assert [row["id"] for row in rows(output)] == ["j0"]


async def test_rows_are_of_pictures_where_there_are_any_and_else_of_videos(
    ledger: Ledger, output: Path
):
    await adopt(ledger, output, [job(0), job(1), job(2)])
    await save(ledger, output, "j0", [("a.mp4", "video/mp4", b"film")])
    await save(ledger, output, "j1", [("a.txt", "text/plain", b"words")])
    await keep_metadata(ledger, output)
    assert [row["file_name"] for row in rows(output)] == ["a.mp4"]

    await save(ledger, output, "j2", [*png(2), ("m/j2.json", "application/json", b"{}")])
    await keep_metadata(ledger, output)
    assert [row["file_name"] for row in rows(output)] == ["m/j2.png"]


async def test_texts_alone_have_no_rows(ledger: Ledger, output: Path):
    await adopt(ledger, output, [job(0)])
    await save(ledger, output, "j0", [("a.txt", "text/plain", b"words")])

    assert await keep_metadata(ledger, output) is None

    assert not (output / "metadata.jsonl").exists()


async def test_a_changed_tag_is_in_it_after_the_next_run(ledger: Ledger, output: Path):
    await fill(ledger, output, 1)
    await keep_metadata(ledger, output)

    await adopt(ledger, output, [job(0, tags=("wild",))], version="2")
    await keep_metadata(ledger, output)

    assert rows(output)[0]["tags"] == ["wild"]


@pytest.mark.parametrize(
    "text", ['{"file_name": "mine.png", "text": "mine"}\n', "no json\n", "[1]\n", ""]
)
async def test_a_file_of_somebody_else_is_left_alone(ledger: Ledger, output: Path, text: str):
    await fill(ledger, output, 1)
    path = output / "metadata.jsonl"
    path.write_text(text)

    with pytest.raises(ForeignMetadata, match="was not written by runner"):
        await keep_metadata(ledger, output)

    assert path.read_text() == text


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("test/j0.png", True),
        ("a/train.png", True),
        ("a/my-eval 2/j0.png", True),
        ("a/dev_1.png", True),
        ("contest/trainer.png", False),
        ("m/j0.png", False),
    ],
)
async def test_a_name_that_datasets_takes_for_a_split_is_said(
    ledger: Ledger, output: Path, name: str, is_taken: bool
):
    await adopt(ledger, output, [job(0)])
    await save(ledger, output, "j0", [(name, "image/png", png(0)[0][2])])

    note = await keep_metadata(ledger, output)

    assert (note is not None) == is_taken
    assert note is None or f'data_files="{output / "metadata.jsonl"}"' in note
