"""`runner export`: what is exported, what is not, and that an export which was stopped goes on."""

from __future__ import annotations

import errno
import hashlib
import json
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, Service
from ledgers import job
from saved import adopt, fill, picture, png, save

from runner.errors import StoppedEarly, UsageError
from runner.job import Job
from runner.ledger import Ledger
from runner.report.export import listing, webdataset
from runner.report.export.exporting import Exported, Form, export
from runner.report.export.source import Wanted

# Some three pictures of the tests.
SMALL_BYTES = 3 * len(picture(0))


class Shop:
    """A ledger with saved files and a folder to export to."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.output, self.dest = ledger, folder / "output", folder / "dest"
        self.wanted = Wanted(ledger, self.output, "m")

    async def export(self, form: str, **changes: Any) -> Exported:
        wanted = replace(self.wanted, **changes)
        return await export(wanted, self.dest, Form(form, SMALL_BYTES))

    @property
    def files(self) -> dict[str, bytes]:
        found = sorted(path for path in self.dest.rglob("*") if path.is_file())
        return {path.relative_to(self.dest).as_posix(): path.read_bytes() for path in found}

    def tars(self) -> dict[str, bytes]:
        """The members of all tar files; a member that is there twice fails the test."""
        found: dict[str, bytes] = {}
        for path in sorted(self.dest.glob("*.tar")):
            with tarfile.open(path) as archive:
                for member in archive:
                    assert member.name not in found
                    file = archive.extractfile(member)
                    assert file is not None
                    found[member.name] = file.read()
        return found

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.dest / name).read_text().splitlines()]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with await Ledger.open(tmp_path / "runner.db", durable=False) as ledger:
        yield Shop(ledger, tmp_path)


async def test_an_imagefolder_has_every_picture_and_its_row(shop: Shop):
    await fill(shop.ledger, shop.output, 3)

    done = await shop.export("imagefolder")

    assert done.outcome.exported == {"train": 3}
    for row in shop.lines("train/metadata.jsonl"):
        data = shop.files[f"train/{row['file_name']}"]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        assert data == (shop.output / f"m/{row['id']}.png").read_bytes()


async def test_jsonl_names_the_files_where_they_are_and_holds_texts(shop: Shop):
    await adopt(shop.ledger, shop.output, [job(0), job(1)])
    await save(shop.ledger, shop.output, "j0", png(0))
    await save(shop.ledger, shop.output, "j1", [("a.txt", "text/plain", "ein Füchslein".encode())])

    await shop.export("jsonl")

    one, other = shop.lines("train.jsonl")
    assert one["path"] == str(shop.output / "m/j0.png")
    assert (one["output"], other["output"]) == ("", "ein Füchslein")
    assert other["content_type"] == "text/plain"


async def test_tar_files_hold_picture_prompt_and_row_under_one_key(shop: Shop):
    await fill(shop.ledger, shop.output, 7)

    await shop.export("webdataset")

    assert len(list(shop.dest.glob("train-*.tar"))) == 3
    members = shop.tars()
    assert len(members) == 21
    for number in range(7):
        assert members[f"j{number}.png"] == picture(number)
        assert members[f"j{number}.txt"].decode() == f"prompt {number}"
        assert json.loads(members[f"j{number}.json"])["request_id"] == f"r-j{number}"


async def test_every_file_of_a_job_is_exported_under_a_key_of_its_own(shop: Shop):
    await adopt(shop.ledger, shop.output, [job(0), job(1)])
    await save(shop.ledger, shop.output, "j0", [*png(0), ("m/j0-1.png", "image/png", picture(9))])
    await save(shop.ledger, shop.output, "j1", [("m/j1.json", "application/json", b'{"a": 1}')])

    await shop.export("webdataset")

    members = shop.tars()
    assert (members["j0.png"], members["j0+1.png"]) == (picture(0), picture(9))
    assert members["j1.json"] == b'{"a": 1}'
    assert json.loads(members["j1.meta.json"])["id"] == "j1"


async def test_the_same_jobs_give_the_same_bytes(shop: Shop, tmp_path: Path):
    await fill(shop.ledger, shop.output, 5)
    await shop.export("webdataset")
    first = shop.files
    shop.dest = tmp_path / "other"

    await shop.export("webdataset")

    assert shop.files == first


@pytest.mark.parametrize("form", ["imagefolder", "jsonl", "webdataset"])
async def test_given_again_it_adds_what_is_new_and_keeps_the_rest(shop: Shop, form: str):
    jobs = [job(number) for number in range(8)]
    await adopt(shop.ledger, shop.output, jobs)
    for number in (0, 1, 2, 3, 5, 7):
        await save(shop.ledger, shop.output, f"j{number}", png(number))
    assert (await shop.export(form)).outcome.exported == {"train": 6}
    for number in (4, 6):
        await save(shop.ledger, shop.output, f"j{number}", png(number))

    done = await shop.export(form)

    assert done.outcome.exported == {"train": 8}
    again = shop.files
    assert (await shop.export(form)).outcome.kept == (8 if form == "webdataset" else 0)
    assert shop.files == again
    if form == "webdataset":
        assert len(shop.tars()) == 24
    else:
        name = "train.jsonl" if form == "jsonl" else "train/metadata.jsonl"
        assert [row["id"] for row in shop.lines(name)] == [each.id for each in jobs]


async def test_an_export_that_was_killed_goes_on_without_doubling(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    await fill(shop.ledger, shop.output, 9)
    add, count = webdataset._add, 0

    def dying(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == 15:
            raise Killed
        add(*arguments)

    monkeypatch.setattr(webdataset, "_add", dying)
    with pytest.raises(Killed):
        await shop.export("webdataset")
    assert len(shop.tars()) == 9
    # As a kill leaves it, which no `finally` tidies up.
    (shop.dest / "train-00001.tar.part").write_bytes(b"half")

    done = await shop.export("webdataset")

    assert (done.outcome.exported, done.outcome.kept) == ({"train": 9}, 3)
    assert len(shop.tars()) == 27
    assert not list(shop.dest.glob("*.part"))


async def test_fewer_jobs_leave_no_stale_shard(shop: Shop):
    jobs = await fill(shop.ledger, shop.output, 7)
    await shop.export("webdataset")
    await adopt(shop.ledger, shop.output, jobs[:2], version="2")

    await shop.export("webdataset")

    assert {name.split(".")[0] for name in shop.tars()} == {"j0", "j1"}


@pytest.mark.parametrize("form", ["imagefolder", "jsonl", "webdataset"])
async def test_a_damaged_or_missing_file_is_said_and_not_exported_until_it_is_back(
    shop: Shop, form: str
):
    await fill(shop.ledger, shop.output, 3)
    damaged, gone = shop.output / "m/j0.png", shop.output / "m/j2.png"
    damaged.write_bytes(picture("other"))
    gone.unlink()

    done = await shop.export(form)

    assert done.outcome.exported == {"train": 1}
    assert done.outcome.broken == ["m/j0.png has other bytes than were saved", "m/j2.png is gone"]
    if form == "webdataset":
        assert {name.split(".")[0] for name in shop.tars()} == {"j1"}
    damaged.write_bytes(picture(0))
    gone.write_bytes(picture(2))
    done = await shop.export(form)
    assert (done.outcome.exported, done.outcome.broken) == ({"train": 3}, [])


async def test_what_is_not_saved_is_counted_by_its_state(shop: Shop):
    await adopt(shop.ledger, shop.output, [job(0), job(1), job(2)])
    await save(shop.ledger, shop.output, "j1", png(1))

    done = await shop.export("imagefolder")

    assert done.inspection.unsaved == {"pending": 2}


async def test_only_jobs_with_the_tag(shop: Shop):
    jobs = [job(0, tags=("wild", "x")), job(1, tags=("tame",)), job(2)]
    await adopt(shop.ledger, shop.output, jobs)
    for number in range(3):
        await save(shop.ledger, shop.output, f"j{number}", png(number))

    done = await shop.export("jsonl", tags=frozenset({"wild", "odd"}))

    assert done.outcome.exported == {"train": 1}
    assert [row["id"] for row in shop.lines("train.jsonl")] == ["j0"]


def prompts(count: int) -> list[Job]:
    """Four pictures of each of so many prompts."""
    return [
        job(4 * number + repeat, params={"prompt": f"prompt {number}"}, repeat=repeat)
        for number in range(count)
        for repeat in range(4)
    ]


async def test_the_pictures_of_a_prompt_are_on_one_side_of_a_split(shop: Shop):
    jobs = prompts(30)
    await adopt(shop.ledger, shop.output, jobs)
    for number, each in enumerate(jobs):
        await save(shop.ledger, shop.output, each.id, png(number))

    done = await shop.export("jsonl", test_share=0.3)

    sides = {
        split: {r["prompt"] for r in shop.lines(f"{split}.jsonl")} for split in ("train", "test")
    }
    assert not sides["train"] & sides["test"]
    assert len(sides["train"] | sides["test"]) == 30
    assert 3 <= len(sides["test"]) <= 15
    assert done.outcome.exported.total() == 120


@pytest.mark.parametrize("what", ["foreign", "file", "inside", "other format", "unreadable"])
async def test_a_folder_that_holds_anything_else_is_refused(shop: Shop, what: str):
    await fill(shop.ledger, shop.output, 1)
    if what == "foreign":
        shop.dest.mkdir()
        (shop.dest / "thesis.tex").touch()
    elif what == "file":
        shop.dest.touch()
    elif what == "inside":
        shop.dest = shop.output / "dest"
    elif what == "other format":
        await shop.export("webdataset")
    else:
        shop.dest.mkdir()
        (shop.dest / ".runner-export.json").write_text("{}")
    before = sorted(shop.dest.rglob("*"))

    with pytest.raises(UsageError, match=r"name a (new )?folder|beside it"):
        await shop.export("imagefolder")

    assert sorted(shop.dest.rglob("*")) == before


@pytest.mark.parametrize("form", ["imagefolder", "webdataset"])
async def test_a_full_disk_stops_it_with_words_and_the_next_time_it_goes_on(
    shop: Shop, form: str, monkeypatch: pytest.MonkeyPatch
):
    await fill(shop.ledger, shop.output, 2)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(webdataset, "_add", full)
        patch.setattr(listing.os, "link", full)
        patch.setattr(listing.shutil, "copyfile", full)
        with pytest.raises(StoppedEarly, match=r"is full .*the same command again"):
            await shop.export(form)

    assert (await shop.export(form)).outcome.exported == {"train": 2}


async def test_files_are_copied_where_they_cannot_be_linked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    await fill(shop.ledger, shop.output, 2)

    def other_disk(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(listing.os, "link", other_disk)

    await shop.export("imagefolder")

    assert shop.files["train/j1.png"] == picture(1)
    assert (shop.dest / "train/j1.png").stat().st_nlink == 1


async def test_texts_are_no_imagefolder(shop: Shop):
    await adopt(shop.ledger, shop.output, [job(0)])
    await save(shop.ledger, shop.output, "j0", [("a.txt", "text/plain", b"words")])

    with pytest.raises(UsageError, match="--format jsonl takes any file"):
        await shop.export("imagefolder")


async def test_nothing_saved_is_nothing_to_export(shop: Shop):
    await adopt(shop.ledger, shop.output, [job(0)])

    with pytest.raises(UsageError, match="nothing is saved yet"):
        await shop.export("imagefolder")


def test_the_command_says_what_it_did_and_how_to_load_it(desk: Desk, api: Service):
    manifest = desk.manifest("a red fox", "a grey owl")
    desk.run("run", manifest, "--limit", "1")

    ended = desk.run("export", manifest, "dest")

    assert ended.status == 0, ended.words
    assert "1 file exported to dest as imagefolder" in ended.out
    assert "not exported: 1 job pending" in ended.out
    assert 'load_dataset("imagefolder", data_dir="dest")' in ended.out


def test_a_damaged_file_is_told_with_status_1(desk: Desk, api: Service):
    manifest = desk.manifest("a red fox")
    desk.run("run", manifest)
    (file,) = desk.output.glob("*.png")
    file.write_bytes(b"x" * file.stat().st_size)

    ended = desk.run("export", manifest, "dest")

    assert ended.status == 1
    assert f"warning: not exported: {file.name} has other bytes than were saved" in ended.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["animals.yaml", "dest"], "has no jobs of `animals` yet"),
        (["animals.yaml", "dest", "--paths"], "--paths is for --format parquet"),
        (["animals.yaml", "dest", "--shard-size", "big"], "`big` is no size like 500MB"),
        (["animals.yaml", "dest", "--shard-size", "0MB"], "is no size"),
        (["animals.yaml", "dest", "--test-split", "1"], "1.0 is not in the range"),
        (["nosuch", "dest"], "no file and no manifest `nosuch`"),
    ],
)
def test_what_cannot_be_exported_is_said_with_status_2(
    desk: Desk, api: Service, options: list[str], words: str
):
    desk.manifest("a red fox")

    ended = desk.run("export", *options)

    assert ended.status == 2
    assert words in ended.err
